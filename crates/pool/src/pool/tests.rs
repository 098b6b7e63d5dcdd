use std::time::{Duration, Instant};

use chariot_types::{Carved, Extent, Key};

use crate::*;

const WRITER: OwnerId = OwnerId(1);
const READER: OwnerId = OwnerId(2);

/// A pool with a clock, and the calls as an honest client makes them.
struct Bench {
    pool: Pool,
    now: Instant,
}

fn key(name: &str) -> Key {
    Key::of_name(name.as_bytes())
}

impl Bench {
    fn new(capacity: u64) -> Self {
        Self { pool: Pool::new(capacity), now: Instant::now() }
    }

    fn room(&mut self, len: u64) -> Extent {
        let room = Extent::room_for(len).unwrap();
        let mut region = self.pool.grant(WRITER, GrantAsk { min: len, want: room }, self.now).unwrap();
        let Carved { carved, .. } = region.carve(room).unwrap();
        carved
    }

    fn record(&mut self, name: &str, parent: Option<&str>, len: u64) -> PutRecord {
        PutRecord { key: key(name), parent: parent.map(key), extent: self.room(len), len, time_to_live: None }
    }

    fn put(&mut self, name: &str, parent: Option<&str>) -> PutOutcome {
        let record = self.record(name, parent, 64);
        self.pool.put(WRITER, record, self.now).unwrap()
    }

    fn put_for(&mut self, name: &str, seconds: u64) {
        let record = PutRecord { time_to_live: Some(Duration::from_secs(seconds)), ..self.record(name, None, 64) };
        self.pool.put(WRITER, record, self.now).unwrap();
    }

    fn create(&mut self, slot: u64, name: &str) -> CreateOutcome {
        let record = self.creation(slot, name);
        self.pool.create(WRITER, record, self.now).unwrap()
    }

    fn creation(&mut self, slot: u64, name: &str) -> CreateRecord {
        let (slot, extent) = (SlotId(slot), self.room(64));
        CreateRecord { slot, key: key(name), parent: None, extent, len: 64, time_to_live: None, teller: Teller::Pool }
    }

    fn pin(&mut self, name: &str) -> Option<Pinned> {
        self.pool.pin(READER, &key(name), PinWhat::Readable, self.now)
    }

    fn present(&self, name: &str) -> bool {
        self.pool.lookup(&key(name), self.now) != Lookup::Miss
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Evicts one block of a pool that is full of blocks of 64 bytes; the room stays granted.
    fn push_one_out(&mut self) -> Result<Extent, NoRoom> {
        self.pool.grant(WRITER, GrantAsk { min: 64, want: 64 }, self.now)
    }
}

#[test]
fn evict_skips_pinned_and_growing_blocks() {
    let mut bench = Bench::new(192);
    bench.put("pinned", None);
    bench.create(1, "growing");
    bench.put("idle", None);
    let pinned = bench.pin("pinned").unwrap();
    bench.push_one_out().unwrap();
    assert!(bench.present("pinned") && bench.present("growing") && !bench.present("idle"));
    assert_eq!(bench.push_one_out(), Err(NoRoom::Full));
    bench.pool.unpin(READER, pinned.block).unwrap();
    assert_eq!(bench.pool.take_events().last(), Some(&Event::RoomFreed));
    assert_eq!(bench.push_one_out(), Ok(pinned.extent));
}

#[test]
fn the_least_recently_read_goes_first() {
    let mut bench = Bench::new(256);
    for name in ["a", "b", "c", "d"] {
        bench.put(name, None);
    }
    for name in ["b", "a"] {
        let pinned = bench.pin(name).unwrap();
        bench.pool.unpin(READER, pinned.block).unwrap();
    }
    for gone in ["c", "d", "b", "a"] {
        assert!(bench.present(gone));
        bench.push_one_out().unwrap();
        assert!(!bench.present(gone), "{gone}");
    }
}

#[test]
fn children_go_before_their_parents_in_whatever_order_they_came() {
    let mut bench = Bench::new(256);
    bench.put("grandchild", Some("child"));
    bench.put("parent", None);
    bench.put("child", Some("parent"));
    bench.put("stranger", None);
    // By last use alone the parent would go first, and the grandchild last but one.
    for name in ["grandchild", "stranger"] {
        let pinned = bench.pin(name).unwrap();
        bench.pool.unpin(READER, pinned.block).unwrap();
    }
    for gone in ["grandchild", "child", "parent", "stranger"] {
        assert!(bench.present(gone), "{gone}");
        bench.push_one_out().unwrap();
        assert!(!bench.present(gone), "{gone}");
    }
}

#[test]
fn a_parent_that_comes_back_has_its_children_again() {
    let mut bench = Bench::new(128);
    bench.put("parent", None);
    bench.put("child", Some("parent"));
    assert!(bench.pool.delete(&key("parent"), bench.now));
    bench.put("parent", None);
    bench.push_one_out().unwrap();
    assert!(bench.present("parent") && !bench.present("child"));
}

#[test]
fn a_pinned_child_keeps_its_parents() {
    let mut bench = Bench::new(128);
    bench.put("parent", None);
    bench.put("child", Some("parent"));
    bench.pin("child").unwrap();
    assert_eq!(bench.push_one_out(), Err(NoRoom::Full));
    bench.pool.drop_owner(READER);
    bench.push_one_out().unwrap();
    assert!(bench.present("parent"));
}

#[test]
fn circles_of_parents_can_be_evicted() {
    let mut bench = Bench::new(320);
    bench.put("own parent", Some("own parent"));
    for (name, parent) in [("a", "c"), ("b", "a"), ("c", "b"), ("above the circle", "a")] {
        bench.put(name, Some(parent));
    }
    for _ in 0..5 {
        bench.push_one_out().unwrap();
    }
    assert_eq!(bench.pool.stats().sealed.blocks, 0);
    assert_eq!(bench.pool.stats().evictions, 5);
}

#[test]
fn a_circle_cannot_be_closed_by_replacing_a_member() {
    let mut bench = Bench::new(256);
    bench.put("a", Some("b"));
    bench.put("b", None);
    bench.pool.delete(&key("b"), bench.now);
    bench.put("b", Some("a"));
    bench.create(1, "c");
    bench.push_one_out().unwrap();
    bench.pool.seal(WRITER, SlotId(1), bench.now).unwrap();
    for _ in 0..3 {
        bench.push_one_out().unwrap();
    }
    assert_eq!(bench.pool.stats().sealed.blocks, 0);
}

#[test]
fn a_second_put_frees_its_room_and_counts_as_a_use() {
    let mut bench = Bench::new(192);
    assert_eq!(bench.put("a", None), PutOutcome::Stored);
    bench.put("b", None);
    let free = bench.pool.stats().free;
    assert_eq!(bench.put("a", None), PutOutcome::AlreadyPresent);
    assert_eq!(bench.pool.stats().free, free);
    bench.push_one_out().unwrap();
    bench.push_one_out().unwrap();
    assert!(bench.present("a") && !bench.present("b"));
}

#[test]
fn a_sealed_block_takes_the_name_of_a_growing_one_whose_reader_reads_on() {
    let mut bench = Bench::new(4096);
    bench.create(1, "a");
    let followed = bench.pin("a").unwrap();
    assert_eq!(bench.put("a", None), PutOutcome::Stored);
    assert_eq!(bench.pool.lookup(&key("a"), bench.now), Lookup::Sealed { len: 64 });
    bench.pool.advance(WRITER, SlotId(1), 10).unwrap();
    assert_eq!(bench.pool.progress(followed.block), Some(Progress::Growing { readable: 10 }));
    bench.pool.seal(WRITER, SlotId(1), bench.now).unwrap();
    assert_eq!(bench.pool.progress(followed.block), Some(Progress::Sealed));
    assert_eq!(bench.pool.stats().detached, Tally { blocks: 1, bytes: 64 });
    bench.pool.unpin(READER, followed.block).unwrap();
    assert_eq!(bench.pool.progress(followed.block), None);
    assert_eq!(bench.pool.stats().free, 4096 - 64);
}

#[test]
fn readers_of_a_block_whose_writer_dies_learn_that_it_is_lost_and_keep_its_bytes() {
    let mut bench = Bench::new(4096);
    bench.create(1, "a");
    let Pinned { block, extent, .. } = bench.pin("a").unwrap();
    bench.pool.take_events();
    bench.pool.drop_owner(WRITER);
    assert_eq!(bench.pool.take_events(), [Event::Lost { key: key("a"), block }]);
    assert_eq!(bench.pool.progress(block), Some(Progress::Lost));
    assert!(!bench.present("a"));
    assert_eq!(bench.pool.stats().free, 4096 - extent.len);
    bench.pool.drop_owner(READER);
    assert_eq!(bench.pool.stats().free, 4096);
}

#[test]
fn the_second_writer_of_a_key_takes_over_when_the_first_is_lost() {
    let mut bench = Bench::new(4096);
    assert_eq!(bench.create(1, "a"), CreateOutcome::Growing);
    assert_eq!(bench.create(2, "a"), CreateOutcome::AlreadyPresent);
    bench.pool.advance(WRITER, SlotId(2), 64).unwrap();
    bench.pool.abandon(WRITER, SlotId(1)).unwrap();
    assert!(!bench.present("a"));
    bench.pool.seal(WRITER, SlotId(2), bench.now).unwrap();
    assert_eq!(bench.pool.lookup(&key("a"), bench.now), Lookup::Sealed { len: 64 });
}

#[test]
fn the_second_writer_of_a_key_is_freed_when_the_first_is_sealed() {
    let mut bench = Bench::new(4096);
    bench.create(1, "a");
    bench.create(2, "a");
    bench.pool.seal(WRITER, SlotId(1), bench.now).unwrap();
    bench.pool.seal(WRITER, SlotId(2), bench.now).unwrap();
    assert_eq!(bench.pool.stats().free, 4096 - 64);
    assert_eq!(bench.pool.stats().detached.blocks, 0);
}

#[test]
fn a_deleted_block_keeps_its_bytes_until_the_last_pin_ends() {
    let mut bench = Bench::new(4096);
    bench.put("a", None);
    let first = bench.pin("a").unwrap();
    let again = bench.pin("a").unwrap();
    assert_eq!(first.block, again.block);
    assert!(bench.pool.delete(&key("a"), bench.now) && !bench.pool.delete(&key("a"), bench.now));
    bench.pool.unpin(READER, first.block).unwrap();
    assert_eq!(bench.pool.stats().free, 4096 - 64);
    bench.pool.unpin(READER, first.block).unwrap();
    assert_eq!(bench.pool.stats().free, 4096);
    assert_eq!(bench.pool.unpin(READER, first.block), Err(Misuse::NotPinned { block: first.block }));
}

#[test]
fn a_block_is_not_found_from_the_moment_its_time_is_over() {
    let mut bench = Bench::new(4096);
    bench.put_for("a", 10);
    bench.pass(9);
    assert!(bench.present("a"));
    bench.pass(1);
    assert!(!bench.present("a") && bench.pin("a").is_none() && !bench.pool.delete(&key("a"), bench.now));
    bench.put_for("a", 10);
    bench.put_for("b", 5);
    assert!(bench.present("a"));
    bench.pass(5);
    assert_eq!(bench.pool.expire(bench.now), 1);
    assert!(bench.present("a"));
}

#[test]
fn expired_blocks_go_before_any_block_is_evicted() {
    let mut bench = Bench::new(128);
    bench.put("old", None);
    bench.put_for("short", 1);
    bench.pass(1);
    bench.push_one_out().unwrap();
    assert!(bench.present("old"));
    assert_eq!((bench.pool.stats().expired, bench.pool.stats().evictions), (1, 0));
}

#[test]
fn a_second_put_makes_a_block_live_longer_and_never_shorter() {
    let mut bench = Bench::new(4096);
    bench.put_for("a", 10);
    bench.put_for("a", 5);
    bench.pass(6);
    assert!(bench.present("a"));
    bench.put_for("a", 10);
    bench.pass(9);
    assert!(bench.present("a"));
    bench.put("a", None);
    bench.pass(1_000_000);
    assert!(bench.present("a") && bench.pool.expire(bench.now) == 0);
}

#[test]
fn a_growing_blocks_time_begins_when_it_is_sealed() {
    let mut bench = Bench::new(4096);
    let record = CreateRecord { time_to_live: Some(Duration::from_secs(5)), ..bench.creation(1, "a") };
    bench.pool.create(WRITER, record, bench.now).unwrap();
    bench.pass(100);
    bench.pool.seal(WRITER, SlotId(1), bench.now).unwrap();
    bench.pass(4);
    assert!(bench.present("a"));
    bench.pass(1);
    assert!(!bench.present("a"));
}

#[test]
fn a_time_to_live_beyond_all_clocks_is_for_ever() {
    let mut bench = Bench::new(4096);
    bench.put_for("a", u64::MAX);
    assert!(bench.present("a"));
}

#[test]
fn the_prefix_counts_sealed_blocks_up_to_the_first_growing_one() {
    let mut bench = Bench::new(4096);
    for name in ["a", "b", "d"] {
        bench.put(name, None);
    }
    bench.create(1, "c");
    let keys = ["a", "b", "c", "d", "e", "a"].map(key);
    assert_eq!(bench.pool.longest_prefix(&keys, bench.now), Prefix { sealed: 2, present: 4 });
    assert_eq!(bench.pool.longest_prefix(&keys[4..], bench.now), Prefix::default());
    assert_eq!(bench.pool.longest_prefix(&[], bench.now), Prefix::default());
}

#[test]
fn a_pin_of_sealed_blocks_misses_a_growing_one() {
    let mut bench = Bench::new(4096);
    bench.create(1, "a");
    assert_eq!(bench.pool.pin(READER, &key("a"), PinWhat::Sealed, bench.now), None);
    let followed = bench.pin("a").unwrap();
    assert_eq!((followed.readable, followed.sealed), (0, false));
    assert_eq!((bench.pool.stats().hits, bench.pool.stats().misses), (1, 1));
}

#[test]
fn events_tell_each_step_of_a_block_that_can_be_found() {
    let mut bench = Bench::new(4096);
    bench.create(1, "a");
    let Pinned { block, .. } = bench.pin("a").unwrap();
    bench.pool.advance(WRITER, SlotId(1), 10).unwrap();
    bench.pool.advance(WRITER, SlotId(1), 10).unwrap();
    bench.pool.seal(WRITER, SlotId(1), bench.now).unwrap();
    let key = key("a");
    let readable = Event::Readable { key, block };
    assert_eq!(bench.pool.take_events(), [readable, readable, Event::Sealed { key, block }]);
    assert_eq!(bench.pool.take_events(), []);
}

#[test]
fn freed_room_is_told_once_and_only_after_a_refusal() {
    let mut bench = Bench::new(128);
    let first = bench.push_one_out().unwrap();
    let second = bench.push_one_out().unwrap();
    bench.pool.give_back(WRITER, second).unwrap();
    let second = bench.push_one_out().unwrap();
    assert_eq!(bench.pool.take_events(), []);
    assert_eq!(bench.push_one_out(), Err(NoRoom::Full));
    assert_eq!(bench.push_one_out(), Err(NoRoom::Full));
    bench.pool.give_back(WRITER, first).unwrap();
    bench.pool.give_back(WRITER, second).unwrap();
    assert_eq!(bench.pool.take_events(), [Event::RoomFreed]);
}

#[test]
fn a_block_larger_than_the_pool_never_fits() {
    let mut bench = Bench::new(8192);
    let mut ask = |min, want| bench.pool.grant(WRITER, GrantAsk { min, want }, bench.now);
    for min in [8193, u64::MAX, u64::MAX - 64] {
        assert_eq!(ask(min, min), Err(NoRoom::NeverFits { capacity: 8192 }));
    }
    assert_eq!(ask(0, u64::MAX), Ok(Extent { offset: 0, len: 8192 }));
    assert_eq!(ask(0, 0), Err(NoRoom::Full));
}

#[test]
fn a_grant_that_cannot_succeed_evicts_nothing() {
    let mut bench = Bench::new(16384);
    bench.put("a", None);
    bench.create(1, "b");
    for asked in [8192, 4096] {
        bench.pool.grant(WRITER, GrantAsk { min: asked, want: asked }, bench.now).unwrap();
    }
    assert_eq!(bench.pool.grant(WRITER, GrantAsk { min: 8192, want: 8192 }, bench.now), Err(NoRoom::Full));
    assert!(bench.present("a"));
}

#[test]
fn whatever_its_surroundings_a_grant_has_room_for_the_block_it_was_asked_for() {
    let mut bench = Bench::new(3 * 4096);
    let small = bench.room(64);
    let mut region = bench.pool.grant(WRITER, GrantAsk { min: 5000, want: 5000 }, bench.now).unwrap();
    assert!(region.carve(8192).is_some());
    assert_eq!(bench.pool.stats().granted, 64 + 8192);
    assert_eq!(small.len, 64);
}

#[test]
fn a_misuse_is_told_and_changes_nothing() {
    let mut bench = Bench::new(65536);
    let extent = bench.room(10);
    let good = PutRecord { key: key("a"), parent: None, extent, len: 10, time_to_live: None };
    let creation = CreateRecord {
        slot: SlotId(1),
        key: key("a"),
        parent: None,
        extent: bench.room(64),
        len: 64,
        time_to_live: None,
        teller: Teller::Pool,
    };
    let second = CreateRecord { extent: bench.room(64), ..creation };
    bench.pool.create(WRITER, creation, bench.now).unwrap();
    bench.pool.advance(WRITER, SlotId(1), 5).unwrap();
    let before = bench.pool.stats();
    let now = bench.now;
    let pool = &mut bench.pool;

    let mut put = |owner, record| pool.put(owner, record, now).unwrap_err();
    let at = |offset, len| Extent { offset, len };
    assert_eq!(put(READER, good), Misuse::NotGranted { extent });
    assert!(matches!(put(WRITER, PutRecord { len: 65, ..good }), Misuse::WrongRoom { .. }));
    assert!(matches!(put(WRITER, PutRecord { len: u64::MAX, ..good }), Misuse::WrongRoom { .. }));
    for wrong in [at(extent.offset + 1, 64), at(u64::MAX, 64)] {
        assert_eq!(put(WRITER, PutRecord { extent: wrong, ..good }), Misuse::Misaligned { extent: wrong });
    }
    let beyond = at(u64::MAX - 63, 64);
    assert_eq!(put(WRITER, PutRecord { extent: beyond, ..good }), Misuse::NotGranted { extent: beyond });
    assert_eq!(
        put(WRITER, PutRecord { extent: creation.extent, len: 64, ..good }),
        Misuse::NotGranted { extent: creation.extent }
    );
    let unaligned_page = at(64, 4096);
    assert_eq!(
        put(WRITER, PutRecord { extent: unaligned_page, len: 4096, ..good }),
        Misuse::Misaligned { extent: unaligned_page }
    );

    assert_eq!(pool.create(WRITER, second, now), Err(Misuse::SlotTaken { slot: SlotId(1) }));
    let mut advance = |owner, slot, readable| pool.advance(owner, SlotId(slot), readable).unwrap_err();
    assert_eq!(advance(WRITER, 2, 5), Misuse::UnknownSlot { slot: SlotId(2) });
    assert_eq!(advance(READER, 1, 5), Misuse::UnknownSlot { slot: SlotId(1) });
    assert_eq!(advance(WRITER, 1, 65), Misuse::WrongProgress { readable: 65, before: 5, len: 64 });
    assert_eq!(advance(WRITER, 1, 4), Misuse::WrongProgress { readable: 4, before: 5, len: 64 });
    assert!(pool.seal(READER, SlotId(1), now).is_err() && pool.abandon(READER, SlotId(1)).is_err());

    let none = BlockId::from_u64(u64::MAX);
    assert_eq!(pool.unpin(READER, none), Err(Misuse::NotPinned { block: none }));
    for wrong in [at(extent.offset, 0), at(extent.offset, 63), at(1, 64), at(u64::MAX, u64::MAX)] {
        assert!(matches!(pool.give_back(WRITER, wrong), Err(Misuse::Misaligned { .. })), "{wrong:?}");
    }
    assert_eq!(pool.give_back(WRITER, creation.extent), Err(Misuse::NotGranted { extent: creation.extent }));

    assert_eq!(pool.stats(), before);
    assert_eq!(pool.put(WRITER, good, now), Ok(PutOutcome::Stored));
    pool.seal(WRITER, SlotId(1), now).unwrap();
}

#[test]
fn an_owner_that_goes_leaves_nothing_but_its_sealed_blocks() {
    let mut bench = Bench::new(4096);
    bench.put("a", None);
    bench.create(1, "b");
    bench.create(2, "a");
    bench.room(640);
    bench.pool.pin(WRITER, &key("a"), PinWhat::Sealed, bench.now).unwrap();
    bench.pool.pin(WRITER, &key("b"), PinWhat::Readable, bench.now).unwrap();
    bench.pool.drop_owner(WRITER);
    bench.pool.drop_owner(WRITER);
    let stats = bench.pool.stats();
    assert_eq!((stats.free, stats.granted), (4096 - 64, 0));
    assert_eq!((stats.pinned.blocks, stats.growing.blocks, stats.detached.blocks), (0, 0, 0));
    assert!(bench.present("a") && !bench.present("b"));
}
