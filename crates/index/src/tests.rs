//! The parts of the crate against each other, as a worker and its clients use them.

#![cfg(not(loom))]

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use chariot_types::Key;
use proptest::prelude::*;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::pin_table::{RING, SLOTS};
use crate::{Found, Held, Index, Listing, MemoryError, Pinning, Pins, View, Want};

fn key(name: u64) -> Key {
    Key::of_name(&name.to_le_bytes())
}

fn listing(block: u64) -> Listing {
    Listing {
        key: key(block),
        block,
        offset: block * 64,
        len: 64,
        readable: 64,
        sealed: true,
        deadline: crate::deadline::Deadline::default(),
    }
}

/// An index, and a client of it.
struct Pair {
    index: Index,
    view: View,
    pins: Pins,
}

impl Pair {
    fn of_arena(bytes: u64) -> Self {
        let mut index = Index::create(bytes).unwrap();
        let pins = Pins::map(index.readers_mut().enter(1).unwrap()).unwrap();
        let view = View::map(&index).unwrap();
        Self { index, view, pins }
    }

    fn list(&mut self, block: u64) {
        self.index.list(block as usize, &listing(block));
    }

    fn pin(&self, block: u64) -> Held {
        match self.pins.pin(&self.view, &key(block), Want::Whole) {
            Pinning::Pinned(found, held) => {
                assert_eq!(found, listing(block));
                held
            }
            other => panic!("block {block}: {other:?}"),
        }
    }
}

#[test]
fn what_is_listed_is_found_until_it_is_delisted() {
    let mut pair = Pair::of_arena(1 << 20);
    assert_eq!(pair.view.find(&key(7)), Found::Absent);
    pair.list(7);
    assert_eq!(pair.view.find(&key(7)), Found::Listed(listing(7)));
    let growing = Listing { sealed: false, readable: 3, ..listing(8) };
    pair.index.list(8, &growing);
    assert_eq!(pair.pins.pin(&pair.view, &key(8), Want::Whole), Pinning::Growing(growing));
    pair.index.update(8, &listing(8));
    assert_eq!(pair.view.find(&key(8)), Found::Listed(listing(8)));
    pair.index.delist(7);
    assert_eq!(pair.view.find(&key(7)), Found::Absent);
    assert_eq!(pair.pins.pin(&pair.view, &key(7), Want::Whole), Pinning::Absent);
}

#[test]
fn a_pin_is_held_from_its_making_to_its_end() {
    let mut pair = Pair::of_arena(1 << 20);
    pair.list(1);
    let (first, second) = (pair.pin(1), pair.pin(1));
    pair.index.delist(1);
    assert!(pair.index.readers().held().contains(&1));
    pair.pins.release(first);
    assert!(pair.index.readers().held().contains(&1) && pair.pins.still_holds(&second));
    pair.pins.release(second);
    assert!(pair.index.readers().held().is_empty());
    let tally = pair.index.readers().tally();
    assert_eq!((tally.hits, tally.hit_bytes), (2, 128));
}

#[test]
fn pins_go_with_their_client_and_it_can_tell() {
    let mut pair = Pair::of_arena(1 << 20);
    pair.list(1);
    let held = pair.pin(1);
    assert!(pair.index.readers_mut().leave(1) && !pair.index.readers_mut().leave(1));
    assert!(pair.index.readers().held().is_empty());
    assert!(!pair.pins.still_holds(&held) && pair.pins.are_closed());
    assert_eq!(pair.index.readers().tally().hits, 1, "what it found still counts");
}

#[test]
fn only_pins_that_stay_in_the_way_are_taken_away() {
    let mut pair = Pair::of_arena(1 << 20);
    (1..=2).for_each(|block| pair.list(block));
    let (start, patience) = (Instant::now(), Duration::from_secs(30));
    let long = pair.pin(1);
    assert_eq!(pair.index.readers_mut().revoke_long_held(start, patience), 0);
    let late = pair.pin(2);
    assert_eq!(pair.index.readers_mut().revoke_long_held(start + patience / 2, patience), 0);
    assert_eq!(pair.index.readers_mut().revoke_long_held(start + patience, patience), 1);
    assert!(!pair.pins.still_holds(&long) && pair.pins.still_holds(&late));
    assert_eq!(pair.index.readers().held(), HashSet::from_iter([2]));
    pair.pins.release(long);
    pair.index.readers_mut().forgive();
    assert_eq!(pair.index.readers_mut().revoke_long_held(start + 2 * patience, patience), 0);
    assert!(pair.pins.still_holds(&late));
}

#[test]
fn a_client_with_all_slots_in_use_is_sent_to_the_worker() {
    let mut pair = Pair::of_arena(1 << 20);
    pair.list(1);
    let mut held: Vec<_> = (0..SLOTS).map(|_| pair.pin(1)).collect();
    assert_eq!(pair.pins.pin(&pair.view, &key(1), Want::Whole), Pinning::Unsure);
    pair.pins.release(held.pop().unwrap());
    let again = pair.pin(1);
    held.into_iter().chain([again]).for_each(|held| pair.pins.release(held));
    assert!(pair.index.readers().held().is_empty());
}

#[test]
fn the_last_uses_reach_the_worker_in_their_order() {
    let mut pair = Pair::of_arena(1 << 20);
    let uses = |pair: &mut Pair| {
        let mut uses = Vec::new();
        pair.index.readers_mut().drain_uses(|block| uses.push(block));
        uses
    };
    (1..=3).for_each(|block| pair.list(block));
    for block in [3, 1, 2] {
        let held = pair.pin(block);
        pair.pins.release(held);
    }
    assert_eq!(uses(&mut pair), [3, 1, 2]);
    assert!(uses(&mut pair).is_empty());
    for block in std::iter::repeat_n(1, RING).chain([2, 3]) {
        let held = pair.pin(block);
        pair.pins.release(held);
    }
    let last = uses(&mut pair);
    assert_eq!((last.len(), &last[RING - 2..]), (RING, &[2, 3][..]));
}

#[test]
fn what_does_not_fit_leaves_a_doubt_and_nothing_else() {
    let mut pair = Pair::of_arena(1);
    let beyond = 1 << 20;
    pair.list(1);
    pair.index.list(beyond, &listing(2));
    assert_eq!(pair.view.find(&key(2)), Found::Unsure);
    assert_eq!(pair.view.find(&key(1)), Found::Listed(listing(1)));
    pair.index.update(beyond, &listing(2));
    pair.index.delist(beyond);
    assert_eq!(pair.view.find(&key(2)), Found::Absent);
    pair.index.list(3, &Listing { len: Listing::MAX_LEN, ..listing(3) });
    assert_eq!(pair.view.find(&key(3)), Found::Unsure);
}

#[test]
fn a_full_index_has_room_for_all_its_blocks() {
    let entries = 1 << 14;
    let mut pair = Pair::of_arena(entries << 12);
    (0..entries).for_each(|number| pair.index.list(number as usize, &listing(number + 1)));
    for round in 0..4 {
        for number in 0..entries {
            pair.index.delist(number as usize);
            pair.index.list(number as usize, &listing((round + 1) * entries + number + 1));
        }
    }
    assert_eq!(pair.view.find(&key(0)), Found::Absent, "nothing was left unlisted");
    assert!((0..entries).all(|number| pair.view.find(&key(4 * entries + number + 1)) != Found::Absent));
}

#[test]
fn a_block_whose_time_may_be_over_is_for_the_worker_to_judge() {
    let mut pair = Pair::of_arena(1 << 20);
    let over = Listing { deadline: pair.index.deadline(Some(Instant::now())), ..listing(1) };
    let later = Listing { deadline: pair.index.deadline(Some(Instant::now() + Duration::from_secs(60))), ..listing(2) };
    pair.index.list(1, &over);
    pair.index.list(2, &later);
    assert_eq!(pair.view.find(&key(1)), Found::Unsure);
    assert_eq!(pair.view.find(&key(2)), Found::Listed(later));
}

#[test]
fn no_client_can_write_the_index() {
    let index = Index::create(1 << 20).unwrap();
    let file = index.as_fd();
    assert_eq!(rustix::io::pwrite(file, &[1], 0), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(file, 0), Err(Errno::PERM));
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses an address range that nothing else uses, if it maps anything at all.
    let mapped = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, access, MapFlags::SHARED, file, 0) };
    assert_eq!(mapped, Err(Errno::PERM));
}

#[test]
fn only_what_a_worker_made_is_mapped() {
    let unsealed = rustix::fs::memfd_create("unsealed", MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&unsealed, 1 << 20).unwrap();
    assert!(matches!(View::map(&unsealed), Err(MemoryError::NotSealed)));
    let mut index = Index::create(1 << 20).unwrap();
    let pins = index.readers_mut().enter(1).unwrap();
    assert!(matches!(View::map(&pins), Err(MemoryError::Unknown { .. })));
    // The index cannot be mapped to write.
    assert!(matches!(Pins::map(&index), Err(MemoryError::Map { .. })));
}

proptest! {
    #[test]
    fn whatever_a_client_writes_in_its_table_the_worker_goes_on(words in proptest::collection::vec((0usize..17_920, any::<u64>()), 1..50)) {
        let mut pair = Pair::of_arena(1 << 20);
        pair.list(1);
        let file = pair.index.readers_mut().enter(2).unwrap();
        for (at, word) in words {
            rustix::io::pwrite(&file, &word.to_ne_bytes(), 8 * at as u64).unwrap();
        }
        let held = pair.pin(1);
        prop_assert!(pair.index.readers().held().contains(&1));
        let mut uses = 0;
        pair.index.readers_mut().drain_uses(|_| uses += 1);
        prop_assert!(uses <= 2 * RING);
        pair.index.readers().tally();
        let now = Instant::now();
        pair.index.readers_mut().revoke_long_held(now, Duration::from_secs(1));
        pair.pins.release(held);
        prop_assert!(pair.index.readers_mut().leave(2));
        prop_assert!(pair.index.readers().held().is_empty());
    }
}
