//! [`Status`]: how a worker is, as JSON; not on any hot path, and open to new fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a worker is. Bytes are bytes, times are seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct Status {
    /// `host:port` that the worker serves.
    pub worker_address: String,
    /// Whose pool this is, where the worker has tenants.
    pub tenant: Option<String>,
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
    /// Blocks that are soft-pinned, with those that lead up to them.
    pub soft_pinned_blocks: u64,
    /// Bytes of them.
    pub soft_pinned_bytes: u64,
    /// The namespaces that hold blocks or have a quota.
    pub namespaces: Vec<NamespaceStatus>,
    /// Blocks evicted for room, or because someone asked.
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
    /// The worker's cluster, if it is in one.
    pub cluster: Option<ClusterStatus>,
    /// Its part on a local disk, if it has one.
    pub spill: Option<SpillStatus>,
}

/// A worker's part on a local disk. Counts are since the start.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct SpillStatus {
    /// The file.
    pub file: String,
    /// How it is read and written: `io_uring` or `threads`.
    pub engine: String,
    /// Whether the disk is well and keeps up.
    pub takes_more: bool,
    /// Bytes of the file.
    pub capacity_bytes: u64,
    /// Blocks in it.
    pub blocks: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Blocks on their way there.
    pub coming: u64,
    /// Blocks written.
    pub stored: u64,
    /// Bytes of them.
    pub stored_bytes: u64,
    /// Blocks that left memory and were there already.
    pub kept: u64,
    /// Blocks that left memory and were not written: the disk did not keep up, or failed.
    pub dropped: u64,
    /// Blocks that came back into memory.
    pub hits: u64,
    /// Bytes of them.
    pub hit_bytes: u64,
    /// Blocks that were to come back and did not.
    pub misses: u64,
    /// Of these, those whose bytes were not those that were written.
    pub corrupt: u64,
    /// Of these, those that the disk did not bring in time.
    pub late: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Blocks that went to make room for others.
    pub reclaimed: u64,
    /// Blocks that were deleted.
    pub removed: u64,
}

/// A cluster as one of its workers knows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub name: String,
    /// The members, this worker among them.
    pub members: Vec<MemberStatus>,
    /// Keys of others, and of its own, that the worker knows the holders of, because it owns them.
    pub directory_keys: u64,
    /// Bytes of memory that takes.
    pub directory_bytes: u64,
    /// Keys that are asked of other workers at the moment.
    pub wanted: u64,
    /// Blocks that are on their way at the moment, either way, or asked for.
    pub streams: u64,
    /// Bytes of blocks that were sent to other workers.
    pub sent_bytes: u64,
    /// Bytes of blocks that were received from other workers and found right.
    pub received_bytes: u64,
    /// Blocks that were received whole.
    pub received_blocks: u64,
    /// Pieces of blocks that arrived changed, and were thrown away.
    pub corrupt: u64,
    /// Connections to other workers that were lost.
    pub broken: u64,
    /// How it stands with etcd, if that is what tells who the members are.
    pub etcd: Option<EtcdStatus>,
}

/// How a worker stands with etcd.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct EtcdStatus {
    /// All that the worker was told.
    pub endpoints: Vec<String>,
    /// Seconds that others believe the worker alive when it says nothing.
    pub lease_s: f64,
    /// Whether etcd answers. While it does not, the members are those that were known last.
    pub is_connected: bool,
    /// Which endpoint answers, if one does.
    pub endpoint: String,
    /// Seconds since etcd answers, or does not.
    pub since_s: f64,
    /// Why it does not, if it does not.
    pub error: String,
    /// Whether the worker's own record is there, as far as is known.
    pub is_registered: bool,
    /// The host whose worker has the address, if that is why the record is not there.
    pub taken_by: String,
    /// Requests made so far, by kind.
    pub requests: BTreeMap<String, u64>,
}

/// One worker of a cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct MemberStatus {
    /// `host:port` that it serves.
    pub address: String,
    /// Its run.
    pub run: String,
    /// Whether it can be reached, as far as is known.
    pub is_reached: bool,
}

/// One namespace.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct NamespaceStatus {
    /// What it is called.
    pub name: String,
    /// Its blocks, whole and growing.
    pub blocks: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that it may hold when others want room; `null` for what others leave.
    pub quota_bytes: Option<u64>,
}

/// One client's connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct SessionStatus {
    /// What the client calls itself.
    pub name: String,
    /// The client's process, as it says.
    pub pid: u32,
    /// Whose the blocks are that it puts.
    pub namespace: String,
    /// `unix` or `tcp`.
    pub transport: String,
    /// Seconds since it connected.
    pub connected_s: f64,
}
