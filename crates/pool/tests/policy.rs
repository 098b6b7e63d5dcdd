//! What eviction does for those who use a pool, as they see it: what they find.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::time::Instant;

use chariot_pool::{GrantAsk, Lookup, Origin, OwnerId, PinWhat, Pool, PutRecord, Terms};
use chariot_types::{Extent, Key};

const CLIENT: OwnerId = OwnerId(1);
const PEER: OwnerId = OwnerId(2);
const LEN: u64 = Extent::ALIGN;

/// A pool of small blocks, and its users.
struct Bench {
    pool: Pool,
    now: Instant,
}

fn key(name: &str, number: u64) -> Key {
    Key::of_name(format!("{name} {number}").as_bytes())
}

impl Bench {
    fn new(blocks: u64) -> Self {
        let mut pool = Pool::new(blocks * LEN);
        pool.agree(PEER, Terms { origin: Origin::Copied });
        Self { pool, now: Instant::now() }
    }

    fn has(&self, key: &Key) -> bool {
        self.pool.lookup(key, self.now) != Lookup::Miss
    }

    fn put(&mut self, owner: OwnerId, key: Key, parent: Option<Key>) {
        let extent = self.pool.grant(owner, GrantAsk { min: LEN, want: LEN }, self.now).unwrap();
        self.pool.put(owner, PutRecord { key, parent, extent, len: LEN, time_to_live: None }, self.now).unwrap();
    }

    fn read(&mut self, key: &Key) -> bool {
        let pinned = self.pool.pin(CLIENT, key, PinWhat::Sealed, self.now);
        pinned.is_some_and(|pinned| self.pool.unpin(CLIENT, pinned.block).is_ok())
    }

    /// Whether a prompt of one block was found; it is put if not.
    fn ask(&mut self, key: Key) -> bool {
        let is_found = self.read(&key);
        if !is_found {
            self.put(CLIENT, key, None);
        }
        is_found
    }
}

#[test]
fn prompts_that_come_back_stay_through_a_scan() {
    let mut bench = Bench::new(500);
    // Each of 400 prompts comes every 2,000 requests, between which 1,600 come only once: by last use none would stay.
    let mut found = 0;
    for round in 0..20 {
        for prompt in 0..400 {
            found += u64::from(bench.ask(key("prompt", prompt)));
            (0..4).for_each(|one| assert!(!bench.ask(key("once", (round * 400 + prompt) * 4 + one))));
        }
    }
    assert!(found > 2000, "{found} of 8,000 were found");
}

#[test]
fn of_a_loop_that_is_larger_than_the_pool_a_part_is_found() {
    let mut bench = Bench::new(500);
    let found = (0..20_000).filter(|at| bench.ask(key("prompt", at % 1000))).count();
    // By last use, none. At best, half.
    assert!(found > 5000, "{found} of 20,000 were found");
}

#[test]
fn what_was_put_just_now_is_there_for_who_reads_it_next() {
    let mut bench = Bench::new(320);
    (0..20_000).for_each(|at| {
        bench.ask(key("prompt", at % 400));
    });
    for prompt in 0..100 {
        let chain: Vec<Key> = (0..15).map(|at| key("new", prompt * 15 + at)).collect();
        let parents = std::iter::once(None).chain(chain.iter().copied().map(Some));
        chain.iter().zip(parents).for_each(|(key, parent)| bench.put(CLIENT, *key, parent));
        assert!(chain.iter().all(|key| bench.read(key)), "prompt {prompt}");
    }
}

#[test]
fn copies_of_others_blocks_go_first() {
    let mut bench = Bench::new(100);
    (0..50).for_each(|at| bench.put(CLIENT, key("own", at), None));
    (0..50).for_each(|at| bench.put(PEER, key("copy", at), None));
    (0..40).for_each(|at| bench.put(CLIENT, key("new", at), None));
    assert!((0..50).all(|at| bench.has(&key("own", at))));
    assert_eq!((0..50).filter(|at| bench.has(&key("copy", *at))).count(), 10);
}

#[test]
fn copies_that_come_one_after_another_do_not_push_each_other_out() {
    let mut bench = Bench::new(320);
    (0..320).for_each(|at| bench.put(CLIENT, key("own", at), None));
    (0..18).for_each(|at| bench.put(PEER, key("copy", at), None));
    assert!((0..18).all(|at| bench.read(&key("copy", at))), "who pulled them finds them all");
}

#[test]
fn who_reads_only_the_end_of_a_chain_has_used_all_of_it() {
    let mut bench = Bench::new(100);
    let chain: Vec<Key> = (0..10).map(|at| key("chain", at)).collect();
    let parents = std::iter::once(None).chain(chain.iter().copied().map(Some));
    chain.iter().zip(parents).for_each(|(key, parent)| bench.put(CLIENT, *key, parent));
    (0..90).for_each(|at| bench.put(CLIENT, key("old", at), None));
    assert!(bench.read(&chain[9]));
    (0..90).for_each(|at| bench.put(CLIENT, key("new", at), None));
    assert!(chain.iter().all(|key| bench.has(key)), "all else was used before");
    let mut more = 90;
    while bench.has(&chain[5]) {
        bench.put(CLIENT, key("new", more), None);
        more += 1;
    }
    assert!(more < 300 && chain[..5].iter().all(|key| bench.has(key)), "its end goes first");
}
