//! How blocks come into the index, leave it, and are freed.

use std::time::Instant;

use chariot_types::Key;

use crate::block::{Block, Naming, State};
use crate::lineage::Parent;
use crate::{BlockId, Event, OwnerId, Pool};

/// How many ancestors a block is followed through to see whether it is its own: more tokens than any model reads.
const LONGEST_CHAIN: usize = 1 << 14;

impl Pool {
    /// Withdraws what is found under `key`, growing or sealed; whether there was anything. Who has pinned it reads
    /// on, who writes it writes on, and its bytes are freed when the last of them is done.
    pub fn delete(&mut self, key: &Key, now: Instant) -> bool {
        let Some(id) = self.index.find(key) else { return false };
        let was_found = self.blocks.get(id).is_some_and(|block| !block.has_expired(now));
        self.withdraw(id);
        self.settle(id);
        was_found
    }

    /// Withdraws the blocks whose time is over; how many they were. Soft pins whose time is over end.
    ///
    /// They are not found from that time on, whether this was called or not; this makes their bytes free. Blocks
    /// expire without regard to their children: time to live is the client's wish, not a guess of ours.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while let Some(id) = self.deadlines.pop_due(now) {
            self.withdraw(id);
            self.settle(id);
            expired += 1;
        }
        self.counts.expired += expired as u64;
        self.end_soft_pins(now);
        expired
    }

    /// Takes back everything that an owner holds: its connection has ended, however it ended. Blocks that it was
    /// writing are lost; its pins end; its room is free. An unknown owner held nothing.
    pub fn drop_owner(&mut self, owner: OwnerId) {
        if self.shown.forget(owner) {
            self.look_again();
        }
        let Some(mut owner) = self.owners.remove(&owner) else { return };
        for id in std::mem::take(&mut owner.slots).into_values() {
            self.lose(id);
        }
        for (id, pins) in owner.take_pins() {
            self.blocks.change(id, |block| block.pins -= pins);
            self.settle(id);
        }
        for region in owner.grants.into_regions() {
            self.granted -= region.len;
            self.free(region);
        }
    }

    /// Gives a block its name, which must be free.
    pub(super) fn publish(&mut self, id: BlockId) {
        let Some(&Block { key, parent, expires_at, namespace, extent, .. }) = self.blocks.get(id) else { return };
        let parent = parent.filter(|&parent| !self.would_be_its_own_ancestor(key, parent));
        self.blocks.change(id, |block| {
            block.parent = parent;
            block.naming = Naming::Published;
            self.evictor.came(&key, &mut block.standing);
            if self.lineage.has_children(&key) {
                self.evictor.led(&key, &mut block.standing);
            }
        });
        self.index.publish(key, id);
        self.namespaces.came(namespace, extent.len);
        if self.tells_of_names {
            self.events.push(Event::Published { key });
        }
        if let Some(block) = self.blocks.get(id) {
            self.shown.list(id, block);
        }
        if let Some(parent) = parent {
            self.lineage.child_came(parent);
            if let Some(standing) = self.index.find(&parent).and_then(|parent| self.blocks.standing_mut(parent)) {
                self.evictor.led(&parent, standing);
            }
        }
        self.count_in_soft_pins(&key, parent, extent.len);
        if let Some(at) = expires_at {
            self.deadlines.add(at, id);
        }
    }

    /// Takes a published block's name away.
    pub(super) fn withdraw(&mut self, id: BlockId) {
        let withdrawn = self.blocks.change(id, |block| {
            debug_assert!(block.is_published());
            block.naming = Naming::Withdrawn;
            self.evictor.forget(id, &block.key, &mut block.standing);
            (block.key, block.parent, block.expires_at, block.standing, block.namespace, block.extent.len)
        });
        let Some((key, parent, expires_at, standing, namespace, bytes)) = withdrawn else { return };
        self.discount_in_soft_pins(&key, parent, bytes);
        self.namespaces.went(namespace, bytes);
        self.index.withdraw(&key);
        if self.tells_of_names {
            self.events.push(Event::Withdrawn { key });
        }
        self.shown.delist(id);
        if let Some(at) = expires_at {
            self.deadlines.remove(at, id);
        }
        let Some(parent) = parent else { return };
        let lineage = self.lineage.child_went(&parent);
        let Some(parent) = self.index.find(&parent) else { return };
        if let Some(parent) = self.blocks.standing_mut(parent) {
            self.evictor.outlived(parent, &standing);
        }
        if lineage == Parent::Childless {
            self.settle(parent);
        }
    }

    /// Does what a change to a block calls for: frees one that nobody can reach, offers an idle one to eviction.
    pub(super) fn settle(&mut self, id: BlockId) {
        let Some(block) = self.blocks.get(id) else { return };
        if block.is_unreachable() {
            self.retire(id);
        } else if block.is_idle() {
            if let Some(standing) = self.blocks.standing_mut(id) {
                self.evictor.offer(id, standing);
            }
            self.tell_of_room();
        }
    }

    /// A growing block whose writer is gone.
    pub(super) fn lose(&mut self, id: BlockId) {
        let Some(block) = self.blocks.get(id) else { return };
        let (key, extent) = (block.key, block.extent);
        self.events.push(Event::Lost { key, block: id });
        if block.is_published() {
            self.withdraw(id);
        }
        // Not before: who has been told that it is lost does not find it.
        self.shown.lose(&key, extent);
        self.blocks.change(id, |block| block.state = State::Lost);
        self.settle(id);
    }

    /// Room is free, or can be made: those who were refused may ask again.
    pub(super) fn tell_of_room(&mut self) {
        if std::mem::take(&mut self.refused) {
            self.shown.want_room(false);
            self.events.push(Event::RoomFreed);
        }
    }

    /// Whether naming `parent` as the parent of `key` would close a circle, in which every block would keep the next
    /// one from being evicted, for ever. Honest keys are hashes over their parent's and cannot do that. Such a block
    /// goes without a parent, so that the published blocks are a forest at any time.
    ///
    /// The block that closes a circle has a child already, which blocks written in order do not have: only those are
    /// followed up. One with more than [`LONGEST_CHAIN`] ancestors is treated as if it closed a circle: it may then
    /// be evicted after its parent, which costs a hit and nothing else.
    pub(super) fn would_be_its_own_ancestor(&self, key: Key, parent: Key) -> bool {
        if parent == key {
            return true;
        }
        if !self.lineage.has_children(&key) {
            return false;
        }
        let mut ancestor = parent;
        for _ in 0..LONGEST_CHAIN {
            let block = self.index.find(&ancestor).and_then(|id| self.blocks.get(id));
            match block.and_then(|block| block.parent) {
                None => return false,
                Some(next) if next == key => return true,
                Some(next) => ancestor = next,
            }
        }
        true
    }
}
