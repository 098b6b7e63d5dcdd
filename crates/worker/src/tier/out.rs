//! How blocks leave memory: ahead of need, in the order in which they would be evicted.
//!
//! When less than a reserve is free, or about to be, the blocks that go next are withdrawn from the pool and handed to the
//! spill, which has them pinned until they are written. So there is room when it is wanted. A put that wants more than the
//! reserve has evicts as without a disk, and what it evicts is gone: it never waits for a write. What comes back from the disk
//! waits for the room that others leave.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use chariot_pool::{BlockId, Leaving, Origin, OwnerId};
use chariot_ssd::{Block, Memory, Stored};
use chariot_types::NamespaceName;

use super::Tier;
use super::back::Unparked;
use crate::shared::{Shared, State};

/// Blocks that are withdrawn under one hold of the pool's lock, and their bytes.
const STEP_BLOCKS: usize = 64;
const STEP_BYTES: u64 = 32 << 20;

/// Whether there is more to do.
#[derive(PartialEq, Eq)]
enum Step {
    More,
    Done,
}

/// Keeps room free until the worker ends.
pub(crate) async fn keep_room(shared: Arc<Shared>) {
    let mut ending = shared.ending.subscribe();
    let tier = tokio::select! {
        _ = ending.wait_for(|is_ending| *is_ending) => return,
        tier = shared.tier_when_there() => tier,
    };
    loop {
        tokio::select! {
            _ = ending.wait_for(|is_ending| *is_ending) => return,
            () = tier.room_is_short.notified() => {}
        }
        loop {
            while tier.make_room(&shared) == Step::More {
                tokio::task::yield_now().await;
            }
            if tier.unpark(&shared) == Unparked::Nothing {
                break;
            }
        }
    }
}

impl Tier {
    /// Sees whether room is short. To be called under the pool's lock, after every change.
    pub(crate) fn look_at_room(&self, state: &State) {
        // Who makes room sees by itself whether it is enough; what it cannot make, only a change by others makes possible.
        let is_own = self.is_making_room.swap(false, Ordering::Relaxed);
        if !is_own && self.shortage(state) > 0 {
            self.room_is_short.notify_one();
        }
    }

    /// How many bytes more are to leave.
    fn shortage(&self, state: &State) -> u64 {
        let leaving = self.leaving.load(Ordering::Relaxed);
        let free = state.pool.free_room() + leaving;
        // A block finds its room in one piece. What is leaving may make one, and too much is not given up for it.
        let piece = state.pool.largest_ask().min(self.reserve);
        let is_in_pieces = leaving == 0 && state.pool.largest_free_run() < piece && free < 2 * self.reserve;
        let short = (self.reserve + self.awaited.load(Ordering::Relaxed)).saturating_sub(free);
        if short == 0 && is_in_pieces { piece } else { short }
    }

    fn make_room(&self, shared: &Arc<Shared>) -> Step {
        // A disk that does not keep up is no reason to empty memory.
        let most = self.spill.room().min(STEP_BYTES);
        if most == 0 {
            return Step::Done;
        }
        let mut unused = Vec::new();
        let left = shared.change(|state| {
            self.is_making_room.store(true, Ordering::Relaxed);
            let bytes = self.shortage(state).min(most);
            let leaving = state.pool.evict_to(self.owner, bytes, STEP_BLOCKS, Instant::now());
            for leaving in &leaving {
                match leaving.origin {
                    Origin::Computed => {
                        let namespace = state.pool.namespace_name(leaving.block.namespace).clone();
                        unused.extend(self.send(shared, leaving, namespace));
                    }
                    // Those that it was copied from have it.
                    Origin::Copied => drop(state.pool.unpin(self.owner, leaving.id)),
                }
            }
            leaving.len()
        });
        // Their pins end with them: not under the lock.
        drop(unused);
        if left == 0 { Step::Done } else { Step::More }
    }

    /// Hands a block to the spill; what comes back is not needed there.
    fn send(&self, shared: &Arc<Shared>, leaving: &Leaving, namespace: NamespaceName) -> Option<Memory> {
        let Leaving { id, extent, block, .. } = *leaving;
        let bytes: NonNull<[u8]> = shared.arena.slice(extent).expect("the pool keeps to the arena");
        self.leaving.fetch_add(extent.len, Ordering::Relaxed);
        let lease = Lease {
            shared: shared.clone(),
            owner: self.owner,
            block: id,
            bytes: extent.len,
            leaving: self.leaving.clone(),
        };
        // SAFETY: the lease keeps the arena, and the block pinned, so that nobody writes to its bytes.
        let memory = unsafe { Memory::new(bytes, lease) };
        let expires_at = block.time_to_live.and_then(|left| SystemTime::now().checked_add(left));
        let block = Block { key: block.key, parent: block.parent, len: block.len, expires_at, namespace };
        match self.spill.store(block, memory) {
            Stored::Accepted => None,
            Stored::Kept { memory } | Stored::Dropped { memory, .. } => Some(memory),
        }
    }
}

/// A block that is on its way to the disk. Dropped, it makes room. Not under the pool's lock.
struct Lease {
    shared: Arc<Shared>,
    owner: OwnerId,
    block: BlockId,
    bytes: u64,
    leaving: Arc<AtomicU64>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let unpinned = self.shared.change(|state| {
            self.leaving.fetch_sub(self.bytes, Ordering::Relaxed);
            state.pool.unpin(self.owner, self.block)
        });
        debug_assert!(unpinned.is_ok(), "a block that leaves is pinned once");
        if let Some(tier) = self.shared.tier()
            && tier.awaited.load(Ordering::Relaxed) > 0
        {
            tier.room_is_short.notify_one();
        }
    }
}
