//! Small operations, against a message between two processes.

use std::time::Instant;

use anyhow::{Result, ensure};
use chariot_client::{Client, Put, Room, Transport, Wait};
use chariot_types::Key;

use crate::ping_pong::PingPong;
use crate::placement::Apart;
use crate::sample::{Round, compared, median};
use crate::target::Target;
use crate::{BenchConfig, Row};

/// Operations of each kind in one round.
const PER_ROUND: usize = 200;

const REFERENCE: &str =
    "Unix-socket ping-pong of 64 bytes between two processes, on two processors as client and worker";

pub(crate) fn measure(target: &Target, config: &BenchConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    progress("latency of small operations");
    let client = target.client(Transport::Auto)?;
    let keys: Vec<Key> = (0..1000u32).map(|i| Key::of_name(&i.to_le_bytes())).collect();
    let puts: Vec<_> =
        keys.iter().map(|key| Put { key: *key, parent: None, bytes: &[7; 1024], time_to_live: None }).collect();
    client.put(&puts, Room::Now)?;
    client.flush()?;
    let mut ping_pong = PingPong::start(&config.dscli)?;
    let worker = client.status()?.pid;
    let apart = Apart::pin_this_thread()?;
    apart.away(ping_pong.pid())?;
    apart.away(worker)?;
    let mut rows = vec![
        latency("get_one_p50", config, &mut ping_pong, || get_one(&client, &keys))?,
        latency("exists_64_p50", config, &mut ping_pong, || Ok(client.exists(&keys[..64]).map(drop)?))?,
        latency("prefix_1000_p50", config, &mut ping_pong, || Ok(client.longest_prefix(&keys).map(drop)?))?,
    ];
    let all_found = client.exists(&keys[..64])?.iter().all(|found| *found);
    ensure!(all_found, "blocks went while their latency was measured");
    apart.release(worker)?;
    drop(apart);
    progress("rate of small operations");
    rows.extend(rates(&client, config)?);
    client.delete(&keys)?;
    Ok(rows)
}

fn get_one(client: &Client, keys: &[Key]) -> Result<()> {
    let block = client.get(&keys[..1], Wait::No)?.remove(0);
    ensure!(block.is_some_and(|block| block.len() == 1024), "a block that was put is not there");
    Ok(())
}

fn latency(
    name: &str,
    config: &BenchConfig,
    ping_pong: &mut PingPong,
    mut operation: impl FnMut() -> Result<()>,
) -> Result<Row> {
    let mut rounds = Vec::new();
    for _ in 0..config.rounds {
        let mut references = Vec::with_capacity(PER_ROUND);
        for _ in 0..PER_ROUND {
            references.push(ping_pong.round_trip()?);
        }
        let mut values = Vec::with_capacity(PER_ROUND);
        for _ in 0..PER_ROUND {
            let begin = Instant::now();
            operation()?;
            values.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        rounds.push(Round { value: median(values), reference: median(references) });
    }
    Ok(compared(name, "us", REFERENCE, &rounds))
}

/// Keys a second in calls of 64 blocks of 1 KiB, and of one.
fn rates(client: &Client, config: &BenchConfig) -> Result<Vec<Row>> {
    const CALLS: u32 = 200;
    let (mut put_64, mut get_64, mut put_1, mut exists_64) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let content = [7; 1024];
    for round in 0..config.rounds as u32 {
        let key = |call: u32, i: u32| {
            let mut bytes = *Key::of_name(b"rates").as_bytes();
            bytes[..12].copy_from_slice(zip_words([round, call, i]).as_slice());
            Key::from_bytes(bytes)
        };
        let batches: Vec<Vec<Key>> = (0..CALLS).map(|call| (0..64).map(|i| key(call, i)).collect()).collect();
        let put = |keys: &[Key]| -> Result<()> {
            let puts: Vec<_> =
                keys.iter().map(|key| Put { key: *key, parent: None, bytes: &content, time_to_live: None }).collect();
            Ok(client.put(&puts, Room::Now)?)
        };
        put_64.push(rate(CALLS * 64, || {
            batches.iter().try_for_each(|batch| put(batch)).and_then(|()| Ok(client.flush()?))
        })?);
        get_64.push(rate(CALLS * 64, || {
            batches.iter().try_for_each(|batch| {
                ensure!(client.get(batch, Wait::No)?.iter().all(Option::is_some), "a block that was put is not there");
                Ok(())
            })
        })?);
        exists_64
            .push(rate(CALLS * 64, || batches.iter().try_for_each(|batch| Ok(client.exists(batch).map(drop)?)))?);
        let singles: Vec<Key> = (0..2000).map(|i| key(CALLS, i)).collect();
        put_1.push(rate(2000, || {
            singles.iter().try_for_each(|key| put(std::slice::from_ref(key))).and_then(|()| Ok(client.flush()?))
        })?);
        for batch in batches.iter().chain([&singles]) {
            client.delete(batch)?;
        }
    }
    Ok(vec![
        Row::alone("put_1KiB_ops", median(put_1), "keys/s"),
        Row::alone("put_64x1KiB_ops", median(put_64), "keys/s"),
        Row::alone("get_64x1KiB_ops", median(get_64), "keys/s"),
        Row::alone("exists_64_keys_per_s", median(exists_64), "keys/s"),
    ])
}

fn rate(keys: u32, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(f64::from(keys) / begin.elapsed().as_secs_f64())
}

fn zip_words(words: [u32; 3]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
