//! Workers that serve and keep blocks in memory, on all kinds of network.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)] // each test file uses a part

pub mod block;
pub mod host;
pub mod net;
pub mod papers;
pub mod raw;

use std::time::Duration;

use chariot_types::{Key, RunId};
use chariot_wire::{Pull, Reach};

/// Long enough for anything that happens at all, on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(30);

pub fn key(name: impl AsRef<[u8]>) -> Key {
    Key::of_name(name.as_ref())
}

pub fn run(number: u8) -> RunId {
    RunId::from_bytes([number; RunId::LEN])
}

/// A pull of what the asked worker holds, or knows of.
pub fn pull(key: Key) -> Pull {
    Pull { key, reach: Reach::Owner, but: None, wait: 0 }
}

/// Bytes that tell their key and their place.
pub fn bytes_of(key: &Key, len: usize) -> Vec<u8> {
    let seed = key.as_bytes()[..8].iter().fold(1u64, |seed, byte| seed.wrapping_mul(257) + u64::from(*byte));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came to pass: {what}");
}

/// Each test on all networks; the one in memory has a clock that runs ahead when all wait.
#[macro_export]
macro_rules! over_all_transports {
    ($($name:ident)*) => {
        mod over_tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::support::net::Net::tcp()).await; })*
        }
        mod within_tls {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::support::net::Net::tls()).await; })*
        }
        mod in_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() { super::$name(super::support::net::Net::memory(1)).await; })*
        }
    };
}
