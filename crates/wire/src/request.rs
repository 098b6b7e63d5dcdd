//! [`Request`]: what a client says.

use chariot_types::{Extent, Key};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::PROTOCOL_VERSION;
use crate::limits::{MAX_BATCH, MAX_NAME, MAX_TOKEN, MAX_WAIT_MICROS};
use crate::record::ExtentRecord;
use crate::{CreateInlineRecord, CreateRecord, InlineRecord, PutRecord, SlotReadable, WireError};

/// The first word of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// The protocol that the client speaks.
    pub version: u32,
    /// The client's process.
    pub pid: u32,
    /// What the client calls itself, for `dscli status`. Of another version, all that it says, which that one understands.
    pub name: &'a [u8],
    /// The secret by which it shows whose it is, where a worker has tenants; empty for none.
    pub token: &'a [u8],
}

/// Which blocks a get is content with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GetWhat {
    /// Whole blocks only; one that still grows is waited for, or a miss.
    Sealed,
    /// Growing ones too.
    Readable,
}

/// Which blocks are evicted on demand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EvictWhat<'a> {
    /// These, whether others follow them or read them.
    Keys(&'a [Key]),
    /// All of a namespace that nobody reads or writes.
    Namespace(&'a str),
    /// All that nobody reads or writes.
    All,
    /// As many as it takes until so many bytes are free.
    UntilFree(u64),
}

/// What a client says. Waits are in microseconds from the request's arrival, at most
/// [`MAX_WAIT_MICROS`], and 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// Opens the conversation; answered by [`Reply::Welcome`](crate::Reply::Welcome).
    Hello(Hello<'a>),
    /// One way: whose the blocks are that this client puts and creates from now on. Without, they are nobody's in
    /// particular.
    Namespace(&'a str),
    /// Which of these keys are sealed? Answered by [`Reply::Found`](crate::Reply::Found).
    Exists(&'a [Key]),
    /// How many of these keys, from the first on, are there? Answered by
    /// [`Reply::PrefixIs`](crate::Reply::PrefixIs).
    LongestPrefix(&'a [Key]),
    /// Pin these blocks and say where they are; answered by [`Reply::Blocks`](crate::Reply::Blocks). Over TCP the
    /// readable bytes of all blocks follow as payload, and sealed blocks are not left pinned.
    Get {
        /// Which blocks will do.
        what: GetWhat,
        /// How long to wait for blocks that are not there yet.
        wait: u64,
        /// The blocks' keys.
        keys: &'a [Key],
    },
    /// Tell when the pinned `block` can be read beyond `beyond` bytes; answered by
    /// [`Reply::Progress`](crate::Reply::Progress). Over TCP the bytes from `beyond` on follow as payload.
    Watch {
        /// The number under which the block is pinned.
        block: u64,
        /// Bytes already read.
        beyond: u64,
        /// How long to wait.
        wait: u64,
    },
    /// One way: the client no longer reads these blocks. Of none: it let go of one that it had pinned without a message,
    /// and saw that room is wanted.
    Release(&'a [U64]),
    /// One way: the client no longer wants the answer to this request, which waits.
    Cancel {
        /// The request's id.
        request: u64,
    },
    /// Room for bytes to come; answered by [`Reply::Granted`](crate::Reply::Granted).
    Grant {
        /// Fewer contiguous bytes will not do.
        min: u64,
        /// More are of no use.
        want: u64,
        /// How long to wait for room.
        wait: u64,
    },
    /// One way: room that was granted and is not needed.
    GiveBack(Extent),
    /// One way: whole blocks, their bytes already in granted room.
    Put(&'a [PutRecord]),
    /// One way: growing blocks in granted room.
    Create(&'a [CreateRecord]),
    /// One way: growing blocks can be read further. Over TCP, one record, and the bytes from the block's readable
    /// length up to the new one follow as payload.
    Advance(&'a [SlotReadable]),
    /// One way: growing blocks are whole.
    Seal(&'a [U64]),
    /// One way: growing blocks will never be whole.
    Abandon(&'a [U64]),
    /// One way: carry these blocks to another worker of the cluster, whole or as they grow, ahead of need. What is not
    /// here is passed over.
    Forward {
        /// The other worker's address, as it registered.
        to: &'a str,
        /// The blocks' keys.
        keys: &'a [Key],
    },
    /// Answered by [`Reply::Done`](crate::Reply::Done) once everything one-way before it has been done.
    Flush,
    /// Withdraws these keys; answered by [`Reply::Done`](crate::Reply::Done) with how many there were.
    Delete(&'a [Key]),
    /// TCP only: whole blocks, their bytes behind the message in this order; answered by
    /// [`Reply::Done`](crate::Reply::Done).
    PutInline {
        /// How long to wait for room.
        wait: u64,
        /// The blocks.
        blocks: &'a [InlineRecord],
    },
    /// TCP only: growing blocks whose bytes will follow; answered by [`Reply::Done`](crate::Reply::Done).
    CreateInline {
        /// How long to wait for room.
        wait: u64,
        /// The blocks.
        blocks: &'a [CreateInlineRecord],
    },
    /// Keep these blocks, and what leads up to each in its chain, until all others have been evicted; answered by
    /// [`Reply::Done`](crate::Reply::Done) with how many of them there were.
    SoftPin {
        /// For how long, in microseconds; 0 until they are unpinned.
        time: u64,
        /// The blocks' keys.
        keys: &'a [Key],
    },
    /// Ends soft pins of these; answered by [`Reply::Done`](crate::Reply::Done) with how many there were.
    SoftUnpin(&'a [Key]),
    /// Evicts on this worker; answered by [`Reply::Done`](crate::Reply::Done) with how many blocks went.
    Evict(EvictWhat<'a>),
    /// How the worker is; answered by [`Reply::StatusIs`](crate::Reply::StatusIs).
    Status,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HelloHead {
    magic: [u8; 8],
    version: U32,
    pid: U32,
}

/// What every conversation begins with, so that a stray connection is told apart at once.
const MAGIC: [u8; 8] = *b"chariot\0";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct GetHead {
    what: U64,
    wait: U64,
}

mod kind {
    pub(super) const HELLO: u16 = 1;
    pub(super) const EXISTS: u16 = 2;
    pub(super) const LONGEST_PREFIX: u16 = 3;
    pub(super) const GET: u16 = 4;
    pub(super) const WATCH: u16 = 5;
    pub(super) const RELEASE: u16 = 6;
    pub(super) const CANCEL: u16 = 7;
    pub(super) const GRANT: u16 = 8;
    pub(super) const GIVE_BACK: u16 = 9;
    pub(super) const PUT: u16 = 10;
    pub(super) const CREATE: u16 = 11;
    pub(super) const ADVANCE: u16 = 12;
    pub(super) const SEAL: u16 = 13;
    pub(super) const ABANDON: u16 = 14;
    pub(super) const FLUSH: u16 = 15;
    pub(super) const DELETE: u16 = 16;
    pub(super) const PUT_INLINE: u16 = 17;
    pub(super) const CREATE_INLINE: u16 = 18;
    pub(super) const STATUS: u16 = 19;
    pub(super) const FORWARD: u16 = 20;
    pub(super) const NAMESPACE: u16 = 21;
    pub(super) const SOFT_PIN: u16 = 22;
    pub(super) const SOFT_UNPIN: u16 = 23;
    pub(super) const EVICT_KEYS: u16 = 24;
    pub(super) const EVICT_NAMESPACE: u16 = 25;
    pub(super) const EVICT_ALL: u16 = 26;
    pub(super) const EVICT_UNTIL_FREE: u16 = 27;
}

impl<'a> Request<'a> {
    /// The number of the request's kind.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Exists(_) => kind::EXISTS,
            Self::LongestPrefix(_) => kind::LONGEST_PREFIX,
            Self::Get { .. } => kind::GET,
            Self::Watch { .. } => kind::WATCH,
            Self::Release(_) => kind::RELEASE,
            Self::Cancel { .. } => kind::CANCEL,
            Self::Grant { .. } => kind::GRANT,
            Self::GiveBack(_) => kind::GIVE_BACK,
            Self::Put(_) => kind::PUT,
            Self::Create(_) => kind::CREATE,
            Self::Advance(_) => kind::ADVANCE,
            Self::Seal(_) => kind::SEAL,
            Self::Abandon(_) => kind::ABANDON,
            Self::Flush => kind::FLUSH,
            Self::Delete(_) => kind::DELETE,
            Self::PutInline { .. } => kind::PUT_INLINE,
            Self::CreateInline { .. } => kind::CREATE_INLINE,
            Self::Status => kind::STATUS,
            Self::Forward { .. } => kind::FORWARD,
            Self::Namespace(_) => kind::NAMESPACE,
            Self::SoftPin { .. } => kind::SOFT_PIN,
            Self::SoftUnpin(_) => kind::SOFT_UNPIN,
            Self::Evict(EvictWhat::Keys(_)) => kind::EVICT_KEYS,
            Self::Evict(EvictWhat::Namespace(_)) => kind::EVICT_NAMESPACE,
            Self::Evict(EvictWhat::All) => kind::EVICT_ALL,
            Self::Evict(EvictWhat::UntilFree(_)) => kind::EVICT_UNTIL_FREE,
        }
    }

    pub(crate) fn encode_body(&self, body: &mut Vec<u8>) {
        let mut add = |bytes: &[u8]| body.extend_from_slice(bytes);
        match self {
            Self::Hello(hello) => {
                let head = HelloHead { magic: MAGIC, version: hello.version.into(), pid: hello.pid.into() };
                add(head.as_bytes());
                if hello.version == PROTOCOL_VERSION {
                    add(U16::new(u16::try_from(hello.token.len()).expect("a token is shorter than that")).as_bytes());
                    add(hello.token);
                }
                add(hello.name);
            }
            Self::Exists(keys) | Self::LongestPrefix(keys) | Self::Delete(keys) => add(keys.as_bytes()),
            Self::SoftUnpin(keys) | Self::Evict(EvictWhat::Keys(keys)) => add(keys.as_bytes()),
            Self::Namespace(name) | Self::Evict(EvictWhat::Namespace(name)) => add(name.as_bytes()),
            Self::Evict(EvictWhat::UntilFree(bytes)) => add(U64::new(*bytes).as_bytes()),
            Self::SoftPin { time, keys } => {
                add(U64::new(*time).as_bytes());
                add(keys.as_bytes());
            }
            Self::Get { what, wait, keys } => {
                let what = match what {
                    GetWhat::Sealed => 0,
                    GetWhat::Readable => 1,
                };
                add(GetHead { what: U64::new(what), wait: U64::new(*wait) }.as_bytes());
                add(keys.as_bytes());
            }
            Self::Watch { block, beyond, wait } => add([*block, *beyond, *wait].map(U64::new).as_bytes()),
            Self::Release(numbers) | Self::Seal(numbers) | Self::Abandon(numbers) => add(numbers.as_bytes()),
            Self::Cancel { request } => add(U64::new(*request).as_bytes()),
            Self::Grant { min, want, wait } => add([*min, *want, *wait].map(U64::new).as_bytes()),
            Self::GiveBack(extent) => add(ExtentRecord::from(*extent).as_bytes()),
            Self::Put(blocks) => add(blocks.as_bytes()),
            Self::Create(blocks) => add(blocks.as_bytes()),
            Self::Advance(slots) => add(slots.as_bytes()),
            Self::Flush | Self::Status | Self::Evict(EvictWhat::All) => {}
            Self::Forward { to, keys } => {
                add(U16::new(u16::try_from(to.len()).expect("an address is shorter than that")).as_bytes());
                add(to.as_bytes());
                add(keys.as_bytes());
            }
            Self::PutInline { wait, blocks } => {
                add(U64::new(*wait).as_bytes());
                add(blocks.as_bytes());
            }
            Self::CreateInline { wait, blocks } => {
                add(U64::new(*wait).as_bytes());
                add(blocks.as_bytes());
            }
        }
    }

    /// Reads the body of a request of this kind. Counts, sizes and waits are checked; extents, slots and block
    /// numbers are for the worker to check, which knows what it granted.
    pub fn decode(kind: u16, body: &'a [u8]) -> Result<Self, WireError> {
        Ok(match kind {
            kind::HELLO => Self::Hello(decode_hello(body)?),
            kind::EXISTS => Self::Exists(batch("exists", body)?),
            kind::LONGEST_PREFIX => Self::LongestPrefix(batch("longest prefix", body)?),
            kind::GET => {
                let bad = || bad("get", body);
                let (head, keys) = GetHead::ref_from_prefix(body).map_err(|_| bad())?;
                let what = match head.what.get() {
                    0 => GetWhat::Sealed,
                    1 => GetWhat::Readable,
                    _ => return Err(bad()),
                };
                Self::Get { what, wait: checked_wait("get", head.wait, body)?, keys: batch("get", keys)? }
            }
            kind::WATCH => {
                let [block, beyond, wait] = fixed::<[U64; 3]>("watch", body)?;
                Self::Watch { block: block.get(), beyond: beyond.get(), wait: checked_wait("watch", *wait, body)? }
            }
            kind::RELEASE => Self::Release(batch("release", body)?),
            kind::CANCEL => Self::Cancel { request: fixed::<U64>("cancel", body)?.get() },
            kind::GRANT => {
                let [min, want, wait] = fixed::<[U64; 3]>("grant", body)?;
                let wait = checked_wait("grant", *wait, body)?;
                Self::Grant { min: min.get(), want: want.get(), wait }
            }
            kind::GIVE_BACK => Self::GiveBack((*fixed::<ExtentRecord>("give back", body)?).into()),
            kind::PUT => Self::Put(batch("put", body)?),
            kind::CREATE => Self::Create(batch("create", body)?),
            kind::ADVANCE => Self::Advance(batch("advance", body)?),
            kind::SEAL => Self::Seal(batch("seal", body)?),
            kind::ABANDON => Self::Abandon(batch("abandon", body)?),
            kind::FLUSH => fixed::<()>("flush", body).map(|()| Self::Flush)?,
            kind::DELETE => Self::Delete(batch("delete", body)?),
            kind::PUT_INLINE => {
                let (wait, blocks) = U64::ref_from_prefix(body).map_err(|_| bad("put inline", body))?;
                Self::PutInline { wait: checked_wait("put inline", *wait, body)?, blocks: batch("put inline", blocks)? }
            }
            kind::CREATE_INLINE => {
                let (wait, blocks) = U64::ref_from_prefix(body).map_err(|_| bad("create inline", body))?;
                Self::CreateInline {
                    wait: checked_wait("create inline", *wait, body)?,
                    blocks: batch("create inline", blocks)?,
                }
            }
            kind::STATUS => fixed::<()>("status", body).map(|()| Self::Status)?,
            kind::FORWARD => {
                let (len, rest) = U16::ref_from_prefix(body).map_err(|_| bad("forward", body))?;
                let (to, keys) = rest.split_at_checked(len.get().into()).ok_or_else(|| bad("forward", body))?;
                let to = std::str::from_utf8(to).map_err(|_| bad("forward", body))?;
                Self::Forward { to, keys: batch("forward", keys)? }
            }
            kind::NAMESPACE => Self::Namespace(text("namespace", body)?),
            kind::SOFT_PIN => {
                let (time, keys) = U64::ref_from_prefix(body).map_err(|_| bad("soft pin", body))?;
                Self::SoftPin { time: time.get(), keys: batch("soft pin", keys)? }
            }
            kind::SOFT_UNPIN => Self::SoftUnpin(batch("soft unpin", body)?),
            kind::EVICT_KEYS => Self::Evict(EvictWhat::Keys(batch("evict keys", body)?)),
            kind::EVICT_NAMESPACE => Self::Evict(EvictWhat::Namespace(text("evict namespace", body)?)),
            kind::EVICT_ALL => fixed::<()>("evict all", body).map(|()| Self::Evict(EvictWhat::All))?,
            kind::EVICT_UNTIL_FREE => Self::Evict(EvictWhat::UntilFree(fixed::<U64>("evict until free", body)?.get())),
            kind => return Err(WireError::UnknownKind { kind }),
        })
    }
}

pub(crate) fn text<'a>(what: &'static str, body: &'a [u8]) -> Result<&'a str, WireError> {
    if body.len() > MAX_NAME {
        return Err(bad(what, body));
    }
    std::str::from_utf8(body).map_err(|_| bad(what, body))
}

fn decode_hello(body: &[u8]) -> Result<Hello<'_>, WireError> {
    let refused = || bad("hello", body);
    let (head, rest) = HelloHead::ref_from_prefix(body).map_err(|_| refused())?;
    if head.magic != MAGIC {
        return Err(refused());
    }
    let (version, pid) = (head.version.get(), head.pid.get());
    if version != PROTOCOL_VERSION {
        return Ok(Hello { version, pid, name: rest, token: b"" });
    }
    let (len, rest) = U16::ref_from_prefix(rest).map_err(|_| refused())?;
    let (token, name) = rest.split_at_checked(len.get().into()).ok_or_else(refused)?;
    if token.len() > MAX_TOKEN || name.len() > MAX_NAME {
        return Err(refused());
    }
    Ok(Hello { version, pid, name, token })
}

fn checked_wait(what: &'static str, wait: U64, body: &[u8]) -> Result<u64, WireError> {
    if wait.get() <= MAX_WAIT_MICROS { Ok(wait.get()) } else { Err(bad(what, body)) }
}

pub(crate) fn bad(what: &'static str, body: &[u8]) -> WireError {
    WireError::BadBody { what, len: body.len() }
}

pub(crate) fn fixed<'a, T>(what: &'static str, body: &'a [u8]) -> Result<&'a T, WireError>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    T::ref_from_bytes(body).map_err(|_| bad(what, body))
}

pub(crate) fn batch<'a, T>(what: &'static str, body: &'a [u8]) -> Result<&'a [T], WireError>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    let entries = <[T]>::ref_from_bytes(body).map_err(|_| bad(what, body))?;
    if entries.len() > MAX_BATCH {
        return Err(WireError::TooMany { what, count: entries.len() });
    }
    Ok(entries)
}
