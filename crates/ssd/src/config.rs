//! [`SpillConfig`]: what a spill is told.

use std::path::PathBuf;

/// What a spill is told.
#[derive(Clone, Debug)]
pub struct SpillConfig {
    /// The file. It is made if it is not there, in a folder that is.
    pub path: PathBuf,
    /// Bytes of the file, all allocated when it is made; rounded down to whole segments.
    pub capacity: u64,
    /// Bytes of blocks that may wait to be written; while so many do, what comes is dropped.
    pub queue: u64,
    /// How to read and write.
    pub engine: IoEngine,
}

impl SpillConfig {
    /// Bytes of blocks that may wait to be written, where the user says nothing: a tenth of a second of a fast disk.
    pub const USUAL_QUEUE: u64 = 256 << 20;

    /// A spill in `path` of `capacity` bytes, the rest as usual.
    pub fn new(path: impl Into<PathBuf>, capacity: u64) -> Self {
        Self { path: path.into(), capacity, queue: Self::USUAL_QUEUE, engine: IoEngine::Best }
    }
}

/// How to read and write.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum IoEngine {
    /// With io_uring where it works, else with threads.
    #[default]
    Best,
    /// With io_uring or not at all.
    Uring,
    /// With threads.
    Threads,
}
