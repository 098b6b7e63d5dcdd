//! [`Net`]: a network, and the workers on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chariot_fabric::transport::{Link, MemoryNetwork, TcpTransport, TlsTransport, Transport, adopt};
use chariot_fabric::{Fabric, Identity};
use chariot_types::{Member, RunId, WorkerAddress};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::host::{Heard, TestHost};
use super::papers::Authority;
use super::run;

pub const CLUSTER: &str = "tests";

/// A network.
pub enum Net {
    Tcp,
    Tls(TlsTransport),
    Memory(MemoryNetwork),
}

impl Net {
    pub fn tcp() -> Self {
        Self::Tcp
    }

    pub fn tls() -> Self {
        Self::Tls(Authority::new().transport(&["127.0.0.1"]))
    }

    pub fn memory(seed: u64) -> Self {
        Self::Memory(MemoryNetwork::new(seed))
    }

    pub fn transport(&self, from: &WorkerAddress) -> Arc<dyn Transport> {
        match self {
            Self::Tcp => Arc::new(TcpTransport),
            Self::Tls(transport) => Arc::new(transport.clone()),
            Self::Memory(network) => Arc::new(network.transport(from)),
        }
    }

    /// Bytes take a moment from now on: a clock that runs ahead when all wait stands still while they do not.
    pub fn take_time(&self) {
        if let Self::Memory(network) = self {
            network.delay(Duration::from_millis(1), Duration::from_millis(1));
        }
    }

    /// A place where nobody listens yet.
    pub fn place(&self, number: u8) -> WorkerAddress {
        match self {
            Self::Tcp | Self::Tls(_) => {
                std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
            }
            Self::Memory(_) => format!("worker{number}:1"),
        }
        .parse()
        .unwrap()
    }

    /// Listens at a place: the links that others dial come out, until the task is aborted.
    pub async fn listen(&self, at: &WorkerAddress) -> (mpsc::UnboundedReceiver<Link>, JoinHandle<()>) {
        match self {
            Self::Tcp | Self::Tls(_) => {
                let tls = if let Self::Tls(transport) = self { Some(transport.clone()) } else { None };
                let listener = TcpListener::bind((at.host(), at.port())).await.unwrap();
                let (door, links) = mpsc::unbounded_channel();
                let accepting = tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let stream = stream.into_std().unwrap();
                        let Some(tls) = tls.clone() else {
                            if door.send(adopt(stream).unwrap()).is_err() {
                                return;
                            }
                            continue;
                        };
                        let door = door.clone();
                        tokio::spawn(async move { tls.adopt(stream).await.map(|link| door.send(link)) });
                    }
                });
                (links, accepting)
            }
            Self::Memory(network) => (network.listen(at), tokio::spawn(async {})),
        }
    }

    /// A worker that knows no other.
    pub async fn worker(&self, number: u8) -> Worker {
        self.worker_at(number, self.place(number), CLUSTER).await
    }

    pub async fn worker_at(&self, number: u8, address: WorkerAddress, cluster: &str) -> Worker {
        let (mut links, accepting) = self.listen(&address).await;
        let member = Member { run: run(number), address };
        let host = TestHost::new();
        let identity = Identity { member: member.clone(), cluster: cluster.to_owned() };
        let weak = Arc::downgrade(&host);
        let transport = self.transport(&member.address);
        let fabric = Fabric::new(identity, transport, weak, Handle::current());
        let accepted = Arc::new(AtomicUsize::new(0));
        let (serving, count) = (fabric.clone(), accepted.clone());
        let serving = tokio::spawn(async move {
            while let Some(link) = links.recv().await {
                count.fetch_add(1, Ordering::Relaxed);
                serving.accept(link, Vec::new());
            }
        });
        Worker { member, host, fabric, accepted, tasks: [accepting, serving] }
    }

    /// Workers that know and have reached each other.
    pub async fn workers<const N: usize>(&self) -> [Worker; N] {
        let mut workers = Vec::new();
        for number in 0..N {
            workers.push(self.worker(number as u8 + 1).await);
        }
        acquaint(&workers.iter().collect::<Vec<_>>()).await;
        workers.try_into().unwrap_or_else(|_| unreachable!("just so many were made"))
    }
}

/// Makes workers known to each other, and waits until all have reached all.
pub async fn acquaint(workers: &[&Worker]) {
    let members: Vec<Member> = workers.iter().map(|worker| worker.member.clone()).collect();
    workers.iter().for_each(|worker| worker.fabric.set_members(&members));
    for worker in workers {
        for other in members.iter().filter(|other| other.run != worker.member.run) {
            worker.reaches(other.run).await;
        }
    }
}

/// A worker.
pub struct Worker {
    pub member: Member,
    pub host: Arc<TestHost>,
    pub fabric: Fabric,
    /// Connections that others have dialled.
    accepted: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl Worker {
    pub fn run(&self) -> RunId {
        self.member.run
    }

    pub async fn reaches(&self, other: RunId) {
        self.host.until("another is reached", |state| state.heard.contains(&Heard::Reached(other))).await;
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Ends it, as far as others can see: nobody listens at its address any more.
    pub async fn end(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        self.fabric.end().await;
    }
}
