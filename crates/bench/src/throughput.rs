//! Puts and gets of large blocks, against plain copies into the same mapping.

use std::time::Instant;

use anyhow::{Result, ensure};
use chariot_client::{Client, Put, Room, Transport, Wait};
use chariot_types::Key;

use crate::copies::{Copies, Rates};
use crate::sample::{Round, compared, median};
use crate::target::Target;
use crate::{BenchConfig, Row};

const BEST_COPY: &str = "best memcpy into the same mapping (ordinary or past-the-cache stores)";

/// A shape of put or get: `count` blocks of `len` bytes a call.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    len: usize,
    count: usize,
    calls: usize,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "64KiB", len: 64 << 10, count: 1, calls: 400 },
    Shape { name: "1MiB", len: 1 << 20, count: 1, calls: 100 },
    Shape { name: "4MiB", len: 4 << 20, count: 1, calls: 30 },
    Shape { name: "16MiB", len: 16 << 20, count: 1, calls: 10 },
    Shape { name: "64x1MiB", len: 1 << 20, count: 64, calls: 3 },
];

pub(crate) fn measure(target: &Target, config: &BenchConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let client = target.client(Transport::Auto)?;
    let mut copies = Copies::reserve(&target.client(Transport::Auto)?, config.shared_memory / 4)?;
    let mut names = Names(0);
    let mut rows = Vec::new();
    for shape in SHAPES {
        progress(&format!("put and get of {}", shape.name));
        let sources = sources(shape);
        let (mut puts, mut gets) = (Vec::new(), Vec::new());
        for _ in 0..config.rounds {
            let before = copies.rates(&sources, shape.calls);
            let batches: Vec<_> = (0..shape.calls).map(|_| names.next(shape.count)).collect();
            let put = put_rate(&client, &batches, &sources)?;
            let reference = Rates::best_around(before, copies.rates(&sources, shape.calls));
            puts.push(Round { value: put, reference });
            gets.push(Round { value: read_rate(&client, &batches, shape)?, reference });
            delete(&client, &batches)?;
        }
        rows.push(compared(&format!("put_{}", shape.name), "GB/s", BEST_COPY, &puts));
        rows.push(compared(&format!("get_copy_{}", shape.name), "GB/s", BEST_COPY, &gets));
    }
    progress("several clients, and tcp");
    rows.push(two_clients(target, config, &mut names)?);
    rows.extend(over_tcp(target, config, &mut names)?);
    Ok(rows)
}

/// Keys that were not used before.
struct Names(u64);

impl Names {
    fn next(&mut self, count: usize) -> Vec<Key> {
        let key = |number: u64| {
            let mut bytes = *Key::of_name(b"throughput").as_bytes();
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            Key::from_bytes(bytes)
        };
        let from = self.0;
        self.0 += count as u64;
        (from..self.0).map(key).collect()
    }
}

fn sources(shape: Shape) -> Vec<Vec<u8>> {
    (0..shape.count).map(|i| vec![i as u8 + 1; shape.len]).collect()
}

fn put_rate(client: &Client, batches: &[Vec<Key>], sources: &[Vec<u8>]) -> Result<f64> {
    let begin = Instant::now();
    let mut bytes = 0;
    for keys in batches {
        let puts: Vec<_> = keys
            .iter()
            .zip(sources)
            .map(|(key, bytes)| Put { key: *key, parent: None, bytes, time_to_live: None })
            .collect();
        client.put(&puts, Room::Now)?;
        bytes += sources.iter().map(Vec::len).sum::<usize>();
    }
    client.flush()?;
    Ok(bytes as f64 / begin.elapsed().as_secs_f64() / 1e9)
}

/// Gets blocks and copies their bytes out, as a reader without use for shared memory would.
fn read_rate(client: &Client, batches: &[Vec<Key>], shape: Shape) -> Result<f64> {
    let mut into = vec![0; shape.len];
    let mut bytes = 0;
    let begin = Instant::now();
    for keys in batches {
        for block in client.get(keys, Wait::No)?.into_iter().flatten() {
            into.copy_from_slice(block.bytes());
            bytes += block.len();
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(bytes == batches.len() * shape.count * shape.len, "blocks that were put are not there");
    Ok(bytes as f64 / seconds / 1e9)
}

fn delete(client: &Client, batches: &[Vec<Key>]) -> Result<()> {
    batches.iter().try_for_each(|batch| Ok(client.delete(batch).map(drop)?))
}

fn two_clients(target: &Target, config: &BenchConfig, names: &mut Names) -> Result<Row> {
    let clients = [target.client(Transport::Auto)?, target.client(Transport::Auto)?];
    let shape = SHAPES[1];
    let sources = sources(shape);
    let mut rates = Vec::new();
    for _ in 0..config.rounds {
        let mut shares = clients.each_ref().map(|client| (client, Vec::new()));
        for (_, batches) in &mut shares {
            *batches = (0..shape.calls).map(|_| names.next(1)).collect();
        }
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let threads =
                shares.each_ref().map(|(client, batches)| scope.spawn(|| put_rate(client, batches, &sources)));
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic in a put").map(drop))
        })?;
        rates.push((2 * shape.calls * shape.len) as f64 / begin.elapsed().as_secs_f64() / 1e9);
        shares.iter().try_for_each(|(client, batches)| delete(client, batches))?;
    }
    Ok(Row::alone("put_1MiB_2_clients", median(rates), "GB/s"))
}

fn over_tcp(target: &Target, config: &BenchConfig, names: &mut Names) -> Result<Vec<Row>> {
    let client = target.client(Transport::Tcp)?;
    let shape = SHAPES[1];
    let sources = sources(shape);
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for _ in 0..config.rounds {
        let batches: Vec<_> = (0..shape.calls).map(|_| names.next(shape.count)).collect();
        puts.push(put_rate(&client, &batches, &sources)?);
        gets.push(read_rate(&client, &batches, shape)?);
        delete(&client, &batches)?;
    }
    Ok(vec![Row::alone("tcp_put_1MiB", median(puts), "GB/s"), Row::alone("tcp_get_copy_1MiB", median(gets), "GB/s")])
}
