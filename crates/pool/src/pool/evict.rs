//! Evicting because someone asks for it, and not for want of room.

use std::time::Instant;

use crate::shown::Held;
use crate::{BlockId, Leaving, NamespaceId, OwnerId, Pool};

/// Whose blocks are evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// All.
    Everybody,
    /// A namespace's.
    Namespace(NamespaceId),
}

impl Pool {
    /// Evicts until `free` bytes are free, as a grant of so many would, but no more than `most` blocks; how many there were.
    /// Fewer than `most` when that is all that was needed or may go.
    pub fn evict_until_free(&mut self, free: u64, most: u64, now: Instant) -> u64 {
        self.expire(now);
        self.note_uses();
        let held = self.sweep_limbo();
        let (mut evicted, mut spared) = (0, Vec::new());
        while self.room.free() < free && evicted < most {
            let more = self.evict_for(free, most - evicted, &held, &mut spared);
            self.sweep();
            evicted += more;
            if more == 0 {
                break;
            }
        }
        self.offer_again(spared);
        evicted
    }

    /// Evicts blocks of `bytes` bytes together, but no more than `most`, as a grant of so many would, and pins them for
    /// `owner`: their bytes stay until it unpins each, so that they can be carried to where there is more room. What is
    /// read without a call is not among them. Fewer where no more may go.
    pub fn evict_to(&mut self, owner: OwnerId, bytes: u64, most: usize, now: Instant) -> Vec<Leaving> {
        self.expire(now);
        self.note_uses();
        let held = self.sweep_limbo();
        let (mut leaving, mut taken, mut spared) = (Vec::new(), 0, Vec::new());
        while taken < bytes && leaving.len() < most {
            let lanes = self.namespaces.lanes();
            let Some(victim) = self.evictor.victim(&lanes, &mut self.blocks, &self.lineage) else { break };
            if held.contains(victim) {
                spared.push(victim);
                continue;
            }
            let Some(block) = self.describe(victim, now) else { continue };
            self.owners.entry(owner).or_default().pin(victim);
            let pinned = self.blocks.change(victim, |pinned| {
                pinned.pins += 1;
                (pinned.extent, pinned.standing.origin())
            });
            let Some((extent, origin)) = pinned else { continue };
            self.evict(victim);
            taken += extent.len;
            leaving.push(Leaving { id: victim, extent, block, origin });
        }
        self.offer_again(spared);
        leaving
    }

    /// Evicts what may go, soft-pinned or not, of the blocks in the `places` first places from `from` on, and what of their chains may
    /// go then; how many there were, and where to go on. Going on until the end, all goes that may.
    pub fn evict_all(&mut self, whose: Whose, from: usize, places: usize) -> (u64, Option<usize>) {
        let held = self.sweep_limbo();
        let (ids, next) = self.blocks.ids_in_places(from, places);
        let evicted = ids.into_iter().map(|id| self.evict_upwards(id, whose, &held)).sum();
        self.sweep();
        (evicted, next)
    }

    /// Evicts a block, its parent, and so on up to the first that may not go.
    fn evict_upwards(&mut self, id: BlockId, whose: Whose, held: &Held) -> u64 {
        let (mut next, mut evicted) = (Some(id), 0);
        while let Some(id) = next.take() {
            let Some(block) = self.blocks.get(id) else { break };
            let is_whose = whose == Whose::Everybody || whose == Whose::Namespace(block.namespace);
            if !is_whose || !block.is_idle() || self.lineage.has_children(&block.key) || held.contains(id) {
                break;
            }
            let parent = block.parent;
            self.evict(id);
            evicted += 1;
            next = parent.and_then(|parent| self.index.find(&parent));
        }
        evicted
    }

    /// Takes a block away that may go.
    pub(super) fn evict(&mut self, id: BlockId) {
        self.counts.evictions += 1;
        self.withdraw(id);
        self.settle(id);
    }

    /// Blocks that were taken for victims stand in line again.
    pub(super) fn offer_again(&mut self, spared: Vec<BlockId>) {
        for id in spared {
            if let Some(standing) = self.blocks.standing_mut(id) {
                self.evictor.offer(id, standing);
            }
        }
    }
}
