//! What the pool answers. All of these are expected outcomes; what no honest client causes is a
//! [`Misuse`](crate::Misuse).

use std::time::Duration;

use chariot_types::{Extent, Key};

use crate::{BlockId, NamespaceId, Origin};

/// A grant that was not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoom {
    /// Not even an empty pool has that much.
    #[error("the pool holds `{capacity}` bytes: the block never fits")]
    NeverFits {
        /// Bytes in the pool.
        capacity: u64,
    },
    /// What could be evicted does not make enough room in one piece; [`Event::RoomFreed`](crate::Event::RoomFreed)
    /// follows when asking again may succeed.
    #[error("the pool is full of blocks that are pinned, being written, or granted")]
    Full,
}

/// What became of a put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutOutcome {
    /// The block can be found under its key.
    Stored,
    /// A sealed block was there before; the extent is free again, and no longer the owner's.
    AlreadyPresent,
}

/// What became of a create.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateOutcome {
    /// The block can be found under its key, with nothing to read yet.
    Growing,
    /// Another block has the key. The slot is open all the same, because its owner may be writing already: it wants a
    /// seal or an abandon, and a seal publishes it if the other block has meanwhile gone or is still not sealed.
    AlreadyPresent,
}

/// What became of a soft pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SoftPinOutcome {
    /// The block, and all that leads up to it, goes last.
    Pinned,
    /// There is no such block.
    Absent,
    /// Too much of the pool would be soft-pinned. Nothing was changed.
    NoShare {
        /// Bytes that may be.
        share: u64,
        /// Bytes that are.
        held: u64,
        /// Bytes that would be besides.
        more: u64,
    },
}

/// What is there under a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// Nothing.
    Miss,
    /// A block that is being written.
    Growing {
        /// Bytes that can be read by now.
        readable: u64,
        /// Bytes there will be.
        len: u64,
    },
    /// A complete block.
    Sealed {
        /// Its bytes.
        len: u64,
    },
}

/// How much of a list of keys is there, from its front and without a gap.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Prefix {
    /// Leading keys with sealed blocks.
    pub sealed: usize,
    /// Leading keys with sealed or growing blocks; never less than `sealed`.
    pub present: usize,
}

/// A block that stays where it is until it is unpinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// What to unpin.
    pub block: BlockId,
    /// Where its bytes are; at least `len` of them.
    pub extent: Extent,
    /// How many bytes the block has, or will have.
    pub len: u64,
    /// How many of them can be read now.
    pub readable: u64,
    /// Whether that is all, and for good.
    pub sealed: bool,
}

/// What a block is to whoever gets a copy of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Description {
    /// Its name.
    pub key: Key,
    /// The block before it in its prefix chain.
    pub parent: Option<Key>,
    /// How many bytes it has, or will have.
    pub len: u64,
    /// For how long it may still be found; of a growing one, from its sealing on.
    pub time_to_live: Option<Duration>,
    /// Whose it is.
    pub namespace: NamespaceId,
}

/// A block that was evicted and whose bytes stay until it is unpinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// What to unpin.
    pub id: BlockId,
    /// Where its bytes are; all of its room.
    pub extent: Extent,
    /// What it is.
    pub block: Description,
    /// Where it came from.
    pub origin: Origin,
}

/// How far a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It is being written.
    Growing {
        /// Bytes that can be read by now.
        readable: u64,
    },
    /// It is complete.
    Sealed,
    /// Its writer gave up or is gone: it will never be complete.
    Lost,
}
