//! What a frame may hold at most. Both sides refuse more before they allocate for it.

/// Bytes of a frame's body: room for the largest batch of the largest record.
pub const MAX_BODY: usize = 8 << 20;

/// Records, keys, slots or blocks in one message.
pub const MAX_BATCH: usize = 1 << 16;

/// Bytes of payload behind one frame (TCP only).
pub const MAX_PAYLOAD: u64 = 4 << 30;

/// Bytes of a client's name.
pub const MAX_NAME: usize = 256;

/// Bytes of a token.
pub const MAX_TOKEN: usize = 256;

/// The longest wait that a request may ask for, in microseconds: one hour.
pub const MAX_WAIT_MICROS: u64 = 3_600_000_000;

/// How long a worker may take over a get that does not wait, in microseconds: what others of its cluster hold has to come.
pub const GLANCE_MICROS: u64 = 1_000_000;

/// Bytes of a block that follow one message between workers.
pub const MAX_CHUNK: u64 = 1 << 20;

/// Bytes of a cluster's name.
pub const MAX_CLUSTER_NAME: usize = 128;
