//! Going on in another process: what a pool leaves, and how another takes it over.

use std::collections::HashSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use chariot_index::MemoryError;
use chariot_types::{Extent, Key};

use super::write::check_room;
use crate::block::{Block, Naming, State};
use crate::estate::{LeftBlock, LeftOwner};
use crate::evict::Standing;
use crate::{BlockId, Estate, NamespaceId, OwnerId, Pool, SlotId, Terms, Unfit};

impl Pool {
    /// Shows readers nothing any more, so that they ask: whoever has pinned something goes on reading it, and nobody pins
    /// anything else. For a pool that is about to be gone on with elsewhere; [`Pool::show_all`] takes it back.
    pub fn hide_all(&mut self) {
        // Before anything goes: nobody is to take it for absent.
        self.shown.leave_absence_open();
        for (id, _) in self.blocks.iter().filter(|(_, block)| block.is_published()) {
            self.shown.delist(id);
        }
    }

    /// Shows readers everything again.
    pub fn show_all(&mut self) {
        for (id, block) in self.blocks.iter().filter(|(_, block)| block.is_published()) {
            self.shown.list(id, block);
        }
        self.shown.settle_absence();
    }

    /// All who read without a call, each with its pins, for [`Pool::take_over_reader`].
    pub fn readers(&self) -> impl Iterator<Item = (OwnerId, BorrowedFd<'_>)> {
        self.shown.readers()
    }

    /// Goes on with what an owner has pinned without a call, in blocks that were inherited.
    pub fn take_over_reader(&mut self, owner: OwnerId, pins: OwnedFd) -> Result<(), MemoryError> {
        self.shown.take_over(owner, pins)
    }

    /// All that the pool knows at `now`.
    pub fn estate(&self, now: Instant) -> Estate {
        let left = |at: Instant| at.saturating_duration_since(now);
        let blocks = self.blocks.iter().map(|(id, block)| LeftBlock {
            id: id.as_u64(),
            key: *block.key.as_bytes(),
            parent: block.parent.map(|parent| *parent.as_bytes()),
            offset: block.extent.offset,
            len: block.len,
            state: block.state,
            naming: block.naming,
            namespace: block.namespace.number(),
            expires_in: block.expires_at.map(left),
            origin: block.standing.origin(),
            past: block.standing.past(),
        });
        let owners = self.owners.iter().map(|(id, owner)| LeftOwner {
            id: id.0,
            namespace: owner.terms.namespace.number(),
            origin: owner.terms.origin,
            grants: owner.grants.regions().map(|region| (region.offset, region.len)).collect(),
            slots: owner.slots.iter().map(|(slot, block)| (slot.0, block.as_u64())).collect(),
            // Nobody pins a block four billion times; who did keeps it for as long as it is there.
            pins: owner
                .pins()
                .map(|(block, times)| (block.as_u64(), u32::try_from(times).unwrap_or(u32::MAX)))
                .collect(),
        });
        Estate {
            capacity: self.room.capacity(),
            namespaces: self.namespaces.names().map(|name| name.as_str().to_owned()).collect(),
            clock: self.evictor.clock(),
            blocks: blocks.collect(),
            owners: owners.collect(),
            soft_pins: self.soft_pins.named().map(|(key, until)| (*key.as_bytes(), until.map(left))).collect(),
        }
    }

    /// Goes on with what another pool has left, in a pool that is empty and has the same capacity. What it
    /// learned of eviction is each block's past, and nothing else. After an error the pool is good for nothing.
    pub fn inherit(&mut self, estate: &Estate, now: Instant) -> Result<(), Unfit> {
        if estate.capacity != self.room.capacity() {
            return Err(Unfit { what: "it is of another size" });
        }
        let mut namespaces = Vec::new();
        for name in &estate.namespaces {
            let name = name.parse().map_err(|_| Unfit { what: "a namespace that is none" })?;
            namespaces.push(self.namespaces.id(&name));
        }
        self.evictor.resume(estate.clock);
        for left in &estate.blocks {
            self.inherit_block(left, &namespaces, now)?;
        }
        self.blocks.find_vacant();
        let mut unwritten: HashSet<BlockId> =
            self.blocks.iter().filter(|(_, block)| block.is_growing()).map(|(id, _)| id).collect();
        for left in &estate.owners {
            self.inherit_owner(left, &namespaces, &mut unwritten)?;
        }
        if !unwritten.is_empty() {
            return Err(Unfit { what: "a growing block without a writer" });
        }
        for (key, time) in &estate.soft_pins {
            self.inherit_soft_pin(Key::from_bytes(*key), *time, now);
        }
        let all: Vec<BlockId> = self.blocks.iter().map(|(id, _)| id).collect();
        for id in all {
            if let Some(block) = self.blocks.get(id).filter(|block| block.is_published()) {
                self.shown.list(id, block);
            }
            self.settle(id);
        }
        Ok(())
    }

    fn inherit_block(&mut self, left: &LeftBlock, namespaces: &[NamespaceId], now: Instant) -> Result<(), Unfit> {
        let (id, key) = (BlockId::from_u64(left.id), Key::from_bytes(left.key));
        let room = Extent::room_for(left.len).ok_or(Unfit { what: "a block without an end" })?;
        let extent = Extent { offset: left.offset, len: room };
        check_room(extent, left.len).map_err(|_| Unfit { what: "a block at no place for it" })?;
        if !self.room.take_at(extent) {
            return Err(Unfit { what: "two blocks at one place" });
        }
        let is_named = left.naming == Naming::Published;
        match left.state {
            State::Growing { readable, .. } if readable > left.len => {
                return Err(Unfit { what: "a block that grew too much" });
            }
            State::Lost if is_named => return Err(Unfit { what: "a lost block with a name" }),
            _ => {}
        }
        let namespace = namespace(namespaces, left.namespace)?;
        let standing = Standing::with_past(left.origin, self.namespaces.lane(namespace), left.past);
        let expires_at = left.expires_in.and_then(|left| now.checked_add(left));
        // Every block has room of its own, so that there are no more places than that.
        let is_place = (id.place() as u64) < self.room.capacity() / Extent::ALIGN && id.generation() > 0;
        let parent = left.parent.map(Key::from_bytes).filter(|parent| !self.would_be_its_own_ancestor(key, *parent));
        let block = Block {
            key,
            parent,
            extent,
            len: left.len,
            state: left.state,
            naming: left.naming,
            namespace,
            pins: 0,
            expires_at,
            standing,
        };
        if !is_place || !self.blocks.insert_at(id, block) {
            return Err(Unfit { what: "two blocks with one number, or one with none" });
        }
        if !is_named {
            return Ok(());
        }
        if self.index.find(&key).is_some() {
            return Err(Unfit { what: "two blocks with one name" });
        }
        if !self.evictor.came_back(&standing) {
            return Err(Unfit { what: "a block used later than ever" });
        }
        self.index.publish(key, id);
        self.namespaces.came(namespace, extent.len);
        if let Some(parent) = parent {
            self.lineage.child_came(parent);
        }
        if let Some(at) = expires_at {
            self.deadlines.add(at, id);
        }
        Ok(())
    }

    fn inherit_owner(
        &mut self,
        left: &LeftOwner,
        namespaces: &[NamespaceId],
        unwritten: &mut HashSet<BlockId>,
    ) -> Result<(), Unfit> {
        let id = OwnerId(left.id);
        if self.owners.contains_key(&id) {
            return Err(Unfit { what: "two owners with one number" });
        }
        let terms = Terms { namespace: namespace(namespaces, left.namespace)?, origin: left.origin };
        self.agree(id, terms);
        for (offset, len) in &left.grants {
            let region = Extent { offset: *offset, len: *len };
            let is_aligned = offset.is_multiple_of(Extent::ALIGN) && len.is_multiple_of(Extent::ALIGN);
            if !is_aligned || !self.room.take_at(region) {
                return Err(Unfit { what: "granted room that is not free" });
            }
            self.granted += region.len;
            self.owners.entry(id).or_default().grants.add(region);
        }
        for (slot, block) in &left.slots {
            let block = BlockId::from_u64(*block);
            if !unwritten.remove(&block) {
                return Err(Unfit { what: "a writer of what does not grow" });
            }
            if self.owners.entry(id).or_default().slots.insert(SlotId(*slot), block).is_some() {
                return Err(Unfit { what: "two blocks in one slot" });
            }
        }
        for (block, times) in &left.pins {
            let (block, times) = (BlockId::from_u64(*block), u64::from(*times));
            let pinned = self.blocks.change(block, |block| block.pins = block.pins.saturating_add(times));
            if pinned.is_none() || times == 0 {
                return Err(Unfit { what: "a pin of nothing" });
            }
            self.owners.entry(id).or_default().pin_times(block, times);
        }
        Ok(())
    }

    fn inherit_soft_pin(&mut self, key: Key, time: Option<Duration>, now: Instant) {
        let Some(id) = self.index.find(&key) else { return };
        if self.soft_pins.name(key, time.and_then(|time| now.checked_add(time))) {
            if let Some(standing) = self.blocks.standing_mut(id) {
                self.evictor.soft_pin(id, standing);
            }
            self.raise_soft_pins(key);
        }
    }
}

fn namespace(namespaces: &[NamespaceId], number: u16) -> Result<NamespaceId, Unfit> {
    namespaces.get(usize::from(number)).copied().ok_or(Unfit { what: "a namespace that is not named" })
}

#[cfg(test)]
mod tests;
