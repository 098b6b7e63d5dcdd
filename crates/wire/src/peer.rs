//! [`PeerMessage`]: what two workers of a cluster say to each other.
//!
//! The frames are those of clients; the kinds are others, so that a worker tells from the first frame of a connection
//! who has dialled it. Whoever dials asks, whoever is dialled answers:
//!
//! ```text
//! dialler                                             dialled
//!   Hello { cluster, run, address, channel }   ->
//!                                              <-     Hello                          the same of the other side
//! on the control channel
//!   Announce [ key ... ] / Withdraw [ ... ]    ->                                    one way: what the dialler holds
//!   Lookup [ key ... ]                         ->
//!                                              <-     Holders [ run ... ]            one a key; zeroes for none
//!   Delete [ key ... ]                         ->
//!                                              <-     Deleted [ flag ... ]           one a key
//!   Ping                                       ->
//!                                              <-     Pong
//! on a data channel; the frame's id is the stream's
//!   Pull { key, reach, but, wait }             ->
//!                                              <-     Open { block }, (Bytes, Sum) ..., Seal | Lose
//!                                              <-     or Elsewhere { run }, or Miss
//!   Offer { block }, (Bytes, Sum) ..., Seal | Lose  ->
//!   Stop                                       <->     by who receives: it wants no more
//! ```
//!
//! Each `Bytes` continues where the one before ended. The `Sum` behind it says what the checksum of its payload is: so
//! whoever sends computes it while the bytes are on their way, and has them at hand. Behind the header of each frame are 8
//! bytes that it does not count, its checksum; and behind the body, before the payload, 8 more, the checksum of all of the
//! frame that came before. All are CRC-64/NVME, which is not computed here.

use chariot_types::{Key, NamespaceName, RunId};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{MAX_CHUNK, MAX_CLUSTER_NAME, MAX_WAIT_MICROS};
use crate::request::{bad, batch, fixed, text};
use crate::{Header, InlineRecord, WireError};

/// Version of what workers say to each other; both sides must speak the same one.
pub const PEER_VERSION: u32 = 1;

/// What a connection between two workers is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Channel {
    /// Who holds what.
    Control,
    /// Bytes of blocks; there are several, by number.
    Data(u8),
}

/// Who one side of a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerHello<'a> {
    /// What it speaks.
    pub version: u32,
    /// Which run of which worker it is.
    pub run: RunId,
    /// What the connection is for.
    pub channel: Channel,
    /// Its cluster.
    pub cluster: &'a str,
    /// Where it listens.
    pub address: &'a str,
}

/// How far a pull reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// What the asked worker holds, or knows another to hold.
    Owner,
    /// What the asked worker holds.
    Holder,
}

/// One block that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Its key.
    pub key: Key,
    /// Whether to look further than the asked worker.
    pub reach: Reach,
    /// A holder that has turned out not to have it.
    pub but: Option<RunId>,
    /// For how long to wait for it, in microseconds.
    pub wait: u64,
}

/// A block that another worker sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerBlock<'a> {
    /// What it is.
    pub block: InlineRecord,
    /// Whose it is, as its writer said.
    pub namespace: &'a str,
}

impl From<InlineRecord> for PeerBlock<'_> {
    /// A block of which nobody said whose it is.
    fn from(block: InlineRecord) -> Self {
        Self { block, namespace: NamespaceName::DEFAULT }
    }
}

/// What two workers say to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerMessage<'a> {
    /// The first words of each side.
    Hello(PeerHello<'a>),
    /// One way: the sender holds these, whole or growing.
    Announce(&'a [Key]),
    /// One way: the sender does not hold these any more.
    Withdraw(&'a [Key]),
    /// Who holds these? Answered by [`PeerMessage::Holders`].
    Lookup(&'a [Key]),
    /// To a lookup: a holder for each key; zeroes for none.
    Holders(&'a [RunId]),
    /// Withdraw these; answered by [`PeerMessage::Deleted`].
    Delete(&'a [Key]),
    /// To a delete: one byte a key, 1 where there was a block.
    Deleted(&'a [u8]),
    /// Say something, so that I know that you are there; answered by [`PeerMessage::Pong`].
    Ping,
    /// To a ping.
    Pong,
    /// Send this block.
    Pull(Pull),
    /// To a pull: another has the block.
    Elsewhere(RunId),
    /// To a pull: nobody has the block.
    Miss,
    /// To a pull: here is the block. Its bytes follow.
    Open(PeerBlock<'a>),
    /// Unasked: here is a block that you will want. Its bytes follow.
    Offer(PeerBlock<'a>),
    /// The next bytes of a block are behind this message.
    Bytes {
        /// How many came before.
        offset: u64,
    },
    /// The checksum of the last bytes of the block.
    Sum(u64),
    /// The block is whole.
    Seal,
    /// The block will never be whole.
    Lose,
    /// The receiver wants no more of the block, or no longer wants it at all.
    Stop,
}

/// The first kind of what peers say; clients' are all below.
const FIRST_KIND: u16 = 128;

mod kind {
    pub(super) const HELLO: u16 = 128;
    pub(super) const ANNOUNCE: u16 = 129;
    pub(super) const WITHDRAW: u16 = 130;
    pub(super) const LOOKUP: u16 = 131;
    pub(super) const HOLDERS: u16 = 132;
    pub(super) const DELETE: u16 = 133;
    pub(super) const DELETED: u16 = 134;
    pub(super) const PING: u16 = 135;
    pub(super) const PONG: u16 = 136;
    pub(super) const PULL: u16 = 137;
    pub(super) const ELSEWHERE: u16 = 138;
    pub(super) const MISS: u16 = 139;
    pub(super) const OPEN: u16 = 140;
    pub(super) const OFFER: u16 = 141;
    pub(super) const BYTES: u16 = 142;
    pub(super) const SUM: u16 = 143;
    pub(super) const SEAL: u16 = 144;
    pub(super) const LOSE: u16 = 145;
    pub(super) const STOP: u16 = 146;
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HelloHead {
    magic: [u8; 8],
    version: U32,
    channel: U16,
    cluster_len: U16,
    run: RunId,
}

const MAGIC: [u8; 8] = *b"chariotP";

/// The control channel's number; a data channel's is one more than its own.
const CONTROL: u16 = 0;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PullBody {
    key: Key,
    reach: U64,
    but: RunId,
    wait: U64,
}

/// Stands for no worker where a message has room for one.
pub const NO_RUN: RunId = RunId::from_bytes([0; RunId::LEN]);

impl<'a> PeerMessage<'a> {
    /// Whether a connection that begins with a message of this kind comes from a worker.
    pub fn is_kind(kind: u16) -> bool {
        kind >= FIRST_KIND
    }

    /// The number of the message's kind.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Announce(_) => kind::ANNOUNCE,
            Self::Withdraw(_) => kind::WITHDRAW,
            Self::Lookup(_) => kind::LOOKUP,
            Self::Holders(_) => kind::HOLDERS,
            Self::Delete(_) => kind::DELETE,
            Self::Deleted(_) => kind::DELETED,
            Self::Ping => kind::PING,
            Self::Pong => kind::PONG,
            Self::Pull(_) => kind::PULL,
            Self::Elsewhere(_) => kind::ELSEWHERE,
            Self::Miss => kind::MISS,
            Self::Open(_) => kind::OPEN,
            Self::Offer(_) => kind::OFFER,
            Self::Bytes { .. } => kind::BYTES,
            Self::Sum(_) => kind::SUM,
            Self::Seal => kind::SEAL,
            Self::Lose => kind::LOSE,
            Self::Stop => kind::STOP,
        }
    }

    pub(crate) fn encode_body(&self, body: &mut Vec<u8>) {
        let mut add = |bytes: &[u8]| body.extend_from_slice(bytes);
        match self {
            Self::Hello(hello) => {
                let channel = match hello.channel {
                    Channel::Control => CONTROL,
                    Channel::Data(number) => u16::from(number) + 1,
                };
                let cluster_len = u16::try_from(hello.cluster.len()).expect("names of clusters are limited");
                let head = HelloHead {
                    magic: MAGIC,
                    version: hello.version.into(),
                    channel: channel.into(),
                    cluster_len: cluster_len.into(),
                    run: hello.run,
                };
                add(head.as_bytes());
                add(hello.cluster.as_bytes());
                add(hello.address.as_bytes());
            }
            Self::Announce(keys) | Self::Withdraw(keys) | Self::Lookup(keys) | Self::Delete(keys) => {
                add(keys.as_bytes());
            }
            Self::Holders(runs) => add(runs.as_bytes()),
            Self::Deleted(flags) => add(flags),
            Self::Pull(pull) => {
                let reach = match pull.reach {
                    Reach::Owner => 0,
                    Reach::Holder => 1,
                };
                let but = pull.but.unwrap_or(NO_RUN);
                add(PullBody { key: pull.key, reach: U64::new(reach), but, wait: pull.wait.into() }.as_bytes());
            }
            Self::Elsewhere(run) => add(run.as_bytes()),
            Self::Open(PeerBlock { block, namespace }) | Self::Offer(PeerBlock { block, namespace }) => {
                add(block.as_bytes());
                add(namespace.as_bytes());
            }
            Self::Bytes { offset: number } | Self::Sum(number) => add(U64::new(*number).as_bytes()),
            Self::Ping | Self::Pong | Self::Miss | Self::Seal | Self::Lose | Self::Stop => {}
        }
    }

    /// Reads the body of a message, and checks that its header fits it. Keys, streams and lengths of blocks are for the
    /// worker to check.
    pub fn decode(header: &Header, body: &'a [u8]) -> Result<Self, WireError> {
        let most_payload = if header.kind == kind::BYTES { MAX_CHUNK } else { 0 };
        if header.payload > most_payload {
            return Err(WireError::BadHeader { body: body.len() as u64, payload: header.payload });
        }
        let empty = |what, message| fixed::<()>(what, body).map(|()| message);
        Ok(match header.kind {
            kind::HELLO => Self::Hello(decode_hello(body)?),
            kind::ANNOUNCE => Self::Announce(batch("announce", body)?),
            kind::WITHDRAW => Self::Withdraw(batch("withdraw", body)?),
            kind::LOOKUP => Self::Lookup(batch("lookup", body)?),
            kind::HOLDERS => Self::Holders(batch("holders", body)?),
            kind::DELETE => Self::Delete(batch("delete", body)?),
            kind::DELETED => Self::Deleted(batch("deleted", body)?),
            kind::PING => empty("ping", Self::Ping)?,
            kind::PONG => empty("pong", Self::Pong)?,
            kind::PULL => Self::Pull(decode_pull(body)?),
            kind::ELSEWHERE => Self::Elsewhere(*fixed("elsewhere", body)?),
            kind::MISS => empty("miss", Self::Miss)?,
            kind::OPEN => Self::Open(decode_block("open", body)?),
            kind::OFFER => Self::Offer(decode_block("offer", body)?),
            kind::BYTES => Self::Bytes { offset: fixed::<U64>("bytes", body)?.get() },
            kind::SUM => Self::Sum(fixed::<U64>("sum", body)?.get()),
            kind::SEAL => empty("seal", Self::Seal)?,
            kind::LOSE => empty("lose", Self::Lose)?,
            kind::STOP => empty("stop", Self::Stop)?,
            kind => return Err(WireError::UnknownKind { kind }),
        })
    }
}

fn decode_block<'a>(what: &'static str, body: &'a [u8]) -> Result<PeerBlock<'a>, WireError> {
    let (block, namespace) = InlineRecord::read_from_prefix(body).map_err(|_| bad(what, body))?;
    Ok(PeerBlock { block, namespace: text(what, namespace)? })
}

fn decode_hello(body: &[u8]) -> Result<PeerHello<'_>, WireError> {
    let bad = || bad("peer hello", body);
    let (head, rest) = HelloHead::ref_from_prefix(body).map_err(|_| bad())?;
    let (cluster, address) = rest.split_at_checked(head.cluster_len.get().into()).ok_or_else(bad)?;
    if head.magic != MAGIC || cluster.len() > MAX_CLUSTER_NAME {
        return Err(bad());
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| bad());
    let channel = match head.channel.get() {
        CONTROL => Channel::Control,
        number => Channel::Data(u8::try_from(number - 1).map_err(|_| bad())?),
    };
    let version = head.version.get();
    Ok(PeerHello { version, run: head.run, channel, cluster: text(cluster)?, address: text(address)? })
}

fn decode_pull(body: &[u8]) -> Result<Pull, WireError> {
    let pull: &PullBody = fixed("pull", body)?;
    let reach = match pull.reach.get() {
        0 => Reach::Owner,
        1 => Reach::Holder,
        _ => return Err(bad("pull", body)),
    };
    let wait = pull.wait.get();
    if wait > MAX_WAIT_MICROS {
        return Err(bad("pull", body));
    }
    Ok(Pull { key: pull.key, reach, but: (pull.but != NO_RUN).then_some(pull.but), wait })
}
