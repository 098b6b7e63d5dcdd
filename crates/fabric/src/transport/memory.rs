//! A network in memory, for tests: delays come from a seed, and links can be slowed, cut and corrupted at will.
//!
//! It stands for TCP: bytes arrive in order or not at all. Between two that are cut off from each other they wait, and go on
//! when the cut is healed, unless someone has lost patience meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chariot_types::WorkerAddress;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Doing, Link, Receiver, Sender, Transport};
use crate::PATIENCE;

/// Pieces that are on their way over one link at most.
const MOST_ON_THE_WAY: usize = 64;

/// Bytes of a piece at most.
const PIECE: usize = 32 << 10;

/// A network in memory.
#[derive(Clone)]
pub struct MemoryNetwork {
    rules: Arc<Mutex<Rules>>,
    changed: Arc<Notify>,
}

struct Rules {
    random: fastrand::Rng,
    doors: BTreeMap<WorkerAddress, mpsc::UnboundedSender<Link>>,
    /// One way.
    cuts: BTreeSet<(WorkerAddress, WorkerAddress)>,
    least_delay: Duration,
    most_delay: Duration,
    /// One piece in so many arrives changed; 0 for none.
    corrupt_one_in: u32,
    /// One piece in so many breaks its link; 0 for none.
    break_one_in: u32,
}

impl MemoryNetwork {
    /// A network without delays or faults, whose chances come from `seed`.
    pub fn new(seed: u64) -> Self {
        let rules = Rules {
            random: fastrand::Rng::with_seed(seed),
            doors: BTreeMap::new(),
            cuts: BTreeSet::new(),
            least_delay: Duration::ZERO,
            most_delay: Duration::ZERO,
            corrupt_one_in: 0,
            break_one_in: 0,
        };
        Self { rules: Arc::new(Mutex::new(rules)), changed: Arc::new(Notify::new()) }
    }

    /// The network as the worker at `from` sees it.
    pub fn transport(&self, from: &WorkerAddress) -> MemoryTransport {
        MemoryTransport { network: self.clone(), from: from.clone() }
    }

    /// Lets others dial `at`: their links come out here. Dropped, nobody can dial it any more.
    pub fn listen(&self, at: &WorkerAddress) -> mpsc::UnboundedReceiver<Link> {
        let (door, links) = mpsc::unbounded_channel();
        self.rules.lock().doors.insert(at.clone(), door);
        links
    }

    /// From now on each piece takes a time between these.
    pub fn delay(&self, least: Duration, most: Duration) {
        let mut rules = self.rules.lock();
        (rules.least_delay, rules.most_delay) = (least, most.max(least));
    }

    /// From now on one piece in `one_in` arrives with a bit changed; 0 for none.
    pub fn corrupt(&self, one_in: u32) {
        self.rules.lock().corrupt_one_in = one_in;
    }

    /// From now on one piece in `one_in` breaks its link; 0 for none.
    pub fn break_links(&self, one_in: u32) {
        self.rules.lock().break_one_in = one_in;
    }

    /// Nothing gets from `from` to `to` any more. The other way is not touched.
    pub fn cut(&self, from: &WorkerAddress, to: &WorkerAddress) {
        self.rules.lock().cuts.insert((from.clone(), to.clone()));
    }

    /// Everything gets through again, unchanged.
    pub fn heal(&self) {
        let mut rules = self.rules.lock();
        rules.cuts.clear();
        (rules.corrupt_one_in, rules.break_one_in) = (0, 0);
        drop(rules);
        self.changed.notify_waiters();
    }

    /// Waits until something can get from `from` to `to`.
    async fn passable(&self, from: &WorkerAddress, to: &WorkerAddress) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.rules.lock().cuts.contains(&(from.clone(), to.clone())) {
                return;
            }
            changed.await;
        }
    }

    fn half(&self, from: &WorkerAddress, to: &WorkerAddress, end: &Arc<End>) -> (MemorySender, MemoryReceiver) {
        let (pieces, arriving) = mpsc::channel(MOST_ON_THE_WAY);
        let way = Way { network: self.clone(), from: from.clone(), to: to.clone(), end: end.clone() };
        let sender = MemorySender { way: way.clone(), pieces, last: Instant::now() };
        (sender, MemoryReceiver { way, arriving, piece: None })
    }
}

/// A network in memory as one worker sees it.
pub struct MemoryTransport {
    network: MemoryNetwork,
    from: WorkerAddress,
}

impl Transport for MemoryTransport {
    fn dial<'a>(&'a self, to: &'a WorkerAddress) -> Doing<'a, Link> {
        Box::pin(async move {
            let both_ways = async {
                self.network.passable(&self.from, to).await;
                self.network.passable(to, &self.from).await;
            };
            timeout(PATIENCE, both_ways).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            let end = Arc::default();
            let (sender, their_receiver) = self.network.half(&self.from, to, &end);
            let (their_sender, receiver) = self.network.half(to, &self.from, &end);
            let theirs = Link { sender: Box::new(their_sender), receiver: Box::new(their_receiver) };
            let door = self.network.rules.lock().doors.get(to).cloned();
            let is_open = door.is_some_and(|door| door.send(theirs).is_ok());
            if !is_open {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Ok(Link { sender: Box::new(sender), receiver: Box::new(receiver) })
        })
    }
}

/// One direction of a link.
#[derive(Clone)]
struct Way {
    network: MemoryNetwork,
    from: WorkerAddress,
    to: WorkerAddress,
    end: Arc<End>,
}

/// The end of a link, for both sides.
#[derive(Default)]
struct End {
    has_come: AtomicBool,
    comes: Notify,
}

impl End {
    fn set(&self) {
        self.has_come.store(true, Ordering::Release);
        self.comes.notify_waiters();
    }

    async fn come(&self) {
        let mut comes = std::pin::pin!(self.comes.notified());
        comes.as_mut().enable();
        if !self.has_come.load(Ordering::Acquire) {
            comes.await;
        }
    }
}

struct MemorySender {
    way: Way,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
    /// When the last piece arrives: none overtakes another.
    last: Instant,
}

impl Sender for MemorySender {
    fn send<'a>(&'a mut self, frames: &'a [u8], payload: &'a [u8]) -> Doing<'a, ()> {
        Box::pin(async move {
            for piece in frames.chunks(PIECE).chain(payload.chunks(PIECE)) {
                let sent = timeout(PATIENCE, self.send_piece(piece.to_vec())).await;
                sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            }
            Ok(())
        })
    }

    /// Nothing: how long it takes is the network's to say.
    fn try_send(&mut self, _frames: &[u8]) -> usize {
        0
    }
}

impl MemorySender {
    async fn send_piece(&mut self, piece: Vec<u8>) -> io::Result<()> {
        let Way { network, from, to, end } = &self.way;
        network.passable(from, to).await;
        let (delay, piece) = network.rules.lock().afflict(piece, end);
        self.last = self.last.max(Instant::now() + delay);
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        tokio::select! {
            biased;
            () = end.come() => Err(broken()),
            sent = self.pieces.send((self.last, piece)) => sent.map_err(|_| broken()),
        }
    }
}

impl Rules {
    /// What happens to a piece on its way, and how long that takes.
    fn afflict(&mut self, mut piece: Vec<u8>, end: &End) -> (Duration, Vec<u8>) {
        let Self { random, corrupt_one_in, break_one_in, least_delay, most_delay, .. } = self;
        if *break_one_in > 0 && random.u32(..*break_one_in) == 0 {
            end.set();
        }
        if *corrupt_one_in > 0 && random.u32(..*corrupt_one_in) == 0 {
            let at = random.usize(..piece.len());
            piece[at] ^= 1 << random.u8(..8);
        }
        let spread = most_delay.saturating_sub(*least_delay).as_micros() as u64;
        (*least_delay + Duration::from_micros(random.u64(..=spread)), piece)
    }
}

impl Drop for MemorySender {
    fn drop(&mut self) {
        self.way.end.set();
    }
}

struct MemoryReceiver {
    way: Way,
    arriving: mpsc::Receiver<(Instant, Vec<u8>)>,
    /// A piece that has been taken in part, or is not there yet.
    piece: Option<(Instant, Vec<u8>, usize)>,
}

impl Receiver for MemoryReceiver {
    fn receive<'a>(&'a mut self, into: &'a mut [u8]) -> Doing<'a, usize> {
        Box::pin(async move {
            if self.piece.is_none() {
                self.piece = self.next_piece().await.map(|(at, bytes)| (at, bytes, 0));
            }
            let Some((at, bytes, taken)) = &mut self.piece else { return Ok(0) };
            sleep_until(*at).await;
            let more = into.len().min(bytes.len() - *taken);
            into[..more].copy_from_slice(&bytes[*taken..*taken + more]);
            *taken += more;
            if *taken == bytes.len() {
                self.piece = None;
            }
            Ok(more)
        })
    }
}

impl MemoryReceiver {
    /// `None` at the end, which gets through no cut either.
    async fn next_piece(&mut self) -> Option<(Instant, Vec<u8>)> {
        let Way { network, from, to, end } = &self.way;
        let arrived = tokio::select! {
            biased;
            arrived = self.arriving.recv() => arrived,
            () = end.come() => self.arriving.try_recv().ok(),
        };
        if arrived.is_none() {
            network.passable(from, to).await;
        }
        arrived
    }
}

impl Drop for MemoryReceiver {
    fn drop(&mut self) {
        self.way.end.set();
    }
}
