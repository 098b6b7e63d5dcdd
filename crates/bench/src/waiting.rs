//! A get that waits for what another process writes: from the moment at which that is whole to the return, against half a
//! ping-pong, which is one wake-up.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chariot_client::{Client, ConnectOptions, GrowingBlock, Put, Reserve, Room, Transport, Wait};
use chariot_types::{Key, WorkerAddress};
use rustix::time::ClockId;

use crate::ping_pong::PingPong;
use crate::placement::Apart;
use crate::sample::{Round, compared, median};
use crate::target::Target;
use crate::{BenchConfig, Row};

/// The argument, followed by a worker's address, that makes a program call [`be_writing_peer`].
pub const WRITING_PEER: &str = "bench-writing-peer";

/// Gets in one round.
const PER_ROUND: usize = 50;

/// From the moment at which the other side begins to wait to the write: it is asleep by then, and its processor no deeper
/// than in a ping-pong. A virtual processor that sleeps for longer halts, and then any wake-up takes two or three times as
/// long, however it is made.
const DELAY: Duration = Duration::from_micros(100);

const REFERENCE: &str = "half a Unix-socket ping-pong of 64 bytes between two processes, on two processors";

/// How the block that is waited for comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coming {
    /// It is there, and grows until it is sealed.
    Growing,
    /// It is not there, until it is put whole.
    Put,
}

/// Writes a block whenever asked to on standard input, a socket, until that ends: a little later, and says when that was.
pub fn be_writing_peer(worker: &WorkerAddress) -> Result<()> {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let client = Client::connect(worker, ConnectOptions::default())?;
    let mut order = [0; 9];
    while socket.read_exact(&mut order).is_ok() {
        let (name, key) = (&order[1..], Key::of_name(&order[1..]));
        let whole_at = if order[0] == Coming::Growing as u8 {
            let reserve = Reserve { key, parent: None, len: 8, time_to_live: None };
            let mut growing = client.reserve(&[reserve], Room::Now)?;
            client.flush()?;
            socket.write_all(&order)?;
            growing[0].write_at(0, name);
            std::thread::sleep(DELAY);
            let whole_at = nanos();
            GrowingBlock::seal_all(growing)?;
            whole_at
        } else {
            socket.write_all(&order)?;
            std::thread::sleep(DELAY);
            let whole_at = nanos();
            client.put(&[Put { key, parent: None, bytes: name, time_to_live: None }], Room::Now)?;
            whole_at
        };
        socket.write_all(&whole_at.to_ne_bytes())?;
    }
    Ok(())
}

pub(crate) fn measure(target: &Target, config: &BenchConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    progress("a get that waits");
    let client = target.client(Transport::Auto)?;
    let mut writer = Writer::start(target, config)?;
    let mut ping_pong = PingPong::start(&config.dscli)?;
    let worker = client.status()?.pid;
    let apart = Apart::pin_this_thread()?;
    [ping_pong.pid(), writer.peer.id(), worker].into_iter().try_for_each(|pid| apart.away(pid))?;
    let mut rows = Vec::new();
    for (row, coming) in [("waiting_get_p50", Coming::Growing), ("waiting_get_put_p50", Coming::Put)] {
        let mut rounds = Vec::new();
        for _ in 0..config.rounds {
            let (mut values, mut references) = (Vec::new(), Vec::new());
            for _ in 0..PER_ROUND {
                references.push(ping_pong.round_trip()? / 2.0);
                values.push(writer.wait_for_one(&client, coming)?);
            }
            rounds.push(Round { value: median(values), reference: median(references) });
        }
        rows.push(compared(row, "us", REFERENCE, &rounds));
    }
    apart.release(worker)?;
    Ok(rows)
}

/// The process that writes. Ends with this.
pub(crate) struct Writer {
    socket: UnixStream,
    pub(crate) peer: Child,
    names: u64,
}

impl Writer {
    pub(crate) fn start(target: &Target, config: &BenchConfig) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&config.dscli);
        command.arg(WRITING_PEER).arg(target.address().to_string()).stdin(Stdio::from(OwnedFd::from(theirs)));
        let peer = command.spawn().context("cannot start the peer that writes")?;
        Ok(Self { socket, peer, names: 0 })
    }

    /// Has it write a block, soon; the block's name.
    pub(crate) fn order(&mut self, coming: Coming) -> Result<[u8; 8]> {
        self.names += 1;
        let mut order = [coming as u8; 9];
        order[1..].copy_from_slice(&self.names.to_ne_bytes());
        self.socket.write_all(&order)?;
        self.socket.read_exact(&mut order)?;
        Ok(self.names.to_ne_bytes())
    }

    /// When the block that was ordered was whole, by [`nanos`].
    pub(crate) fn whole_at(&mut self) -> Result<u64> {
        let mut at = [0; 8];
        self.socket.read_exact(&mut at)?;
        Ok(u64::from_ne_bytes(at))
    }

    /// Microseconds until a get returned that waited for one block.
    fn wait_for_one(&mut self, client: &Client, coming: Coming) -> Result<f64> {
        let name = self.order(coming)?;
        let key = Key::of_name(&name);
        let wait = Wait::Until(Instant::now() + Duration::from_secs(10));
        let block = client.get(&[key], wait)?.remove(0);
        let got_at = nanos();
        ensure!(block.is_some_and(|block| block.bytes() == name), "the block that was waited for is wrong");
        let whole_at = self.whole_at()?;
        client.delete(&[key])?;
        Ok(got_at.saturating_sub(whole_at) as f64 / 1e3)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.peer.wait();
    }
}

/// A clock that all processes read alike.
fn nanos() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
