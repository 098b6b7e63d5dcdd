//! The same tables through the Python client, each figure beside that of the Rust client on the same blocks in the same
//! round: their ratio is what Python costs. And what an engine with the connector costs while it does nothing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chariot_client::{Client, Put, Room, Transport, Wait};
use chariot_types::Key;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::ping_pong::PingPong;
use crate::placement::Apart;
use crate::sample::{Round, compared, median};
use crate::target::Target;
use crate::waiting::{Coming, Writer};
use crate::{BenchConfig, Row};

/// What Python runs.
const PROGRAM: &str = include_str!("python_peer.py");

/// Threads that load, as the connector has unless it is told otherwise.
const LOAD_THREADS: usize = 2;

/// How long an idle engine is watched.
const IDLE: Duration = Duration::from_secs(10);

/// Calls of small operations in one round.
const CALLS: usize = 200;

const RUST_CLIENT: &str = "the same through the Rust client, in turns";
const HALF_A_PING_PONG: &str = "half a Unix-socket ping-pong of 64 bytes between two processes, on two processors";

pub(crate) fn measure(target: &Target, config: &BenchConfig, python: &Path) -> Result<Vec<Row>> {
    let mut both = Both { python: Python::start(python, target)?, rust: target.client(Transport::Auto)?, names: 0 };
    let mut rows = both.latencies(config)?;
    for (shape, size, count, calls) in [
        ("1KiB", 1 << 10, 1, 2000),
        ("64x1KiB", 1 << 10, 64, 200),
        ("1MiB", 1 << 20, 1, 100),
        ("16MiB", 16 << 20, 1, 10),
        ("64x1MiB", 1 << 20, 64, 3),
    ] {
        rows.extend(both.puts_and_gets(config, shape, Shape { size, count, calls })?);
    }
    rows.push(both.waiting(target, config)?);
    Ok(rows)
}

/// What a worker and an idle engine use of a processor, in percent.
pub(crate) fn measure_idle(target: &Target, python: &Path) -> Result<Row> {
    let mut engine = Python::start(python, target)?;
    let engine_pid: u32 = engine.ask("idle_engine", &[json!(LOAD_THREADS)])?;
    let worker = target.client(Transport::Auto)?.status()?.pid;
    let used = || Ok::<_, anyhow::Error>(nanos_run(engine_pid)? + nanos_run(worker)?);
    let (before, begin) = (used()?, Instant::now());
    std::thread::sleep(IDLE);
    let share = (used()? - before) as f64 / begin.elapsed().as_nanos() as f64;
    Ok(Row::alone("idle_cpu", 100.0 * share, "% of a core"))
}

/// Nanoseconds that all threads of a process have run.
fn nanos_run(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let seen = fs::read_to_string(task?.path().join("schedstat"))?;
        let nanos = seen.split_whitespace().next().context("a schedstat without numbers")?;
        sum += nanos.parse::<u64>().context("a schedstat without numbers")?;
    }
    Ok(sum)
}

/// `count` blocks of `size` bytes a call.
#[derive(Clone, Copy)]
struct Shape {
    size: usize,
    count: usize,
    calls: usize,
}

/// The two clients that are compared.
struct Both {
    python: Python,
    rust: Client,
    names: u64,
}

impl Both {
    fn latencies(&mut self, config: &BenchConfig) -> Result<Vec<Row>> {
        let (names, keys) = self.name(1000);
        put(&self.rust, &keys, &[7; 1024], keys.len())?;
        self.rust.flush()?;
        let mut rows = Vec::new();
        for (row, what, count) in [
            ("py_get_one_p50", "get_one", 1),
            ("py_exists_64_p50", "exists", 64),
            ("py_prefix_1000_p50", "prefix", 1000),
        ] {
            let mut rounds = Vec::new();
            for _ in 0..config.rounds {
                let value = self.python.ask("latency", &[json!(what), json!(names[..count]), json!(CALLS)])?;
                let mut times = Vec::with_capacity(CALLS);
                for _ in 0..CALLS {
                    let begin = Instant::now();
                    match what {
                        "get_one" => drop(self.rust.get(&keys[..count], Wait::No)?),
                        "exists" => drop(self.rust.exists(&keys[..count])?),
                        _ => drop(self.rust.longest_prefix(&keys[..count])?),
                    }
                    times.push(begin.elapsed().as_secs_f64() * 1e6);
                }
                rounds.push(Round { value, reference: median(times) });
            }
            rows.push(compared(row, "us", RUST_CLIENT, &rounds));
        }
        self.rust.delete(&keys)?;
        Ok(rows)
    }

    fn puts_and_gets(&mut self, config: &BenchConfig, name: &str, shape: Shape) -> Result<[Row; 2]> {
        let Shape { size, count, calls } = shape;
        let content = vec![7; size];
        let (unit, amount, suffix) = match size {
            1024 => ("keys/s", (count * calls) as f64, "_ops"),
            _ => ("GB/s", (count * calls * size) as f64 / 1e9, ""),
        };
        let (mut puts, mut gets) = (Vec::new(), Vec::new());
        for _ in 0..config.rounds {
            let (names, keys) = self.name(count * calls);
            let put_python: f64 = self.python.ask("put", &[json!(names), json!(count), json!(size)])?;
            let get_python: f64 = self.python.ask("get", &[json!(names), json!(count)])?;
            self.rust.delete(&keys)?;
            let (_, keys) = self.name(count * calls);
            let put_rust = seconds(|| {
                put(&self.rust, &keys, &content, count)?;
                Ok(self.rust.flush()?)
            })?;
            let get_rust =
                seconds(|| keys.chunks(count).try_for_each(|keys| Ok(self.rust.get(keys, Wait::No).map(drop)?)))?;
            self.rust.delete(&keys)?;
            puts.push(Round { value: amount / put_python, reference: amount / put_rust });
            gets.push(Round {
                value: (count * calls) as f64 / get_python,
                reference: (count * calls) as f64 / get_rust,
            });
        }
        Ok([
            compared(&format!("py_put_{name}{suffix}"), unit, RUST_CLIENT, &puts),
            compared(&format!("py_get_{name}_ops"), "keys/s", RUST_CLIENT, &gets),
        ])
    }

    /// As `waiting_get_p50`.
    fn waiting(&mut self, target: &Target, config: &BenchConfig) -> Result<Row> {
        const PER_ROUND: usize = 50;
        let mut writer = Writer::start(target, config)?;
        let mut ping_pong = PingPong::start(&config.dscli)?;
        let worker = self.rust.status()?.pid;
        let apart = Apart::pin_this_thread()?;
        [ping_pong.pid(), writer.peer.id(), worker].into_iter().try_for_each(|pid| apart.away(pid))?;
        apart.beside(self.python.peer.id())?;
        let mut rounds = Vec::new();
        for _ in 0..config.rounds {
            let (mut values, mut references) = (Vec::new(), Vec::new());
            for _ in 0..PER_ROUND {
                references.push(ping_pong.round_trip()? / 2.0);
                let name = writer.order(Coming::Growing)?;
                let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
                let returned: u64 = self.python.ask("wait", &[json!(hex)])?;
                values.push(returned.saturating_sub(writer.whole_at()?) as f64 / 1e3);
                self.rust.delete(&[Key::of_name(&name)])?;
            }
            rounds.push(Round { value: median(values), reference: median(references) });
        }
        apart.release(worker)?;
        Ok(compared("py_waiting_get_p50", "us", HALF_A_PING_PONG, &rounds))
    }

    /// Names that were not used before, and their keys.
    fn name(&mut self, count: usize) -> (Vec<String>, Vec<Key>) {
        let first = self.names;
        self.names += count as u64;
        let names: Vec<String> = (first..self.names).map(|number| format!("block {number}")).collect();
        let keys = names.iter().map(|name| Key::of_name(name.as_bytes())).collect();
        (names, keys)
    }
}

fn put(client: &Client, keys: &[Key], bytes: &[u8], count: usize) -> Result<()> {
    for keys in keys.chunks(count) {
        let puts: Vec<_> = keys.iter().map(|key| Put { key: *key, parent: None, bytes, time_to_live: None }).collect();
        client.put(&puts, Room::Now)?;
    }
    Ok(())
}

fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64())
}

/// A Python process that does what it is asked to. Ends with this.
struct Python {
    peer: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Python {
    fn start(python: &Path, target: &Target) -> Result<Self> {
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM]).arg(target.address().to_string());
        let mut peer = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", python.display()))?;
        let orders = peer.stdin.take();
        let answers = BufReader::new(peer.stdout.take().context("a child without its output")?);
        Ok(Self { peer, orders, answers })
    }

    fn ask<T: DeserializeOwned>(&mut self, what: &str, arguments: &[Value]) -> Result<T> {
        let order = Value::from_iter([json!(what)].into_iter().chain(arguments.iter().cloned()));
        let orders = self.orders.as_mut().context("a child without its input")?;
        writeln!(orders, "{order}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the Python client's process ended");
        serde_json::from_str(&line).with_context(|| format!("`{what}` was answered by `{}`", line.trim_end()))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.peer.wait();
    }
}
