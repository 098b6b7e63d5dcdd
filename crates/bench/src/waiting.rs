//! A get that waits for what another process seals: from the seal to the return, against half a ping-pong, which is one
//! wake-up.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chariot_client::{Client, ConnectOptions, GrowingBlock, Reserve, Room, Transport, Wait};
use chariot_types::{Key, WorkerAddress};
use rustix::time::ClockId;

use crate::ping_pong::PingPong;
use crate::placement::Apart;
use crate::sample::{Round, compared, median};
use crate::target::Target;
use crate::{BenchConfig, Row};

/// The argument, followed by a worker's address, that makes a program call [`be_sealing_peer`].
pub const SEALING_PEER: &str = "bench-sealing-peer";

/// Gets in one round.
const PER_ROUND: usize = 50;

/// From the moment at which a block is announced to its seal: the other side has long been waiting by then.
const DELAY: Duration = Duration::from_millis(1);

const REFERENCE: &str = "half a Unix-socket ping-pong of 64 bytes between two processes, on two processors";

/// Announces a block whenever asked to on standard input, a socket, until that ends; seals it a little later, and says
/// when that was.
pub fn be_sealing_peer(worker: &WorkerAddress) -> Result<()> {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let client = Client::connect(worker, ConnectOptions::default())?;
    let mut name = [0; 8];
    while socket.read_exact(&mut name).is_ok() {
        let reserve = Reserve { key: Key::of_name(&name), parent: None, len: 8, time_to_live: None };
        let mut growing = client.reserve(&[reserve], Room::Now)?;
        client.flush()?;
        socket.write_all(&name)?;
        growing[0].write_at(0, &name);
        std::thread::sleep(DELAY);
        let sealed_at = nanos();
        GrowingBlock::seal_all(growing)?;
        socket.write_all(&sealed_at.to_ne_bytes())?;
    }
    Ok(())
}

pub(crate) fn measure(target: &Target, config: &BenchConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    progress("a get that waits");
    let client = target.client(Transport::Auto)?;
    let mut sealer = Sealer::start(target, config)?;
    let mut ping_pong = PingPong::start(&config.dscli)?;
    let worker = client.status()?.pid;
    let apart = Apart::pin_this_thread()?;
    [ping_pong.pid(), sealer.peer.id(), worker].into_iter().try_for_each(|pid| apart.away(pid))?;
    let mut rounds = Vec::new();
    for round in 0..config.rounds as u64 {
        let (mut values, mut references) = (Vec::new(), Vec::new());
        for number in 0..PER_ROUND as u64 {
            references.push(ping_pong.round_trip()? / 2.0);
            values.push(sealer.wait_for_one(&client, round << 32 | number)?);
        }
        rounds.push(Round { value: median(values), reference: median(references) });
    }
    apart.release(worker)?;
    Ok(vec![compared("waiting_get_p50", "us", REFERENCE, &rounds)])
}

/// The process that seals. Ends with this.
struct Sealer {
    socket: UnixStream,
    peer: Child,
}

impl Sealer {
    fn start(target: &Target, config: &BenchConfig) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&config.dscli);
        command.arg(SEALING_PEER).arg(target.address().to_string()).stdin(Stdio::from(OwnedFd::from(theirs)));
        let peer = command.spawn().context("cannot start the peer that seals")?;
        Ok(Self { socket, peer })
    }

    /// Microseconds from the seal of one block to the return of a get that waited for it.
    fn wait_for_one(&mut self, client: &Client, name: u64) -> Result<f64> {
        let mut word = name.to_ne_bytes();
        let key = Key::of_name(&word);
        self.socket.write_all(&word)?;
        self.socket.read_exact(&mut word)?;
        let wait = Wait::Until(Instant::now() + Duration::from_secs(10));
        let block = client.get(&[key], wait)?.remove(0);
        let got_at = nanos();
        ensure!(
            block.is_some_and(|block| block.bytes() == name.to_ne_bytes()),
            "the block that was waited for is wrong"
        );
        self.socket.read_exact(&mut word)?;
        client.delete(&[key])?;
        Ok(got_at.saturating_sub(u64::from_ne_bytes(word)) as f64 / 1e3)
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.peer.wait();
    }
}

/// A clock that both processes read alike.
fn nanos() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
