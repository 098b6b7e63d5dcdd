//! [`Evictor`]: which block goes next when room is needed. Least recently used first.
//!
//! This file is the whole policy. The pool says when a block was used, when it became idle and when it went, and asks
//! for victims; which blocks may go at all ([`Block::is_idle`], no children) is not the policy's to decide.
//!
//! The queue is lazy: a use only marks the block, and a block that is pinned, or gets children, stays queued. Both
//! are found out when it comes to the front: then it is queued again by its last use, or dropped until the pool
//! offers it again. As no block is queued later than its last use, what comes out in the end is exactly the least
//! recently used, and reading a block costs no queue operation.
//!
//! [`Block::is_idle`]: crate::block::Block::is_idle

use std::collections::BTreeSet;

use crate::BlockId;
use crate::blocks::Blocks;
use crate::lineage::Lineage;

/// The queue of blocks that may be evicted, least recently used first.
#[derive(Default, Debug)]
pub(crate) struct Evictor {
    clock: u64,
    queue: BTreeSet<(u64, BlockId)>,
}

/// What the policy keeps in each block's record.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Standing {
    last_use: u64,
    queued_at: Option<u64>,
}

impl Evictor {
    /// The block was written or read.
    pub(crate) fn used(&mut self, standing: &mut Standing) {
        self.clock += 1;
        standing.last_use = self.clock;
    }

    /// The block became idle, or childless while idle.
    pub(crate) fn offer(&mut self, id: BlockId, standing: &mut Standing) {
        if standing.queued_at.is_none() {
            standing.queued_at = Some(standing.last_use);
            self.queue.insert((standing.last_use, id));
        }
    }

    /// The block was withdrawn.
    pub(crate) fn forget(&mut self, id: BlockId, standing: &mut Standing) {
        if let Some(at) = standing.queued_at.take() {
            self.queue.remove(&(at, id));
        }
    }

    /// The idle, childless block that was not used for longest. It is no longer queued.
    pub(crate) fn victim(&mut self, blocks: &mut Blocks, lineage: &Lineage) -> Option<BlockId> {
        while let Some((queued_at, id)) = self.queue.pop_first() {
            let evictable = blocks.get(id).is_some_and(|block| block.is_idle() && !lineage.has_children(&block.key));
            let Some(standing) = blocks.standing_mut(id) else { continue };
            standing.queued_at = None;
            if !evictable {
                continue;
            }
            if standing.last_use == queued_at {
                return Some(id);
            }
            self.offer(id, standing);
        }
        None
    }
}
