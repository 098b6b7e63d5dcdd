//! Freeing what nobody can reach, in a pool whose blocks are read by clients that do not say so.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use chariot_index::MemoryError;

use crate::shown::Held;
use crate::{BlockId, OwnerId, Pool, Tally};

impl Pool {
    /// Lets an owner read by itself: what it needs to pin blocks, for [`Pins::map`](chariot_index::Pins::map). `None`
    /// in a pool that is not shared. It ends with [`Pool::drop_owner`].
    pub fn admit_reader(&mut self, owner: OwnerId) -> Option<Result<OwnedFd, MemoryError>> {
        self.shown.admit(owner)
    }

    /// Frees the blocks of a shared pool that nobody can reach any more, after one look at what readers hold. Call it
    /// after every batch: until then their bytes are nobody's and not free. What is being read is kept, for
    /// [`Pool::look_again`].
    pub fn sweep(&mut self) {
        if !self.unswept.is_empty() {
            let held = self.shown.held();
            self.free_all_but(&held);
        }
    }

    /// Frees what was being read and is no longer, and lets those who were refused room ask again: readers who let go
    /// say so only while room is wanted. Call it then, and now and again.
    pub fn look_again(&mut self) {
        self.note_uses();
        self.sweep_limbo();
        self.tell_of_room();
    }

    /// Takes away the pins of readers that have stood in the way for `patience`: that were there at each of these
    /// calls, while someone who was refused room still waited. How many they were. Call it before
    /// [`Pool::look_again`], every second or so. Pins that owners made by [`Pool::pin`] stay.
    pub fn end_long_reads(&mut self, now: Instant, patience: Duration) -> usize {
        if !self.refused {
            self.shown.forgive();
            return 0;
        }
        self.shown.revoke_long_held(now, patience)
    }

    /// A block that nobody can reach, unless it is being read.
    pub(super) fn retire(&mut self, id: BlockId) {
        if self.shown.is_shared() {
            self.unswept.push(id);
        } else {
            self.free_block(id);
        }
    }

    /// Frees what is unreachable; what readers hold, for those who choose what goes next.
    pub(super) fn sweep_limbo(&mut self) -> Held {
        self.unswept.append(&mut self.limbo);
        let held = self.shown.held();
        self.free_all_but(&held);
        held
    }

    /// Learns what readers have used.
    pub(super) fn note_uses(&mut self) {
        for id in self.shown.take_uses() {
            self.note_use(id);
        }
    }

    /// Bytes of idle blocks that cannot be evicted because they are being read.
    pub(super) fn idle_bytes_of(&self, held: &Held) -> u64 {
        let blocks = held.iter().filter_map(|id| self.blocks.get(id));
        blocks.filter(|block| block.is_idle()).map(|block| block.extent.len).sum()
    }

    /// Blocks that someone has pinned, in whichever way.
    pub(super) fn pinned(&self) -> Tally {
        let mut pinned = self.blocks.census().pinned;
        let held = self.shown.held();
        for block in held.iter().filter_map(|id| self.blocks.get(id)).filter(|block| block.pins == 0) {
            pinned.blocks += 1;
            pinned.bytes += block.extent.len;
        }
        pinned
    }

    fn free_all_but(&mut self, held: &Held) {
        for id in std::mem::take(&mut self.unswept) {
            if held.contains(id) {
                self.limbo.push(id);
            } else {
                self.free_block(id);
            }
        }
    }

    fn free_block(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.remove(id) {
            self.free(block.extent);
        }
    }
}

#[cfg(test)]
mod tests {
    use chariot_index::{Found, Index, Pinning, Pins, View, Want};
    use chariot_types::{Extent, Key};

    use super::*;
    use crate::{GrantAsk, NoRoom, PutRecord};

    const WRITER: OwnerId = OwnerId(1);
    const READER: OwnerId = OwnerId(2);
    const LEN: u64 = Extent::PAGE;

    /// A shared pool with room for `blocks` blocks, and one who reads it.
    fn shared_pool(blocks: u64) -> (Pool, View, Pins) {
        let index = Index::create(blocks * LEN).unwrap();
        let view = View::map(&index).unwrap();
        let mut pool = Pool::shared(blocks * LEN, index);
        let pins = Pins::map(pool.admit_reader(READER).unwrap().unwrap()).unwrap();
        (pool, view, pins)
    }

    fn key(name: u8) -> Key {
        Key::of_name(&[name])
    }

    fn put(pool: &mut Pool, name: u8) -> Result<(), NoRoom> {
        let now = Instant::now();
        let extent = pool.grant(WRITER, GrantAsk { min: LEN, want: LEN }, now)?;
        let record = PutRecord { key: key(name), parent: None, extent, len: LEN, time_to_live: None };
        pool.put(WRITER, record, now).unwrap();
        pool.sweep();
        Ok(())
    }

    fn pin(view: &View, pins: &Pins, name: u8) -> chariot_index::Held {
        match pins.pin(view, &key(name), Want::Whole) {
            Pinning::Pinned(_, held) => held,
            other => panic!("block {name}: {other:?}"),
        }
    }

    #[test]
    fn what_is_read_without_a_call_is_neither_evicted_nor_reused() {
        let (mut pool, view, pins) = shared_pool(2);
        put(&mut pool, 0).unwrap();
        let held = pin(&view, &pins, 0);
        (1..10).for_each(|name| put(&mut pool, name).unwrap());
        assert!(matches!(view.find(&key(0)), Found::Listed(_)));
        assert!(pool.delete(&key(0), Instant::now()));
        pool.sweep();
        assert_eq!((pool.stats().detached.blocks, pool.stats().pinned.blocks), (1, 1));
        (10..20).for_each(|name| put(&mut pool, name).unwrap());
        assert!(pins.still_holds(&held));
        pins.release(held);
        pool.look_again();
        assert_eq!((pool.stats().detached.blocks, pool.stats().free), (0, LEN));
    }

    #[test]
    fn uses_without_a_call_count_when_room_is_made() {
        let (mut pool, view, pins) = shared_pool(3);
        (0..3).for_each(|name| put(&mut pool, name).unwrap());
        let held = pin(&view, &pins, 0);
        pins.release(held);
        put(&mut pool, 3).unwrap();
        assert_eq!([0, 1].map(|name| view.find(&key(name)) != Found::Absent), [true, false]);
    }

    #[test]
    fn readers_say_that_they_let_go_while_room_is_wanted() {
        let (mut pool, view, pins) = shared_pool(1);
        put(&mut pool, 0).unwrap();
        let held = pin(&view, &pins, 0);
        assert!(!view.is_room_wanted());
        assert_eq!(put(&mut pool, 1), Err(NoRoom::Full));
        assert!(view.is_room_wanted());
        pins.release(held);
        pool.take_events();
        pool.look_again();
        assert_eq!(pool.take_events(), [crate::Event::RoomFreed]);
        put(&mut pool, 1).unwrap();
        assert!(!view.is_room_wanted());
    }

    #[test]
    fn a_reader_in_the_way_of_those_who_want_room_loses_its_pin() {
        let (mut pool, view, pins) = shared_pool(1);
        let (start, patience) = (Instant::now(), Duration::from_secs(30));
        put(&mut pool, 0).unwrap();
        let held = pin(&view, &pins, 0);
        for second in 0..100 {
            assert_eq!(pool.end_long_reads(start + Duration::from_secs(second), patience), 0, "nobody wants room");
            pool.look_again();
        }
        for second in 100..130 {
            assert_eq!(put(&mut pool, 1), Err(NoRoom::Full));
            assert_eq!(pool.end_long_reads(start + Duration::from_secs(second), patience), 0);
            pool.look_again();
        }
        assert!(pins.still_holds(&held));
        assert_eq!(put(&mut pool, 1), Err(NoRoom::Full));
        assert_eq!(pool.end_long_reads(start + Duration::from_secs(130), patience), 1);
        put(&mut pool, 1).unwrap();
        assert!(!pins.still_holds(&held));
    }
}
