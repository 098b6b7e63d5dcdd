//! How fast blocks come from another worker, beside the same bytes over a bare socket:
//! `cargo run --release -p chariot-fabric --example speed`, or, for two hosts, `-- serve HOST:PORT` on one and
//! `-- pull HOST:PORT` on the other. The number of the fabric's threads on each side is taken from `THREADS`, 2 if it is not
//! set; bare sockets use the port after that one. Processor time is this process's: both sides' in the first case.

#![allow(missing_docs)]

mod bare;
mod host;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chariot_fabric::transport::{TcpTransport, adopt};
use chariot_fabric::{Fabric, Identity};
use chariot_pool::Arena;
use chariot_types::{Member, RunId, WorkerAddress};
use tokio::runtime::Runtime;

use crate::host::{BLOCKS, SpeedHost};

const MIB: usize = 1 << 20;

const ROUNDS: usize = 15;

/// How long one kind of transfer is repeated in a round.
const SLICE: Duration = Duration::from_millis(60);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let address = format!("127.0.0.1:{port}");
            let (served, pulled) = (address.parse()?, address.parse()?);
            std::thread::spawn(move || serve(&served));
            pull(&pulled)
        }
        ["serve", address] => serve(&address.parse()?),
        ["pull", address] => pull(&address.parse()?),
        _ => bail!("expected nothing, `serve HOST:PORT` or `pull HOST:PORT`"),
    }
}

/// What was seen of one kind of transfer in one round.
struct Seen {
    /// GB/s.
    rate: f64,
    /// Microseconds of processor a MiB.
    cost: f64,
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn runtime() -> Result<Runtime> {
    let threads = std::env::var("THREADS").map_or(Ok(2), |threads| threads.parse())?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(threads).thread_name("chariot-fabric").enable_all().build()?)
}

fn run(number: u8) -> RunId {
    RunId::from_bytes([number; RunId::LEN])
}

/// Memory that was written once.
fn arena(len: usize) -> Result<Arc<Arena>> {
    let arena = Arena::create(len as u64)?;
    // SAFETY: nobody else has it yet.
    unsafe { arena.bytes_mut(chariot_types::Extent { offset: 0, len: len as u64 }) }?.fill(7);
    Ok(Arc::new(arena))
}

fn fabric(me: Member, host: &Arc<SpeedHost>, runtime: &Runtime) -> Fabric {
    let identity = Identity { member: me, cluster: "speed".to_owned() };
    let host: Arc<dyn chariot_fabric::Host> = host.clone();
    Fabric::new(identity, Arc::new(TcpTransport), Arc::downgrade(&host), runtime.handle().clone())
}

fn serve(address: &WorkerAddress) -> Result<()> {
    let (runtime, arena) = (runtime()?, arena(BLOCKS * MIB)?);
    let host = Arc::new(SpeedHost::new(arena.clone()));
    let fabric = fabric(Member { run: run(1), address: address.clone() }, &host, &runtime);
    let bare = TcpListener::bind((address.host(), address.port() + 1))?;
    std::thread::spawn(move || bare::serve(&bare, &arena));
    let listener = TcpListener::bind((address.host(), address.port()))?;
    let _inside = runtime.enter();
    for stream in listener.incoming() {
        fabric.accept(adopt(stream?)?, Vec::new());
    }
    Ok(())
}

fn pull(address: &WorkerAddress) -> Result<()> {
    let (runtime, arena) = (runtime()?, arena(BLOCKS * MIB)?);
    let host = Arc::new(SpeedHost::new(arena.clone()));
    let fabric = fabric(Member { run: run(2), address: "127.0.0.1:1".parse()? }, &host, &runtime);
    let other = Member { run: run(1), address: address.clone() };
    fabric.set_members(std::slice::from_ref(&other));
    let began = Instant::now();
    while !fabric.is_reached(other.run) {
        if began.elapsed() > Duration::from_secs(10) {
            bail!("nobody serves at `{address}`");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut bare = bare::Streams::dial(address).context("the bare sockets")?;
    let mut seen: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut measure = |name, bytes: usize, transfer: &mut dyn FnMut() -> Result<()>| {
            let (began, spent, mut times) = (Instant::now(), processor_time(), 0);
            while began.elapsed() < SLICE {
                transfer()?;
                times += 1;
            }
            let rate = (times * bytes) as f64 / began.elapsed().as_secs_f64() / 1e9;
            let cost = (processor_time() - spent).as_secs_f64() * 1e6 / (times * bytes / MIB) as f64;
            seen.entry(name).or_default().push(Seen { rate, cost });
            anyhow::Ok(())
        };
        measure("1 MiB, bare", MIB, &mut || bare.receive(&arena, MIB))?;
        measure("1 MiB, fabric", MIB, &mut || host.pull(&fabric, other.run, 1, MIB))?;
        measure("16 MiB, bare", 16 * MIB, &mut || bare.receive(&arena, 16 * MIB))?;
        measure("16 MiB, fabric", 16 * MIB, &mut || host.pull(&fabric, other.run, 1, 16 * MIB))?;
        measure("64 x 1 MiB, bare, 1 stream", 64 * MIB, &mut || bare.receive(&arena, 64 * MIB))?;
        measure("64 x 1 MiB, bare, 4 streams", 64 * MIB, &mut || bare.receive_over_all(&arena, 16 * MIB))?;
        measure("64 x 1 MiB, fabric", 64 * MIB, &mut || host.pull(&fabric, other.run, 64, MIB))?;
    }
    for (name, seen) in seen {
        let sorted = |value: fn(&Seen) -> f64| {
            let mut values: Vec<f64> = seen.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (rates, costs) = (sorted(|seen| seen.rate), sorted(|seen| seen.cost));
        let (middle, best) = (seen.len() / 2, seen.len() - 1);
        println!(
            "{name:<28} {:.2} GB/s, at best {:.2}; {:.0} us of processor a MiB, at best {:.0}",
            rates[middle], rates[best], costs[middle], costs[0],
        );
    }
    runtime.block_on(fabric.end());
    Ok(())
}
