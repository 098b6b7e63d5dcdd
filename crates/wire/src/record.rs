//! The fixed-size records that batches are made of.

use std::time::Duration;

use chariot_types::{Extent, Key};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An optional key: all zeroes stand for none (no hash is all zeroes).
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
struct MaybeKey([u8; Key::LEN]);

impl MaybeKey {
    fn new(key: Option<Key>) -> Self {
        Self(key.map_or([0; Key::LEN], |key| *key.as_bytes()))
    }

    fn get(self) -> Option<Key> {
        (self.0 != [0; Key::LEN]).then(|| Key::from_bytes(self.0))
    }
}

/// A duration in whole microseconds, as it travels.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A time to live as it travels: 0 stands for none.
pub fn time_to_live(micros: u64) -> Option<Duration> {
    (micros != 0).then(|| Duration::from_micros(micros))
}

/// An extent as it travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExtentRecord {
    offset: U64,
    len: U64,
}

impl From<Extent> for ExtentRecord {
    fn from(extent: Extent) -> Self {
        Self { offset: U64::new(extent.offset), len: U64::new(extent.len) }
    }
}

impl From<ExtentRecord> for Extent {
    fn from(record: ExtentRecord) -> Self {
        Self { offset: record.offset.get(), len: record.len.get() }
    }
}

/// A block whose bytes travel behind the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct InlineRecord {
    /// The block's key.
    pub key: Key,
    parent: MaybeKey,
    len: U64,
    time_to_live: U64,
}

impl InlineRecord {
    /// A record for a block of `len` bytes.
    pub fn new(key: Key, parent: Option<Key>, len: u64, ttl: Option<Duration>) -> Self {
        Self {
            key,
            parent: MaybeKey::new(parent),
            len: U64::new(len),
            time_to_live: U64::new(ttl.map_or(0, |ttl| micros(ttl).max(1))),
        }
    }

    /// The key of the block before this one in its prefix chain.
    pub fn parent(&self) -> Option<Key> {
        self.parent.get()
    }

    /// Bytes of the block.
    pub fn len(&self) -> u64 {
        self.len.get()
    }

    /// Whether the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long the block may live.
    pub fn time_to_live(&self) -> Option<Duration> {
        time_to_live(self.time_to_live.get())
    }
}

/// A block whose bytes already lie in room that was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PutRecord {
    /// What the block is.
    pub block: InlineRecord,
    extent: ExtentRecord,
}

impl PutRecord {
    /// A record for `block`, whose bytes lie at the start of `extent`.
    pub fn new(block: InlineRecord, extent: Extent) -> Self {
        Self { block, extent: extent.into() }
    }

    /// Where the bytes lie: the whole room of the block.
    pub fn extent(&self) -> Extent {
        self.extent.into()
    }
}

/// A growing block, whose bytes will be written to room that was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CreateRecord {
    slot: U64,
    /// What the block will be, and where.
    pub block: PutRecord,
}

impl CreateRecord {
    /// A record for a growing `block` that the client will call `slot`.
    pub fn new(slot: u64, block: PutRecord) -> Self {
        Self { slot: U64::new(slot), block }
    }

    /// The client's name for the block while it grows.
    pub fn slot(&self) -> u64 {
        self.slot.get()
    }
}

/// A growing block whose bytes will travel behind later messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CreateInlineRecord {
    slot: U64,
    /// What the block will be.
    pub block: InlineRecord,
}

impl CreateInlineRecord {
    /// A record for a growing `block` that the client will call `slot`.
    pub fn new(slot: u64, block: InlineRecord) -> Self {
        Self { slot: U64::new(slot), block }
    }

    /// The client's name for the block while it grows.
    pub fn slot(&self) -> u64 {
        self.slot.get()
    }
}

/// How far a growing block can be read from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SlotReadable {
    slot: U64,
    readable: U64,
}

impl SlotReadable {
    /// `slot` can be read up to `readable` bytes.
    pub fn new(slot: u64, readable: u64) -> Self {
        Self { slot: U64::new(slot), readable: U64::new(readable) }
    }

    /// The client's name for the block.
    pub fn slot(&self) -> u64 {
        self.slot.get()
    }

    /// Bytes that can be read.
    pub fn readable(&self) -> u64 {
        self.readable.get()
    }
}

/// What became of one key of a get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockState {
    /// No such block.
    Miss,
    /// The block can be read up to `readable` bytes and still grows.
    Growing {
        /// Bytes that can be read.
        readable: u64,
    },
    /// The block is whole.
    Sealed,
}

/// One key's part of the answer to a get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockRecord {
    state: U64,
    block: U64,
    extent: ExtentRecord,
    len: U64,
    readable: U64,
}

impl BlockRecord {
    /// The answer for a key that is not there.
    pub fn miss() -> Self {
        Self::new(BlockState::Miss, 0, Extent { offset: 0, len: 0 }, 0)
    }

    /// The answer for a block of `len` bytes in `extent`, pinned under the number `block`.
    pub fn new(state: BlockState, block: u64, extent: Extent, len: u64) -> Self {
        let (number, readable) = match state {
            BlockState::Miss => (0, 0),
            BlockState::Growing { readable } => (1, readable),
            BlockState::Sealed => (2, len),
        };
        Self {
            state: U64::new(number),
            block: U64::new(block),
            extent: extent.into(),
            len: U64::new(len),
            readable: U64::new(readable),
        }
    }

    /// What became of the key; any number that no worker sends counts as a miss.
    pub fn state(&self) -> BlockState {
        match self.state.get() {
            1 => BlockState::Growing { readable: self.readable.get() },
            2 => BlockState::Sealed,
            _ => BlockState::Miss,
        }
    }

    /// The number under which the block is pinned; 0 when it is not.
    pub fn block(&self) -> u64 {
        self.block.get()
    }

    /// Where the block lies in the arena.
    pub fn extent(&self) -> Extent {
        self.extent.into()
    }

    /// Bytes of the whole block.
    pub fn len(&self) -> u64 {
        self.len.get()
    }

    /// Whether the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a block that was watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It can be read up to this many bytes and still grows.
    Readable(u64),
    /// It is whole.
    Sealed,
    /// Its writer gave up or went; it will not grow further.
    Lost,
    /// The wait was over before anything changed.
    TimedOut,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ProgressRecord {
    state: U64,
    readable: U64,
}

impl From<Progress> for ProgressRecord {
    fn from(progress: Progress) -> Self {
        let (state, readable) = match progress {
            Progress::Readable(readable) => (1, readable),
            Progress::Sealed => (2, 0),
            Progress::Lost => (3, 0),
            Progress::TimedOut => (4, 0),
        };
        Self { state: U64::new(state), readable: U64::new(readable) }
    }
}

impl From<&ProgressRecord> for Progress {
    fn from(record: &ProgressRecord) -> Self {
        match record.state.get() {
            1 => Self::Readable(record.readable.get()),
            2 => Self::Sealed,
            4 => Self::TimedOut,
            _ => Self::Lost,
        }
    }
}
