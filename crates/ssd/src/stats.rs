//! [`SpillStats`]: what a spill holds and has done.

/// What a spill holds now, and what it has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SpillStats {
    /// Bytes of the file.
    pub capacity: u64,
    /// Blocks that can be found.
    pub blocks: u64,
    /// Bytes of those blocks.
    pub bytes: u64,
    /// Blocks that wait to be written, or are being written.
    pub coming: u64,
    /// Bytes of those that wait.
    pub queued: u64,
    /// Blocks written.
    pub stored: u64,
    /// Bytes of those blocks.
    pub stored_bytes: u64,
    /// Writes that those blocks took.
    pub writes: u64,
    /// Blocks that were there already.
    pub kept: u64,
    /// Blocks dropped, for whichever reason.
    pub dropped: u64,
    /// Blocks loaded.
    pub hits: u64,
    /// Bytes of those blocks.
    pub hit_bytes: u64,
    /// Blocks that were asked for and not loaded, for whichever reason.
    pub misses: u64,
    /// Blocks whose bytes were not those that were written.
    pub corrupt: u64,
    /// Loads whose time was over before the disk answered.
    pub late: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Blocks that went to make room for others.
    pub reclaimed: u64,
    /// Blocks removed because someone said so.
    pub removed: u64,
}
