//! [`World`]: the workers, their network, and what happens to both.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chariot_fabric::Identity;
use chariot_fabric::transport::MemoryNetwork;
use chariot_index::Index;
use chariot_pool::{Arena, Lookup, PoolStats};
use chariot_types::{Key, Member, RunId, WorkerAddress};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::super::Node;
use super::clients::{content, get, names};
use crate::shared::Shared;

/// How many workers there may be.
pub(super) const PLACES: usize = 4;

/// Small enough that blocks are evicted.
const ARENA: u64 = 256 << 10;

/// When others learn that a worker has crashed: its lease is over.
const LEASE: Duration = Duration::from_secs(10);

/// A worker that runs.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) shared: Arc<Shared>,
    pub(super) node: Arc<Node>,
    pub(super) member: Member,
}

struct Running {
    host: Host,
    door: JoinHandle<()>,
    members: watch::Sender<Arc<[Member]>>,
}

/// What clients see of the world: who runs at each place.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<[Option<Host>; PLACES]>>);

impl Places {
    pub(super) fn at(&self, place: usize) -> Option<Host> {
        self.0.lock()[place].clone()
    }
}

/// The workers, their network, and what happens to both.
pub(super) struct World {
    random: fastrand::Rng,
    network: MemoryNetwork,
    running: [Option<Running>; PLACES],
    pub(super) places: Places,
    /// What etcd says, and news of it that are on their way.
    registered: Vec<Member>,
    news: JoinSet<()>,
}

fn address(place: usize) -> WorkerAddress {
    format!("node{place}:31501").parse().unwrap()
}

impl World {
    pub(super) fn new(mut random: fastrand::Rng) -> Self {
        let network = MemoryNetwork::new(random.u64(..));
        network.delay(Duration::from_micros(10), Duration::from_millis(random.u64(1..30)));
        let mut world = Self {
            random,
            network,
            running: Default::default(),
            places: Places::default(),
            registered: Vec::new(),
            news: JoinSet::new(),
        };
        for place in 0..world.random.usize(2..=PLACES) {
            world.start(place);
        }
        world
    }

    fn start(&mut self, place: usize) {
        let run: [u8; 16] = std::array::from_fn(|_| self.random.u8(..));
        let member = Member { run: RunId::from_bytes(run), address: address(place) };
        let arena = Arena::create(ARENA).unwrap();
        let index = Index::create(ARENA).unwrap();
        let shared = Arc::new(Shared::new(address(place), run, arena, index, PathBuf::new(), PathBuf::new()).unwrap());
        let identity = Identity { member: member.clone(), cluster: "simulated".to_owned() };
        let transport = Arc::new(self.network.transport(&address(place)));
        let node = Node::start(shared.clone(), identity, transport, Handle::current());
        let (members, told) = watch::channel(Arc::from([]));
        node.follow(told);
        let mut links = self.network.listen(&address(place));
        let behind_the_door = node.clone();
        let door = tokio::spawn(async move {
            while let Some(link) = links.recv().await {
                behind_the_door.accept(link, Vec::new());
            }
        });
        let host = Host { shared, node, member: member.clone() };
        self.places.0.lock()[place] = Some(host.clone());
        self.running[place] = Some(Running { host, door, members });
        self.registered.push(member);
        self.tell_members();
    }

    /// Everyone learns, some sooner than others, who is registered now.
    fn tell_members(&mut self) {
        let members: Arc<[Member]> = self.registered.clone().into();
        for running in self.running.iter().flatten() {
            let (sender, members) = (running.members.clone(), members.clone());
            let delay = Duration::from_millis(self.random.u64(..2000));
            // Old news that come late are overtaken by the next.
            self.news.spawn(async move {
                sleep(delay).await;
                sender.send_replace(members);
            });
        }
    }

    async fn stop(&mut self, place: usize) -> Option<Member> {
        let running = self.running[place].take()?;
        self.places.0.lock()[place] = None;
        running.door.abort();
        running.host.node.end().await;
        Some(running.host.member)
    }

    /// Something happens.
    pub(super) async fn trouble(&mut self) {
        let place = self.random.usize(..PLACES);
        let other = self.random.usize(..PLACES);
        match self.random.u32(..12) {
            0 if self.running[place].is_some() => {
                // Leaves: others are told at once, or soon.
                if let Some(member) = self.stop(place).await {
                    self.registered.retain(|registered| *registered != member);
                    self.tell_members();
                }
            }
            1 if self.running[place].is_some() => {
                // Crashes: others are told when its lease is over, if it has not registered anew before.
                self.stop(place).await;
                sleep(Duration::from_millis(self.random.u64(..2 * LEASE.as_millis() as u64))).await;
                self.registered.retain(|registered| registered.address != address(place));
                self.tell_members();
            }
            2 | 3 if self.running[place].is_none() => {
                self.registered.retain(|registered| registered.address != address(place));
                self.start(place);
            }
            4 => self.network.cut(&address(place), &address(other)),
            5 => {
                self.network.cut(&address(place), &address(other));
                self.network.cut(&address(other), &address(place));
            }
            6 => self.network.corrupt(self.random.u32(5..200)),
            7 => self.network.break_links(self.random.u32(20..400)),
            8 => self.network.delay(Duration::ZERO, Duration::from_millis(self.random.u64(1..400))),
            9 | 10 => self.network.heal(),
            _ => self.lapse(place).await,
        }
    }

    /// The lease of a worker lapses though it lives, and it registers again: sooner than others forget what it holds, or later.
    async fn lapse(&mut self, place: usize) {
        let Some(member) = self.running[place].as_ref().map(|running| running.host.member.clone()) else { return };
        self.registered.retain(|registered| *registered != member);
        self.tell_members();
        sleep(Duration::from_millis(self.random.u64(..2 * LEASE.as_millis() as u64))).await;
        self.registered.push(member);
        self.tell_members();
    }

    /// All is well again: the network is, and all are told who is there.
    pub(super) async fn heal(&mut self) {
        self.network.heal();
        self.network.delay(Duration::from_micros(10), Duration::from_millis(1));
        while self.news.join_next().await.is_some() {}
        self.registered = self.running.iter().flatten().map(|running| running.host.member.clone()).collect();
        let members: Arc<[Member]> = self.registered.clone().into();
        self.running.iter().flatten().for_each(|running| drop(running.members.send_replace(members.clone())));
    }

    /// Nobody holds, waits for or carries anything.
    pub(super) fn assert_at_rest(&self) {
        for Running { host, .. } in self.running.iter().flatten() {
            let name = &host.member.address;
            let (PoolStats { growing, pinned, detached, granted, free, sealed, capacity, .. }, waiting) = {
                let state = host.shared.state();
                (state.pool.stats(), state.waiters.len())
            };
            let status = host.node.status();
            let held = [growing.blocks, pinned.blocks, detached.blocks, granted, waiting as u64];
            assert_eq!(held, [0; 5], "{name}: growing, pinned, detached, granted, waiting: {status:?}");
            assert_eq!(free + sealed.bytes, capacity, "{name}: room is lost");
            assert_eq!((status.wanted, status.streams), (0, 0), "{name}: wanted, streams");
            assert_eq!(host.node.tickets(), 0, "{name}: tickets");
            assert!(status.members.iter().all(|member| member.is_reached), "{name}: {:?}", status.members);
        }
    }

    /// Whatever a live worker holds is found from all others, and what nobody holds by none.
    pub(super) async fn assert_all_is_found(&self) {
        let hosts: Vec<&Host> = self.running.iter().flatten().map(|running| &running.host).collect();
        for name in names() {
            let key = Key::of_name(name.as_bytes());
            let holds = |host: &&Host| host.shared.state().pool.lookup(&key, std::time::Instant::now()) != Lookup::Miss;
            let is_held = hosts.iter().any(holds);
            for host in &hosts {
                let begun = Instant::now();
                let found = get(host, &key, Duration::ZERO).await;
                assert_eq!(found.is_some(), is_held, "{name} from {}", host.member.address);
                assert!(found.is_none_or(|bytes| bytes == content(&name)), "{name}: wrong bytes");
                assert!(begun.elapsed() <= Duration::from_secs(1));
            }
        }
    }

    pub(super) async fn end(mut self) {
        for place in 0..PLACES {
            self.stop(place).await;
        }
        self.news.shutdown().await;
    }
}
