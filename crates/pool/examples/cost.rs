//! What the pool's bookkeeping costs, without sockets and without copying: `cargo run --release -p chariot-pool
//! --example cost`. Medians over many batches of 64 blocks of 1 KiB, in nanoseconds a block.

use std::hint::black_box;
use std::time::Instant;

use chariot_index::Index;
use chariot_pool::{Event, GrantAsk, OwnerId, PinWhat, Pool, PutOutcome, PutRecord};
use chariot_types::{Extent, Key};

const OWNER: OwnerId = OwnerId(1);
const BATCH: u64 = 64;
const BLOCK: u64 = 1024;
const ROUNDS: u64 = 2_000;

fn main() {
    for resident in [0, 10_000, 1_000_000] {
        println!("alone, ");
        measure(resident, Pool::new);
        println!("shared with clients, ");
        measure(resident, |capacity| Pool::shared(capacity, Index::create(4 * capacity).expect("a little memory")));
    }
    full();
}

fn measure(resident: u64, pool: impl FnOnce(u64) -> Pool) {
    {
        // The blocks put during the measurement fit as well, so that nothing is evicted.
        let mut pool = pool((resident + (ROUNDS + 1) * BATCH) * BLOCK);
        (0..resident / BATCH).for_each(|batch| put(&mut pool, batch, BATCH * BLOCK));
        let first = resident / BATCH;
        println!("beside {resident} blocks:");
        print("put", (0..ROUNDS).map(|round| time(|| put(&mut pool, first + round, BATCH * BLOCK))));
        // Far apart, so that at a million blocks little of what is read is in a cache.
        let far = |round: u64| (round * 7_919) % (first + ROUNDS);
        print("pin and unpin", (0..ROUNDS).map(|round| time(|| get(&mut pool, far(round)))));
        print("longest prefix", (0..ROUNDS).map(|round| time(|| prefix(&pool, far(round)))));
    }
}

fn full() {
    let mut pool = Pool::new(1_000_000 * BLOCK);
    (0..1_000_000 / BATCH).for_each(|batch| put(&mut pool, batch, BATCH * BLOCK));
    println!("in a pool of 1000000 blocks that is full:");
    print("put, one evicted for each", (0..ROUNDS).map(|round| time(|| put(&mut pool, 1_000_000 + round, BLOCK))));
}

fn key(batch: u64, at: u64) -> Key {
    let mut bytes = [0; Key::LEN];
    bytes[..8].copy_from_slice(&batch.to_le_bytes());
    bytes[8..16].copy_from_slice(&at.to_le_bytes());
    Key::from_bytes(bytes)
}

/// A batch that is one prefix chain, from regions of at least `min` bytes.
fn put(pool: &mut Pool, batch: u64, min: u64) {
    let now = Instant::now();
    let mut region = Extent { offset: 0, len: 0 };
    for at in 0..BATCH {
        while region.len < BLOCK {
            region = pool.grant(OWNER, GrantAsk { min, want: BATCH * BLOCK }, now).expect("nothing is pinned");
        }
        let extent = region.carve(BLOCK).expect("regions are whole blocks").carved;
        let parent = at.checked_sub(1).map(|before| key(batch, before));
        let record = PutRecord { key: key(batch, at), parent, extent, len: BLOCK, time_to_live: None };
        assert_eq!(pool.put(OWNER, record, now), Ok(PutOutcome::Stored));
    }
    let events: Vec<Event> = pool.take_events();
    assert_eq!(events.len() as u64, BATCH);
}

fn get(pool: &mut Pool, batch: u64) {
    let now = Instant::now();
    let pins = (0..BATCH).map(|at| pool.pin(OWNER, &key(batch, at), PinWhat::Sealed, now).expect("it was put").block);
    let pins: Vec<_> = pins.collect();
    for block in pins {
        pool.unpin(OWNER, block).expect("it was pinned");
    }
}

fn prefix(pool: &Pool, batch: u64) {
    let keys: Vec<Key> = (0..BATCH).map(|at| key(batch, at)).collect();
    assert_eq!(black_box(pool.longest_prefix(&keys, Instant::now())).sealed as u64, BATCH);
}

fn time(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / BATCH as f64
}

fn print(what: &str, rounds: impl Iterator<Item = f64>) {
    let mut rounds: Vec<f64> = rounds.collect();
    rounds.sort_unstable_by(f64::total_cmp);
    println!(
        "  {what:<28} {:7.0} ns a block, 99% below {:7.0}",
        rounds[rounds.len() / 2],
        rounds[rounds.len() * 99 / 100]
    );
}
