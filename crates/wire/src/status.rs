//! [`Status`]: how a worker is, as JSON; not on any hot path, and open to new fields.

use serde::{Deserialize, Serialize};

/// How a worker is. Bytes are bytes, times are seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct Status {
    /// `host:port` that the worker serves.
    pub worker_address: String,
    /// The worker's release.
    pub version: String,
    /// The worker's process.
    pub pid: u32,
    /// Seconds since the worker started.
    pub uptime_s: f64,
    /// Bytes of the arena.
    pub capacity_bytes: u64,
    /// Bytes free for new blocks without evicting any.
    pub free_bytes: u64,
    /// Bytes granted to clients ahead of need.
    pub granted_bytes: u64,
    /// Bytes of the longest contiguous free range.
    pub largest_free_bytes: u64,
    /// Whole blocks, and their bytes.
    pub sealed_blocks: u64,
    /// Bytes of whole blocks.
    pub sealed_bytes: u64,
    /// Blocks still written.
    pub growing_blocks: u64,
    /// Blocks that a client reads at the moment.
    pub pinned_blocks: u64,
    /// Blocks withdrawn from the index that a client still reads or writes.
    pub detached_blocks: u64,
    /// Bytes of the arena whose pages have been touched ahead.
    pub touched_bytes: u64,
    /// Whether the kernel was asked for huge pages, and accepted.
    pub huge_pages: bool,
    /// Resident memory of the worker's process without the arena.
    pub resident_bytes: u64,
    /// Blocks put or sealed since the start.
    pub puts: u64,
    /// Bytes of them.
    pub put_bytes: u64,
    /// Blocks put that were there already.
    pub duplicates: u64,
    /// Keys found by gets.
    pub hits: u64,
    /// Bytes of them.
    pub hit_bytes: u64,
    /// Keys not found by gets.
    pub misses: u64,
    /// Blocks evicted for room.
    pub evictions: u64,
    /// Blocks whose time to live ended.
    pub expired: u64,
    /// Gets, watches and grants that wait at the moment.
    pub waiting: u64,
    /// Connections ended for breaking a rule of the conversation.
    pub misuses: u64,
    /// The clients connected.
    pub sessions: Vec<SessionStatus>,
    /// The directory of the worker's log.
    pub log_dir: String,
}

/// One client's connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct SessionStatus {
    /// What the client calls itself.
    pub name: String,
    /// The client's process, as it says.
    pub pid: u32,
    /// `unix` or `tcp`.
    pub transport: String,
    /// Seconds since it connected.
    pub connected_s: f64,
}
