//! [`Counters`]: what was carried.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::FabricError;

/// What was carried, as it is counted.
#[derive(Default, Debug)]
pub(crate) struct Counters {
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) blocks_received: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    pub(crate) broken: AtomicU64,
}

/// What was carried since the worker started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FabricStats {
    /// Bytes of blocks that were sent.
    pub bytes_sent: u64,
    /// Bytes of blocks that were received and found right.
    pub bytes_received: u64,
    /// Blocks that were received whole.
    pub blocks_received: u64,
    /// Messages and chunks that arrived changed.
    pub corrupt: u64,
    /// Connections that ended otherwise than by being closed.
    pub broken: u64,
    /// Streams that are open now, in both directions.
    pub streams: u64,
}

impl Counters {
    pub(crate) fn note_corrupt(&self) {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what came with another checksum than it was sent with.
    pub(crate) fn note_if_corrupt(&self, error: &FabricError) {
        if matches!(error, FabricError::Corrupt { .. }) {
            self.note_corrupt();
        }
    }

    pub(crate) fn stats(&self) -> FabricStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FabricStats {
            bytes_sent: get(&self.bytes_sent),
            bytes_received: get(&self.bytes_received),
            blocks_received: get(&self.blocks_received),
            corrupt: get(&self.corrupt),
            broken: get(&self.broken),
            streams: 0,
        }
    }
}
