//! What eviction does for those who use a pool, as they see it: what they find.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::time::{Duration, Instant};

use chariot_pool::{
    GrantAsk, Lookup, NamespaceId, Origin, OwnerId, PinWhat, Pool, PutRecord, SoftPinOutcome, Tally, Terms, Whose,
};
use chariot_types::{Extent, Key};

const CLIENT: OwnerId = OwnerId(1);
const PEER: OwnerId = OwnerId(2);
const GUARDED: OwnerId = OwnerId(3);
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
        pool.agree(PEER, Terms { origin: Origin::Copied, ..Terms::default() });
        Self { pool, now: Instant::now() }
    }

    fn has(&self, key: &Key) -> bool {
        self.pool.lookup(key, self.now) != Lookup::Miss
    }

    fn put(&mut self, owner: OwnerId, key: Key, parent: Option<Key>) {
        let extent = self.pool.grant(owner, GrantAsk { min: LEN, want: LEN }, self.now).unwrap();
        self.pool.put(owner, PutRecord { key, parent, extent, len: LEN, time_to_live: None }, self.now).unwrap();
    }

    /// Blocks that follow each other, first to last.
    fn put_chain(&mut self, name: &str, len: u64) -> Vec<Key> {
        let chain: Vec<Key> = (0..len).map(|at| key(name, at)).collect();
        let parents = std::iter::once(None).chain(chain.iter().copied().map(Some));
        chain.iter().zip(parents).for_each(|(key, parent)| self.put(CLIENT, *key, parent));
        chain
    }

    fn namespace(&mut self, name: &str) -> NamespaceId {
        self.pool.namespace(&name.parse().unwrap())
    }

    fn writes_for(&mut self, owner: OwnerId, namespace: NamespaceId) {
        self.pool.agree(owner, Terms { namespace, ..Terms::default() });
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
        let chain = bench.put_chain(&format!("new {prompt}"), 15);
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
    let chain = bench.put_chain("chain", 10);
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

#[test]
fn a_flood_leaves_what_is_within_anothers_quota() {
    let mut bench = Bench::new(100);
    let (guarded, other) = (bench.namespace("guarded"), bench.namespace("other"));
    bench.pool.set_quota(guarded, 40 * LEN);
    bench.writes_for(GUARDED, guarded);
    bench.writes_for(CLIENT, other);
    (0..40).for_each(|at| bench.put(GUARDED, key("guarded", at), None));
    (0..1000).for_each(|at| bench.put(CLIENT, key("flood", at), None));
    assert!((0..40).all(|at| bench.has(&key("guarded", at))));
}

#[test]
fn room_that_nobody_wants_is_anybodys_until_somebody_does() {
    let mut bench = Bench::new(100);
    let (guarded, other) = (bench.namespace("guarded"), bench.namespace("other"));
    bench.pool.set_quota(guarded, 40 * LEN);
    bench.writes_for(GUARDED, guarded);
    bench.writes_for(CLIENT, other);
    (0..100).for_each(|at| bench.put(GUARDED, key("guarded", at), None));
    assert!((0..100).all(|at| bench.has(&key("guarded", at))), "a quota is no limit while there is room");
    (0..60).for_each(|at| bench.put(CLIENT, key("other", at), None));
    assert!((0..60).all(|at| bench.has(&key("other", at))));
    let held: Vec<u64> = bench.pool.namespaces().iter().map(|namespace| namespace.held.blocks).collect();
    assert_eq!(held, [40, 60]);
}

#[test]
fn where_all_is_within_quotas_there_is_room_all_the_same() {
    let mut bench = Bench::new(100);
    let guarded = bench.namespace("guarded");
    bench.pool.set_quota(guarded, 100 * LEN);
    bench.writes_for(GUARDED, guarded);
    (0..100).for_each(|at| bench.put(GUARDED, key("guarded", at), None));
    (0..1000).for_each(|at| bench.put(CLIENT, key("other", at), None));
    assert!(
        (0..100).filter(|at| bench.has(&key("guarded", *at))).count() >= 99,
        "who has no quota takes its own room first"
    );
}

#[test]
fn a_soft_pinned_chain_goes_last_but_goes() {
    let mut bench = Bench::new(100);
    let chain = bench.put_chain("hot", 20);
    assert_eq!(bench.pool.soft_pin(chain[19], None, bench.now), SoftPinOutcome::Pinned);
    assert_eq!(bench.pool.stats().soft_pinned, Tally { blocks: 20, bytes: 20 * LEN });
    bench.put(CLIENT, key("goes on", 0), Some(chain[19]));
    (0..1000).for_each(|at| bench.put(CLIENT, key("flood", at), None));
    assert!(chain.iter().all(|key| bench.has(key)) && !bench.has(&key("goes on", 0)));
    assert_eq!(bench.pool.evict_until_free(100 * LEN, 1000, bench.now), 100, "a soft pin is no pin");
    assert_eq!(bench.pool.stats().soft_pinned, Tally::default());
}

#[test]
fn a_soft_pin_ends_with_its_time_or_when_somebody_ends_it() {
    let mut bench = Bench::new(100);
    let (timed, ended) = (bench.put_chain("timed", 10), bench.put_chain("ended", 10));
    let minute = Duration::from_secs(60);
    assert_eq!(bench.pool.soft_pin(timed[9], Some(minute), bench.now), SoftPinOutcome::Pinned);
    assert_eq!(bench.pool.soft_pin(ended[9], None, bench.now), SoftPinOutcome::Pinned);
    assert!(bench.pool.soft_unpin(&ended[9]) && !bench.pool.soft_unpin(&ended[9]));
    (0..500).for_each(|at| bench.put(CLIENT, key("flood", at), None));
    assert!(bench.has(&timed[9]) && !bench.has(&ended[0]));
    bench.now += minute;
    (500..1000).for_each(|at| bench.put(CLIENT, key("flood", at), None));
    assert!(!bench.has(&timed[0]));
}

#[test]
fn soft_pins_share_what_their_chains_share_and_no_more_than_a_quarter_of_the_pool() {
    let mut bench = Bench::new(100);
    let chain = bench.put_chain("prompt", 20);
    let branches: Vec<Key> = (0..10).map(|at| key("branch", at)).collect();
    branches.iter().for_each(|branch| bench.put(CLIENT, *branch, Some(chain[19])));
    let outcomes: Vec<_> = branches.iter().map(|branch| bench.pool.soft_pin(*branch, None, bench.now)).collect();
    assert_eq!(outcomes[4], SoftPinOutcome::Pinned);
    assert_eq!(outcomes[5], SoftPinOutcome::NoShare { share: 25 * LEN, held: 25 * LEN, more: LEN });
    assert!(bench.pool.delete(&branches[0], bench.now));
    assert_eq!(bench.pool.soft_pin(branches[5], None, bench.now), SoftPinOutcome::Pinned);
    assert_eq!(bench.pool.soft_pin(key("nothing", 0), None, bench.now), SoftPinOutcome::Absent);
    branches[1..6].iter().for_each(|branch| assert!(bench.pool.soft_unpin(branch)));
    assert_eq!(bench.pool.stats().soft_pinned, Tally::default());
}

#[test]
fn what_is_asked_for_is_evicted_and_no_more() {
    let mut bench = Bench::new(100);
    let other = bench.namespace("other");
    bench.writes_for(GUARDED, other);
    let (hot, chain) = (bench.put_chain("hot", 5), bench.put_chain("chain", 40));
    (0..40).for_each(|at| bench.put(GUARDED, key("other", at), None));
    assert_eq!(bench.pool.soft_pin(hot[4], None, bench.now), SoftPinOutcome::Pinned);
    assert_eq!(bench.pool.evict_until_free(10 * LEN, 100, bench.now), 0, "so much is free");
    assert_eq!(bench.pool.evict_until_free(50 * LEN, 100, bench.now), 35);
    assert!(hot.iter().all(|key| bench.has(key)));
    let others = (0..40).filter(|at| bench.has(&key("other", *at))).count() as u64;
    assert_eq!(bench.pool.evict_all(Whose::Namespace(other), 0, usize::MAX), (others, None));
    assert!(chain.iter().any(|key| bench.has(key)));
    let left = bench.pool.stats().sealed.blocks;
    assert_eq!(bench.pool.evict_all(Whose::Everybody, 0, usize::MAX), (left, None), "soft-pinned ones as well");
}

#[test]
fn blocks_that_leave_keep_their_bytes_until_they_are_unpinned() {
    let mut bench = Bench::new(100);
    let chain = bench.put_chain("chain", 100);
    let free = bench.pool.free_room();
    let leaving = bench.pool.evict_to(CLIENT, 10 * LEN, 1000, bench.now);
    let keys: Vec<Key> = leaving.iter().map(|leaving| leaving.block.key).collect();
    assert_eq!(keys, chain[90..].iter().rev().copied().collect::<Vec<_>>(), "children first");
    assert_eq!(leaving[0].block.parent, Some(chain[98]));
    assert!(chain.iter().enumerate().all(|(at, key)| bench.has(key) == (at < 90)));
    assert_eq!((bench.pool.free_room(), bench.pool.stats().detached.blocks), (free, 10));
    for leaving in &leaving {
        bench.pool.unpin(CLIENT, leaving.id).unwrap();
    }
    bench.pool.sweep();
    assert_eq!(bench.pool.free_room(), free + 10 * LEN);
}
