//! Putting blocks that are complete, and growing others.

use std::time::{Duration, Instant};

use chariot_types::{Extent, Key};

use crate::block::{Block, Naming, State};
use crate::evict::Standing;
use crate::{
    BlockId, CreateOutcome, CreateRecord, Event, Misuse, OwnerId, Pool, PutOutcome, PutRecord, SlotId, Teller, Terms,
};

impl Pool {
    /// Publishes a block whose bytes are all in place.
    ///
    /// A sealed block that is there already stays, counts as used, and lives at least as long as this one would
    /// have. A growing one gives up its name to this one; who reads it reads on, until its writer is done and the
    /// last pin ends.
    pub fn put(&mut self, owner: OwnerId, record: PutRecord, now: Instant) -> Result<PutOutcome, Misuse> {
        let PutRecord { key, parent, extent, len, time_to_live } = record;
        check_room(extent, len)?;
        self.cut_granted(owner, extent)?;
        let Terms { namespace, .. } = self.terms_of(owner);
        self.counts.puts += 1;
        self.counts.put_bytes += len;
        let expires_at = deadline(now, time_to_live);
        if let Claim::Refused = self.claim(&key, expires_at, now) {
            self.counts.duplicates += 1;
            self.free(extent);
            return Ok(PutOutcome::AlreadyPresent);
        }
        let block = Block {
            key,
            parent,
            extent,
            len,
            state: State::Sealed,
            naming: Naming::Unpublished,
            namespace,
            pins: 0,
            expires_at,
            standing: self.standing_for(owner),
        };
        let id = self.blocks.insert(block);
        self.publish_sealed(id, key);
        Ok(PutOutcome::Stored)
    }

    /// Opens a slot for a block that its owner will write piece by piece, and publishes the block with nothing to
    /// read yet, unless another one is there.
    pub fn create(&mut self, owner: OwnerId, record: CreateRecord, now: Instant) -> Result<CreateOutcome, Misuse> {
        let CreateRecord { slot, key, parent, extent, len, time_to_live, teller } = record;
        check_room(extent, len)?;
        if self.owners.get(&owner).is_some_and(|owner| owner.slots.contains_key(&slot)) {
            return Err(Misuse::SlotTaken { slot });
        }
        self.cut_granted(owner, extent)?;
        if teller == Teller::Pool {
            self.shown.begin_unsaid(extent.offset);
        }
        let Terms { namespace, .. } = self.terms_of(owner);
        let id = self.blocks.insert(Block {
            key,
            parent,
            extent,
            len,
            state: State::Growing { readable: 0, time_to_live },
            naming: Naming::Unpublished,
            namespace,
            pins: 0,
            expires_at: None,
            standing: self.standing_for(owner),
        });
        self.owners.entry(owner).or_default().slots.insert(slot, id);
        if self.is_present(&key, now) {
            self.counts.duplicates += 1;
            return Ok(CreateOutcome::AlreadyPresent);
        }
        self.publish(id);
        self.events.push(Event::Readable { key, block: id });
        Ok(CreateOutcome::Growing)
    }

    /// Declares the first `readable` bytes of a growing block final.
    pub fn advance(&mut self, owner: OwnerId, slot: SlotId, readable: u64) -> Result<(), Misuse> {
        let id = self.block_in(owner, slot)?;
        let advanced = self.blocks.change(id, |block| {
            let (before, len) = (block.readable(), block.len);
            if readable < before || readable > len {
                return Err(Misuse::WrongProgress { readable, before, len });
            }
            if let State::Growing { readable: current, .. } = &mut block.state {
                *current = readable;
            }
            Ok((readable > before).then_some(Event::Readable { key: block.key, block: id }))
        });
        self.events.extend(advanced.unwrap_or(Err(Misuse::UnknownSlot { slot }))?);
        self.show(id);
        Ok(())
    }

    /// Declares a growing block complete, and closes its slot. Its time to live begins.
    ///
    /// A block that found its key taken when it was created is published now if the key has become free or its block
    /// is not complete either; otherwise its room is freed.
    pub fn seal(&mut self, owner: OwnerId, slot: SlotId, now: Instant) -> Result<(), Misuse> {
        let id = self.block_in(owner, slot)?;
        self.close(owner, slot);
        let Some(&Block { key, naming, state, len, .. }) = self.blocks.get(id) else { return Ok(()) };
        let time_to_live = if let State::Growing { time_to_live, .. } = state { time_to_live } else { None };
        let expires_at = deadline(now, time_to_live);
        self.counts.puts += 1;
        self.counts.put_bytes += len;
        self.blocks.change(id, |block| block.state = State::Sealed);
        match naming {
            Naming::Published => {
                self.set_deadline(id, expires_at);
                self.show(id);
                self.note_use(id);
                self.events.push(Event::Sealed { key, block: id });
            }
            Naming::Unpublished => match self.claim(&key, expires_at, now) {
                Claim::Granted => {
                    self.blocks.change(id, |block| block.expires_at = expires_at);
                    self.publish_sealed(id, key);
                }
                Claim::Refused => {}
            },
            Naming::Withdrawn => {
                self.events.push(Event::Sealed { key, block: id });
            }
        }
        self.settle(id);
        Ok(())
    }

    /// Gives up a growing block, and closes its slot. Its readers learn that it is lost; its room is free when the
    /// last pin ends, and no longer the owner's.
    pub fn abandon(&mut self, owner: OwnerId, slot: SlotId) -> Result<(), Misuse> {
        let id = self.block_in(owner, slot)?;
        self.close(owner, slot);
        self.lose(id);
        Ok(())
    }

    fn standing_for(&self, owner: OwnerId) -> Standing {
        let Terms { origin, namespace } = self.terms_of(owner);
        Standing::of(origin, self.namespaces.lane(namespace))
    }

    fn terms_of(&self, owner: OwnerId) -> Terms {
        self.owners.get(&owner).map_or_else(Terms::default, |owner| owner.terms)
    }

    fn block_in(&self, owner: OwnerId, slot: SlotId) -> Result<BlockId, Misuse> {
        let block = self.owners.get(&owner).and_then(|owner| owner.slots.get(&slot));
        block.copied().ok_or(Misuse::UnknownSlot { slot })
    }

    fn close(&mut self, owner: OwnerId, slot: SlotId) {
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.slots.remove(&slot);
        }
    }

    fn publish_sealed(&mut self, id: BlockId, key: Key) {
        self.publish(id);
        self.events.push(Event::Sealed { key, block: id });
        self.settle(id);
    }

    /// Makes `key` free for a sealed block, unless it names one already; that one then counts as used and lives until
    /// `until` at least.
    fn claim(&mut self, key: &Key, until: Option<Instant>, now: Instant) -> Claim {
        let Some(id) = self.index.find(key) else { return Claim::Granted };
        let Some(block) = self.blocks.get(id) else { return Claim::Granted };
        if block.is_growing() || block.has_expired(now) {
            self.withdraw(id);
            self.settle(id);
            return Claim::Granted;
        }
        // `None` is for ever.
        let later = block.expires_at.and_then(|at| until.map(|until| until.max(at)));
        self.set_deadline(id, later);
        self.show(id);
        self.note_use(id);
        Claim::Refused
    }

    /// Whether `key` names a block; one whose time is over is withdrawn.
    fn is_present(&mut self, key: &Key, now: Instant) -> bool {
        let Some(id) = self.index.find(key) else { return false };
        if self.blocks.get(id).is_some_and(|block| block.has_expired(now)) {
            self.withdraw(id);
            self.settle(id);
            return false;
        }
        self.note_use(id);
        true
    }

    fn set_deadline(&mut self, id: BlockId, at: Option<Instant>) {
        let Some(before) = self.blocks.change(id, |block| std::mem::replace(&mut block.expires_at, at)) else { return };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.deadlines.remove(before, id);
        }
        if let Some(at) = at {
            self.deadlines.add(at, id);
        }
    }

    /// Shows readers what has changed about a block.
    fn show(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.get(id) {
            self.shown.update(id, block);
        }
    }

    pub(super) fn note_use(&mut self, id: BlockId) {
        if let Some((key, standing)) = self.blocks.named_standing_mut(id) {
            self.evictor.used(&key, standing);
        }
    }
}

/// Whether a sealed block may take a key.
enum Claim {
    Granted,
    Refused,
}

/// When a time to live that begins `now` ends; `None` is never, also for a time beyond what clocks can tell.
fn deadline(now: Instant, time_to_live: Option<Duration>) -> Option<Instant> {
    now.checked_add(time_to_live?)
}

/// Whether `extent` is the room of a block of `len` bytes, as [`Extent::carve`] cuts it.
pub(super) fn check_room(extent: Extent, len: u64) -> Result<(), Misuse> {
    if Extent::room_for(len) != Some(extent.len) {
        return Err(Misuse::WrongRoom { extent, len });
    }
    let align = if extent.len >= Extent::PAGE { Extent::PAGE } else { Extent::ALIGN };
    if !extent.offset.is_multiple_of(align) {
        return Err(Misuse::Misaligned { extent });
    }
    Ok(())
}
