//! [`Deadlines`]: which blocks' time is over.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::BlockId;

/// The published blocks that have a time to live, soonest first.
#[derive(Default, Debug)]
pub(crate) struct Deadlines {
    queue: BTreeSet<(Instant, BlockId)>,
}

impl Deadlines {
    pub(crate) fn add(&mut self, at: Instant, block: BlockId) {
        self.queue.insert((at, block));
    }

    pub(crate) fn remove(&mut self, at: Instant, block: BlockId) {
        self.queue.remove(&(at, block));
    }

    /// A block whose time is over at `now`; it is no longer queued.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<BlockId> {
        self.queue.first().filter(|(at, _)| *at <= now)?;
        self.queue.pop_first().map(|(_, block)| block)
    }
}
