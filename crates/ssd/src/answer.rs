//! What a spill answers. All of these are expected outcomes.

use std::time::Duration;

use chariot_types::Key;

use crate::Block;
use crate::memory::Memory;

/// What the file was when it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// Not there, or empty.
    New,
    /// This version's: its blocks are back.
    Continued,
    /// Another version's: begun anew, because what it held can be computed again.
    OtherVersion {
        /// The other version.
        version: u32,
    },
    /// Ours once, and unreadable at its very start: begun anew.
    Damaged,
    /// Divided in a way that does not go with the capacity asked for: begun anew.
    OtherDivision,
}

/// What was found in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// What the file was.
    pub beginning: Beginning,
    /// Blocks that can be found again.
    pub blocks: u64,
    /// Bytes of those blocks.
    pub bytes: u64,
    /// How long it took to find them.
    pub took: Duration,
    /// How the file is read and written.
    pub engine: &'static str,
}

/// A block that the file holds, or is about to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its bytes.
    pub len: u64,
}

/// What became of a block that was to be stored. The memory comes back where it is not used.
#[must_use = "memory that comes back is to be let go where that is safe"]
#[derive(Debug)]
pub enum Stored {
    /// It will be written, and its memory let go after that.
    Accepted,
    /// It is there already, or on its way, and will be for long.
    Kept {
        /// The block's memory.
        memory: Memory,
    },
    /// It is not written.
    Dropped {
        /// Why.
        why: Refusal,
        /// The block's memory.
        memory: Memory,
    },
}

/// Why a block is not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The disk does not keep up with what is waiting.
    Busy,
    /// It does not fit into a segment.
    TooLong,
    /// Its time is over.
    Expired,
    /// The disk fails or does not answer.
    Unwell,
    /// The spill is being closed.
    Closing,
}

/// A block that is wanted, and room for it.
#[derive(Debug)]
pub struct Wanted {
    /// The block.
    pub key: Key,
    /// At least the block's length; rounded up to whole pages, and beginning at one, the bytes come straight from the
    /// disk, and those behind the block's end have any value.
    pub memory: Memory,
}

/// What became of a load.
#[derive(Debug)]
pub enum Loaded {
    /// The block's bytes are at the start of the memory, and are those that were stored.
    Hit {
        /// The block.
        block: Block,
        /// Where its bytes are.
        memory: Memory,
    },
    /// It is not there, or no more, or it cannot be read. The memory holds any bytes.
    Miss {
        /// The memory.
        memory: Memory,
    },
    /// The disk did not answer in time. It may still write to the memory, which is let go after that.
    Late,
}

/// How a spill ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// All that was accepted is written.
    Clean,
    /// The time was over before: what was waiting is dropped.
    Unfinished,
}
