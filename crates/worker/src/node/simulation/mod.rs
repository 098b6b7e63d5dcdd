//! Clusters of real nodes over a network in memory, in virtual time, under whatever a seed brings.
//!
//! Members, directory, fabric, fetches and pools are those that ship; only sockets, etcd and clients are played. A seed
//! decides everything, so a run that fails is run again by its number:
//!
//! ```text
//! CHARIOT_SEED=1234 cargo test -p chariot-worker --lib simulation
//! CHARIOT_SEEDS=100000 cargo test -p chariot-worker --lib simulation --release
//! ```
//!
//! In every run: a get returns the right bytes or a miss, and neither later than it should; what all stop doing leaves
//! nothing behind; and once all is well again, whatever a live worker holds is found from every other.

#![allow(clippy::unwrap_used)] // a test

mod clients;
mod world;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use clients::Clients;
use world::World;

/// Runs of the test as it stands; more by `CHARIOT_SEEDS`.
const SEEDS: u64 = 1500;

/// How long a run is disturbed, in its own time.
const TROUBLE: Duration = Duration::from_secs(40);

/// Longer than anything takes to find out that all is well: leases, silences, pauses, waits at owners.
const PEACE: Duration = Duration::from_secs(60);

/// Says which seed it was when a run fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}: CHARIOT_SEED={0} runs it again", self.0);
        }
    }
}

fn run(seed: u64) {
    let _told = Told(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(random.fork());
        let clients = Clients::start(&world, random.fork());
        let end = Instant::now() + TROUBLE;
        while Instant::now() < end {
            sleep(Duration::from_millis(random.u64(1..1500))).await;
            world.trouble().await;
        }
        clients.end().await;
        world.heal().await;
        sleep(PEACE).await;
        world.assert_at_rest();
        world.assert_all_is_found().await;
        world.end().await;
    });
}

#[test]
fn clusters_in_trouble_serve_right_bytes_or_a_miss_and_come_to_rest() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    match number("CHARIOT_SEED") {
        Some(seed) => run(seed),
        None => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
            let seeds: u64 = number("CHARIOT_SEEDS").unwrap_or(SEEDS);
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    scope.spawn(move || (thread..seeds).step_by(threads as usize).for_each(run));
                }
            });
        }
    }
}

#[test]
fn a_seed_decides_a_run() {
    let trace = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut world = World::new(random.fork());
            let clients = Clients::start(&world, random.fork());
            for _ in 0..10 {
                sleep(Duration::from_millis(random.u64(1..1500))).await;
                world.trouble().await;
            }
            let trace = clients.end().await;
            world.end().await;
            trace
        })
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
