//! [`Part`]: what can be measured by itself.

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Small operations.
    Latency,
    /// Gets that wait for another process.
    Waiting,
    /// Large blocks.
    Throughput,
    /// All of these through the Python client.
    Python,
    /// What a worker and an engine use that do nothing.
    Idle,
    /// The second tier.
    Disk,
    /// What the pool finds of traces. Needs no worker.
    Hits,
    /// A worker full of blocks that goes on in another process.
    Restart,
}

impl Part {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 8] = [
        Self::Latency,
        Self::Waiting,
        Self::Throughput,
        Self::Python,
        Self::Idle,
        Self::Disk,
        Self::Hits,
        Self::Restart,
    ];
}
