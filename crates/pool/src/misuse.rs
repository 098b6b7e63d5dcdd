//! [`Misuse`]: what a client that keeps to the protocol never does.

use chariot_types::Extent;

use crate::{BlockId, SlotId};

/// A violation of the protocol. Nothing was changed by the call; the client's connection should be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misuse {
    /// The extent is not (or no longer) room of the owner's.
    #[error("bytes `{}` to +`{}` were not granted to this client, or not in one piece", extent.offset, extent.len)]
    NotGranted {
        /// What was given.
        extent: Extent,
    },
    /// The extent is not one that can be cut: empty, or not aligned.
    #[error("bytes `{}` to +`{}` are not aligned as room is", extent.offset, extent.len)]
    Misaligned {
        /// What was given.
        extent: Extent,
    },
    /// The extent is not the room that a block of that length takes.
    #[error("a block of `{len}` bytes does not take room of `{}` bytes", extent.len)]
    WrongRoom {
        /// What was given.
        extent: Extent,
        /// The block's length.
        len: u64,
    },
    /// The owner writes another block under that slot.
    #[error("slot `{}` is in use", slot.0)]
    SlotTaken {
        /// What was given.
        slot: SlotId,
    },
    /// The owner writes no block under that slot.
    #[error("slot `{}` is not in use", slot.0)]
    UnknownSlot {
        /// What was given.
        slot: SlotId,
    },
    /// More was declared readable than the block has, or less than before.
    #[error("`{readable}` bytes cannot be readable: `{before}` of `{len}` are")]
    WrongProgress {
        /// What was given.
        readable: u64,
        /// What was readable before.
        before: u64,
        /// The block's length.
        len: u64,
    },
    /// The owner has no pin on that block.
    #[error("block `{}` is not pinned by this client", block.as_u64())]
    NotPinned {
        /// What was given.
        block: BlockId,
    },
}
