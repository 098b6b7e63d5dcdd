//! Room: granting it, taking it back, and making it by evicting.

use std::time::Instant;

use chariot_types::Extent;

use crate::shown::Held;
use crate::{BlockId, GrantAsk, Misuse, NoRoom, OwnerId, Pool};

impl Pool {
    /// Gives the owner a region of at least `ask.min` and at most `ask.want` bytes (both rounded up as room is) to
    /// carve blocks from ahead of need. A block of `ask.min` bytes can be carved from it whatever its alignment.
    ///
    /// Free room is given first. If no free run has `min` bytes, blocks whose time is over go, then idle ones as the
    /// eviction policy says, one after another until there is such a run; the answer is then as much of it as is
    /// wanted. An owner may hold any number of regions; they are its own until it uses them, gives them back or is
    /// dropped.
    pub fn grant(&mut self, owner: OwnerId, ask: GrantAsk, now: Instant) -> Result<Extent, NoRoom> {
        let (min, want) = self.bounds(ask)?;
        // What this grant evicts is for this grant: others that wait for room would look in vain.
        let refused = std::mem::take(&mut self.refused);
        let mut taken = self.take_room(min, want, now);
        if taken.is_none() && self.shown.is_shared() {
            // From now on readers say when they let go; who has just done so is seen by this second look.
            self.shown.want_room(true);
            taken = self.take_room(min, want, now);
        }
        self.refused = refused || taken.is_none();
        self.shown.want_room(self.refused);
        let region = taken.ok_or(NoRoom::Full)?;
        Ok(self.give(owner, region))
    }

    /// As [`Pool::grant`], of what is free or nobody's any more: nothing is evicted for it. Who is refused is not told when
    /// there is room.
    pub fn grant_free(&mut self, owner: OwnerId, ask: GrantAsk, now: Instant) -> Result<Extent, NoRoom> {
        let (min, want) = self.bounds(ask)?;
        let region = self.take_free(min, want, now).map_err(|_| NoRoom::Full)?;
        Ok(self.give(owner, region))
    }

    /// Takes back a granted region, or a part of one.
    pub fn give_back(&mut self, owner: OwnerId, extent: Extent) -> Result<(), Misuse> {
        let aligned = extent.offset.is_multiple_of(Extent::ALIGN) && extent.len.is_multiple_of(Extent::ALIGN);
        if !aligned || extent.len == 0 {
            return Err(Misuse::Misaligned { extent });
        }
        self.cut_granted(owner, extent)?;
        self.free(extent);
        Ok(())
    }

    /// Makes granted room a block's, or nobody's: the caller says whose it is next.
    pub(super) fn cut_granted(&mut self, owner: OwnerId, extent: Extent) -> Result<(), Misuse> {
        if !self.owners.get_mut(&owner).is_some_and(|owner| owner.grants.cut(extent)) {
            return Err(Misuse::NotGranted { extent });
        }
        self.granted -= extent.len;
        Ok(())
    }

    /// Makes an extent nobody's.
    pub(super) fn free(&mut self, extent: Extent) {
        self.room.put_back(extent);
        self.tell_of_room();
    }

    /// What an ask comes to in a room of this size.
    fn bounds(&mut self, ask: GrantAsk) -> Result<(u64, u64), NoRoom> {
        let capacity = self.room.capacity();
        let min = Extent::room_for(ask.min).filter(|&min| min <= capacity).ok_or(NoRoom::NeverFits { capacity })?;
        let want = ask.want.checked_next_multiple_of(Extent::ALIGN).unwrap_or(capacity).clamp(min, capacity);
        self.largest_ask = self.largest_ask.max(min);
        Ok((min, want))
    }

    fn give(&mut self, owner: OwnerId, region: Extent) -> Extent {
        self.granted += region.len;
        self.owners.entry(owner).or_default().grants.add(region);
        region
    }

    /// Room that is nobody's, or what readers hold where there is none.
    fn take_free(&mut self, min: u64, want: u64, now: Instant) -> Result<Extent, Held> {
        if let Some(region) = self.room.take(min, want) {
            return Ok(region);
        }
        self.expire(now);
        self.note_uses();
        let held = self.sweep_limbo();
        self.room.take(min, want).ok_or(held)
    }

    fn take_room(&mut self, min: u64, want: u64, now: Instant) -> Option<Extent> {
        let held = match self.take_free(min, want, now) {
            Ok(region) => return Some(region),
            Err(held) => held,
        };
        // Nothing is evicted for a grant that cannot succeed by its size alone.
        if self.room.free() + self.blocks.census().idle.bytes - self.idle_bytes_of(&held) < min {
            return None;
        }
        let mut spared = Vec::new();
        let taken = loop {
            let evicted = self.evict_for(min, u64::MAX, &held, &mut spared);
            self.sweep();
            let taken = self.room.take(min, want);
            if taken.is_some() || evicted == 0 {
                break taken;
            }
        };
        self.offer_again(spared);
        taken
    }

    /// Evicts as many blocks as a room of `min` bytes takes at the least, one or more, and `most` at the most; how many
    /// there were. Together, because before their bytes are free someone has to look whether they are being read. What
    /// is `held` is not evicted but moved to `spared`.
    pub(super) fn evict_for(&mut self, min: u64, most: u64, held: &Held, spared: &mut Vec<BlockId>) -> u64 {
        let (mut evicted, mut bytes) = (0, 0);
        while evicted < most && (evicted == 0 || self.room.free() + bytes < min) {
            let lanes = self.namespaces.lanes();
            let Some(victim) = self.evictor.victim(&lanes, &mut self.blocks, &self.lineage) else { break };
            if held.contains(victim) {
                spared.push(victim);
                continue;
            }
            if self.shown.is_shared() {
                bytes += self.blocks.get(victim).map_or(0, |block| block.extent.len);
            }
            self.evict(victim);
            evicted += 1;
        }
        evicted
    }
}
