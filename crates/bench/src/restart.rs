//! How long nobody is answered while a worker full of blocks goes on in another process.
//!
//! Two clients ask without a pause, one through shared memory and one over TCP, for blocks that are there: each time with a
//! question that only the worker answers as well. What counts is the longest time between two answers of either.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chariot_client::{Client, Put, Room, Transport, Wait};
use chariot_types::Key;

use crate::target::Target;
use crate::{BenchConfig, Row};

/// Bytes of a block.
const BLOCK: usize = 1 << 20;
/// Bytes of all blocks, where the machine has them.
const HELD: u64 = 4 << 30;
/// Of what is available, this part is left to others.
const SPARED: u64 = 4;
/// Restarts.
const ROUNDS: usize = 5;
/// How long it is watched before and after a restart.
const AROUND: Duration = Duration::from_millis(300);

pub(crate) fn measure(config: &BenchConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let available = available()?;
    let held = HELD.min(available - available / SPARED) / BLOCK as u64 * BLOCK as u64;
    progress(&format!("filling a worker with {} MiB of blocks", held >> 20));
    let mut target = Target::start_once(config, held + held / 8)?;
    let client = target.client(Transport::Auto)?;
    let bytes = vec![7; BLOCK];
    for number in 0..held / BLOCK as u64 {
        client.put(&[Put { key: key(number), parent: None, bytes: &bytes, time_to_live: None }], Room::Now)?;
    }
    client.flush()?;
    let blocks = client.status()?.sealed_blocks;
    progress("restarts");
    let mut gaps = Vec::new();
    for _ in 0..ROUNDS {
        gaps.push(watch(&mut target, blocks)?);
    }
    target.stop()?;
    let longest = gaps.iter().copied().max().context("there were restarts")?;
    Ok(vec![
        Row::alone("restart_gap", longest.as_secs_f64(), "s"),
        Row::alone("restart_blocks", (blocks * BLOCK as u64) as f64 / (1u64 << 30) as f64, "GiB"),
    ])
}

/// The longest time without an answer around a restart.
fn watch(target: &mut Target, blocks: u64) -> Result<Duration> {
    let clients = [target.client(Transport::Auto)?, target.client(Transport::Tcp)?];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = clients.map(|client| scope.spawn(|| ask(client, blocks, &is_over)));
        std::thread::sleep(AROUND);
        let restarted = target.restart();
        std::thread::sleep(AROUND);
        is_over.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for asking in asking {
            longest = longest.max(asking.join().expect("what goes wrong there is told")?);
        }
        restarted.map(|()| longest)
    })
}

/// Asks until it is over; the longest time that an answer took to come.
fn ask(client: Client, blocks: u64, is_over: &AtomicBool) -> Result<Duration> {
    let (mut longest, mut number) = (Duration::ZERO, 0);
    while !is_over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let found = client.get(&[key(number % blocks)], Wait::No)?;
        ensure!(found[0].as_ref().is_some_and(|block| block.bytes()[0] == 7), "block {number} is lost");
        client.flush()?;
        longest = longest.max(begin.elapsed());
        number += 1;
    }
    Ok(longest)
}

fn key(number: u64) -> Key {
    Key::of_name(&number.to_le_bytes())
}

/// Bytes of memory that this machine has to spare.
fn available() -> Result<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").context("cannot see how much memory there is")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("this kernel does not say how much memory is available")? << 10)
}
