//! [`PoolStats`]: what the pool holds and has done.

/// How many blocks, and how many bytes of the arena they take.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of the arena, rounding included.
    pub bytes: u64,
}

/// What the pool holds now and what it has done since it was made.
///
/// `capacity = free + granted + sealed.bytes + growing.bytes + detached.bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PoolStats {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that are nobody's.
    pub free: u64,
    /// The longest run of free bytes.
    pub largest_free_run: u64,
    /// Bytes granted to owners and not yet a block's.
    pub granted: u64,
    /// Blocks that are complete and can be found.
    pub sealed: Tally,
    /// Blocks that are being written and can be found.
    pub growing: Tally,
    /// Blocks that cannot be found, kept because someone still reads or writes them.
    pub detached: Tally,
    /// Blocks of any kind that someone has pinned.
    pub pinned: Tally,
    /// Blocks that are soft-pinned, with those that lead up to them.
    pub soft_pinned: Tally,
    /// Blocks evicted to make room, or because someone asked.
    pub evictions: u64,
    /// Blocks withdrawn because their time was over.
    pub expired: u64,
    /// Pins that found their block, those included that readers of a shared pool say they made without a call.
    pub hits: u64,
    /// Bytes of the blocks they found.
    pub hit_bytes: u64,
    /// Pins that did not.
    pub misses: u64,
    /// Blocks put or sealed, duplicates included.
    pub puts: u64,
    /// Bytes of those blocks.
    pub put_bytes: u64,
    /// Blocks put, created or sealed in vain: another one had the key.
    pub duplicates: u64,
}
