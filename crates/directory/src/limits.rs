//! [`Limits`] of a directory, and [`Counts`] of what it holds.

/// How much others may make a directory keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Keys of one holder. What it announces beyond them is not remembered.
    pub keys_a_holder: u64,
    /// Keys that one asker may wait for at a time. Beyond them it is told nothing, and asks again when it likes.
    pub waits_an_asker: usize,
}

impl Default for Limits {
    /// As many keys as a worker with 10 TB of blocks of 64 KiB has, and waits for as many as come in 64 large look-ups.
    fn default() -> Self {
        Self { keys_a_holder: 160_000_000, waits_an_asker: 65_536 }
    }
}

/// What a directory holds now, and what its limits have kept out since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Keys and holders, each pair once.
    pub records: u64,
    /// Workers that have announced something.
    pub holders: usize,
    /// Keys that someone waits for, once for each look-up.
    pub waits: usize,
    /// Bytes of memory that the records take, the room they may grow into included.
    pub record_bytes: usize,
    /// Announcements of a key that were not remembered.
    pub refused_records: u64,
    /// Waits that were not enrolled.
    pub refused_waits: u64,
}
