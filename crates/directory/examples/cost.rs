//! What a directory costs: `cargo run --release -p chariot-directory --example cost`. Memory as the allocator counts it,
//! and nanoseconds a key, for keys that are really inserted.

#![allow(unsafe_code, reason = "an allocator that counts is one that forwards")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chariot_directory::{Directory, Limits, Sweep, owner};
use chariot_types::{Key, Member, RunId};

/// Bytes allocated now, and the most there have been.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: both calls are forwarded to the system's allocator as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn main() {
    owners();
    for count in [1_000_000, 1_400_000, 2_000_000, 10_000_000] {
        directory(count);
    }
}

fn owners() {
    let members: Vec<Member> = (0..3).map(member).collect();
    let keys: Vec<Key> = (0..1_000).map(key).collect();
    let rounds = (0..200).map(|_| {
        let begin = Instant::now();
        keys.iter().for_each(|key| {
            black_box(owner(&members, key));
        });
        begin.elapsed()
    });
    println!("owners of 1000 keys over 3 members: {:.1} us", middle(rounds.collect()).as_secs_f64() * 1e6);
}

fn directory(count: u64) {
    println!("{count} keys:");
    let before = ALLOCATED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let mut directory = Directory::new(member(0).run, Limits::default());
    let slowest = announce(&mut directory, 1, count);
    let held = ALLOCATED.load(Ordering::Relaxed) - before;
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!("  memory, one holder           {:6.1} bytes a key, {:.1} at most", per(held, count), per(peak, count));
    println!("  the slowest 1000 announced   {:6.0} us", slowest.as_secs_f64() * 1e6);
    look_up(&directory, count);
    announce(&mut directory, 2, count);
    let held = ALLOCATED.load(Ordering::Relaxed) - before;
    println!("  memory, two holders          {:6.1} bytes a key", per(held, count));
    let begin = Instant::now();
    directory.retain(&[member(0), member(1), member(3)]);
    let mut steps = Vec::new();
    let mut more = Sweep::More;
    while more == Sweep::More {
        let step = Instant::now();
        more = directory.sweep();
        steps.push(step.elapsed());
    }
    let slowest = steps.iter().max().expect("a sweep has steps").as_secs_f64() * 1e6;
    println!(
        "  sweep after a change         {:6.1} ms, its slowest step {slowest:.0} us",
        begin.elapsed().as_secs_f64() * 1e3
    );
}

/// Announces in batches as they come over a connection, and returns the time that the slowest took.
fn announce(directory: &mut Directory, holder: u8, count: u64) -> Duration {
    let (mut whole, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for batch in 0..count / 1_000 {
        let keys: [Key; 1_000] = std::array::from_fn(|at| key(batch * 1_000 + at as u64));
        let begin = Instant::now();
        black_box(directory.announce(member(holder).run, &keys));
        whole += begin.elapsed();
        slowest = slowest.max(begin.elapsed());
    }
    println!("  announce by holder {holder}         {:6.0} ns a key", per(whole.as_nanos() as usize, count));
    slowest
}

fn look_up(directory: &Directory, count: u64) {
    let rounds = (0..200u64).map(|round| {
        let keys: [Key; 1_000] = std::array::from_fn(|at| key((round * 7_919_000 + at as u64 * 104_729) % count));
        let begin = Instant::now();
        let found = keys.iter().filter(|key| directory.holders(key).next().is_some()).count();
        assert_eq!(found, keys.len());
        begin.elapsed()
    });
    println!("  look-up of 1000 keys         {:6.1} us", middle(rounds.collect()).as_secs_f64() * 1e6);
}

fn key(number: u64) -> Key {
    let mut bytes = [0; Key::LEN];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    Key::from_bytes(bytes)
}

fn member(number: u8) -> Member {
    let run = *Key::of_name(&[number]).as_bytes().first_chunk().expect("a run is shorter than a key");
    Member { run: RunId::from_bytes(run), address: format!("node{number}:31501").parse().expect("it is one") }
}

fn per(whole: usize, count: u64) -> f64 {
    whole as f64 / count as f64
}

fn middle(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}
