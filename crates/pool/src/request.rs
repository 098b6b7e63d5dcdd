//! What a client asks of the pool.

use std::time::Duration;

use chariot_types::{Extent, Key};
use serde::{Deserialize, Serialize};

use crate::{NamespaceId, SlotId};

/// Room that an owner would like to have ahead of need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantAsk {
    /// Fewer bytes are of no use: the largest block that must fit. Blocks are evicted for this many, not for more.
    pub min: u64,
    /// More bytes are not needed.
    pub want: u64,
}

/// What is so of all blocks that an owner writes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Terms {
    /// Whose they are.
    pub namespace: NamespaceId,
    /// Whence they are.
    pub origin: Origin,
}

/// Whence a block is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub enum Origin {
    /// From whoever computed it.
    #[default]
    Computed,
    /// From another worker, which can be asked again: goes first when room is needed.
    Copied,
}

/// A block whose bytes are all in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutRecord {
    /// Its name.
    pub key: Key,
    /// The block before it in its prefix chain, which is kept for as long as this one is.
    pub parent: Option<Key>,
    /// Where the bytes are: [`Extent::room_for`]`(len)` bytes cut by [`Extent::carve`] from a region that was granted
    /// to the owner.
    pub extent: Extent,
    /// How many bytes the block has.
    pub len: u64,
    /// For how long the block may be found, from now; `None` is until it is evicted.
    pub time_to_live: Option<Duration>,
}

/// A block that will be written piece by piece and may be read behind the writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateRecord {
    /// What the owner calls it until it is sealed.
    pub slot: SlotId,
    /// Its name.
    pub key: Key,
    /// As in [`PutRecord::parent`].
    pub parent: Option<Key>,
    /// As in [`PutRecord::extent`]: all the room that the block will take.
    pub extent: Extent,
    /// How many bytes the block will have.
    pub len: u64,
    /// For how long the block may be found, from its sealing.
    pub time_to_live: Option<Duration>,
    /// Who tells readers on the same host how far the block is.
    pub teller: Teller,
}

/// Who tells readers on the same host how far a growing block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Teller {
    /// Its writer, on the board that it shares with them, where it said so before the block was created.
    Writer,
    /// The pool.
    Pool,
}

/// Which blocks a reader can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinWhat {
    /// Complete ones only.
    Sealed,
    /// Growing ones as well, to follow behind the writer.
    Readable,
}
