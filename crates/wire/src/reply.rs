//! [`Reply`]: what a worker answers.

use chariot_types::Extent;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::record::{ExtentRecord, ProgressRecord};
use crate::request::{bad, batch, fixed};
use crate::{BlockRecord, Progress, WireError};

/// Who the worker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome<'a> {
    /// The protocol that the worker speaks.
    pub version: u32,
    /// The worker's process.
    pub pid: u32,
    /// This run of the worker: random, and the same on all its sockets.
    pub run: [u8; 16],
    /// Bytes of the arena.
    pub arena: u64,
    /// Over TCP, the path of the worker's Unix socket. Over that socket, empty: the arena, the index
    /// and the client's pins come with this message.
    pub local_path: &'a [u8],
}

/// Why a request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The pool is full of what cannot be evicted; it may have room later.
    Full,
    /// The pool is smaller than what was asked for.
    NeverFits,
    /// The client broke a rule of the conversation; the connection ends.
    Misuse,
    /// A limit of the worker is reached.
    TooMany,
    /// The worker is about to end.
    Draining,
    /// The two speak different versions of the protocol.
    Version,
    /// The worker has tenants, and the client is none of theirs.
    Stranger,
    /// The worker goes on in another process, with all its blocks: whoever connects again finds it there.
    Moved,
}

/// What a worker answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply<'a> {
    /// To a hello.
    Welcome(Welcome<'a>),
    /// To an exists: one byte a key, 1 for a sealed block.
    Found(&'a [u8]),
    /// To a longest prefix: leading keys that are sealed, and leading keys that are sealed or growing.
    PrefixIs {
        /// Leading keys that are sealed.
        sealed: u64,
        /// Leading keys that are sealed or growing.
        present: u64,
    },
    /// To a get: one record a key.
    Blocks(&'a [BlockRecord]),
    /// To a watch.
    Progress(Progress),
    /// To a grant.
    Granted(Extent),
    /// To what has no other answer; `count` is what the request says it is.
    Done {
        /// How many.
        count: u64,
    },
    /// To a status: JSON of [`Status`](crate::Status).
    StatusIs(&'a [u8]),
    /// To anything: it was not carried out.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Why, in words for a person.
        text: &'a str,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WelcomeHead {
    version: U32,
    pid: U32,
    run: [u8; 16],
    arena: U64,
}

mod kind {
    pub(super) const WELCOME: u16 = 101;
    pub(super) const FOUND: u16 = 102;
    pub(super) const PREFIX_IS: u16 = 103;
    pub(super) const BLOCKS: u16 = 104;
    pub(super) const PROGRESS: u16 = 105;
    pub(super) const GRANTED: u16 = 106;
    pub(super) const DONE: u16 = 107;
    pub(super) const STATUS_IS: u16 = 108;
    pub(super) const REFUSED: u16 = 109;
}

const REFUSALS: [Refusal; 8] = [
    Refusal::Full,
    Refusal::NeverFits,
    Refusal::Misuse,
    Refusal::TooMany,
    Refusal::Draining,
    Refusal::Version,
    Refusal::Stranger,
    Refusal::Moved,
];

impl<'a> Reply<'a> {
    /// The number of the reply's kind.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Welcome(_) => kind::WELCOME,
            Self::Found(_) => kind::FOUND,
            Self::PrefixIs { .. } => kind::PREFIX_IS,
            Self::Blocks(_) => kind::BLOCKS,
            Self::Progress(_) => kind::PROGRESS,
            Self::Granted(_) => kind::GRANTED,
            Self::Done { .. } => kind::DONE,
            Self::StatusIs(_) => kind::STATUS_IS,
            Self::Refused { .. } => kind::REFUSED,
        }
    }

    pub(crate) fn encode_body(&self, body: &mut Vec<u8>) {
        let mut add = |bytes: &[u8]| body.extend_from_slice(bytes);
        match self {
            Self::Welcome(welcome) => {
                let head = WelcomeHead {
                    version: welcome.version.into(),
                    pid: welcome.pid.into(),
                    run: welcome.run,
                    arena: welcome.arena.into(),
                };
                add(head.as_bytes());
                add(welcome.local_path);
            }
            Self::Found(flags) => add(flags),
            Self::PrefixIs { sealed, present } => add([*sealed, *present].map(U64::new).as_bytes()),
            Self::Blocks(blocks) => add(blocks.as_bytes()),
            Self::Progress(progress) => add(ProgressRecord::from(*progress).as_bytes()),
            Self::Granted(extent) => add(ExtentRecord::from(*extent).as_bytes()),
            Self::Done { count } => add(U64::new(*count).as_bytes()),
            Self::StatusIs(json) => add(json),
            Self::Refused { refusal, text } => {
                let number = REFUSALS.iter().position(|known| known == refusal).expect("every refusal is listed");
                add(&[number as u8]);
                add(text.as_bytes());
            }
        }
    }

    /// Reads the body of a reply of this kind.
    pub fn decode(kind: u16, body: &'a [u8]) -> Result<Self, WireError> {
        Ok(match kind {
            kind::WELCOME => {
                let (head, local_path) = WelcomeHead::ref_from_prefix(body).map_err(|_| bad("welcome", body))?;
                Self::Welcome(Welcome {
                    version: head.version.get(),
                    pid: head.pid.get(),
                    run: head.run,
                    arena: head.arena.get(),
                    local_path,
                })
            }
            kind::FOUND => Self::Found(batch("found", body)?),
            kind::PREFIX_IS => {
                let [sealed, present] = fixed::<[U64; 2]>("prefix is", body)?;
                Self::PrefixIs { sealed: sealed.get(), present: present.get() }
            }
            kind::BLOCKS => Self::Blocks(batch("blocks", body)?),
            kind::PROGRESS => Self::Progress(fixed::<ProgressRecord>("progress", body)?.into()),
            kind::GRANTED => Self::Granted((*fixed::<ExtentRecord>("granted", body)?).into()),
            kind::DONE => Self::Done { count: fixed::<U64>("done", body)?.get() },
            kind::STATUS_IS => Self::StatusIs(body),
            kind::REFUSED => {
                let (number, text) = body.split_first().ok_or_else(|| bad("refused", body))?;
                let refusal = *REFUSALS.get(usize::from(*number)).ok_or_else(|| bad("refused", body))?;
                let text = std::str::from_utf8(text).map_err(|_| bad("refused", body))?;
                Self::Refused { refusal, text }
            }
            kind => return Err(WireError::UnknownKind { kind }),
        })
    }
}
