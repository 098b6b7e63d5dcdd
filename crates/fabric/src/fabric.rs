//! [`Fabric`]: all connections between this worker and the others of its cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chariot_types::{Key, Member, RunId};
use chariot_wire::limits::MAX_BATCH;
use chariot_wire::{Channel, NO_RUN, PeerBlock, PeerMessage, Pull};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::accepted::{Accepted, serve};
use crate::connection::Connection;
use crate::counters::{Counters, FabricStats};
use crate::dialled::{data, hold_control, line};
use crate::hello::Identity;
use crate::host::Host;
use crate::incoming::Answer;
use crate::peer::Peer;
use crate::stream::Source;
use crate::transport::{Link, Transport};

/// How long connections may take to end once the fabric does.
const GRACE: Duration = Duration::from_secs(2);

/// All connections between this worker and the others of its cluster. It goes on until it is [ended](Fabric::end).
#[derive(Clone)]
pub struct Fabric {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) me: Identity,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) host: Weak<dyn Host>,
    runtime: Handle,
    peers: Mutex<Peers>,
    pub(crate) accepted: Accepted,
    tasks: Mutex<Option<JoinSet<()>>>,
    pub(crate) counters: Arc<Counters>,
}

#[derive(Default)]
struct Peers {
    by_run: BTreeMap<RunId, Arc<Peer>>,
    has_ended: bool,
}

/// A pull that is under way.
#[derive(Clone, Debug)]
pub struct Pulling {
    connection: Weak<Connection>,
    stream: u64,
}

impl Pulling {
    /// It is not wanted any more, unless it has begun to come. The host is not told of its end.
    pub fn stop(&self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.stop(self.stream);
        }
    }
}

/// The other worker cannot be reached: it has left, or did not answer a moment ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the other worker cannot be reached")]
pub struct Away;

impl Fabric {
    /// A fabric of no members yet, whose connections are carried by tasks on `runtime`.
    pub fn new(me: Identity, transport: Arc<dyn Transport>, host: Weak<dyn Host>, runtime: Handle) -> Self {
        Self {
            inner: Arc::new(Inner {
                me,
                transport,
                host,
                runtime,
                peers: Mutex::default(),
                accepted: Accepted::default(),
                tasks: Mutex::new(Some(JoinSet::new())),
                counters: Arc::default(),
            }),
        }
    }

    /// Who this worker is.
    pub fn me(&self) -> &Identity {
        &self.inner.me
    }

    /// These are the members now. Connections to those that have left end; to new ones a control channel is dialled.
    pub fn set_members(&self, members: &[Member]) {
        let (left, new) = {
            let mut peers = self.inner.peers.lock();
            if peers.has_ended {
                return;
            }
            peers.change(members, self.inner.me.member.run)
        };
        left.iter().for_each(|peer| peer.leave());
        new.into_iter().for_each(|peer| self.inner.spawn(hold_control(self.inner.clone(), peer)));
    }

    /// Ends the connections that workers have dialled which are none of `members`: whoever lives dials anew, and tells anew
    /// what it holds.
    pub fn end_strangers(&self, members: &[Member]) {
        self.inner.accepted.end_strangers(members);
    }

    /// The members other than this worker.
    pub fn peers(&self) -> Vec<Member> {
        self.inner.peers.lock().by_run.values().map(|peer| peer.member.clone()).collect()
    }

    /// Whether a worker has been reached, and nothing has happened to its control channel since.
    pub fn is_reached(&self, run: RunId) -> bool {
        self.inner.peer(run).is_ok_and(|peer| peer.is_reached())
    }

    /// Asks a worker for a block. How that ends, the host is told.
    pub fn pull(&self, from: RunId, pull: Pull) -> Result<Pulling, Away> {
        let connection = data(&self.inner, &self.inner.peer(from)?)?;
        let stream = connection.pull(pull).map_err(|_closed| Away)?;
        Ok(Pulling { connection: Arc::downgrade(&connection), stream })
    }

    /// Sends a block to a worker that has not asked for it.
    pub fn offer(&self, to: RunId, block: &PeerBlock<'_>, source: Box<dyn Source>) -> Result<(), Away> {
        let connection = data(&self.inner, &self.inner.peer(to)?)?;
        connection.outbox.offer(&connection, connection.next_id(), &PeerMessage::Offer(*block), source);
        Ok(())
    }

    /// Tells a worker what is held here. To be heard it takes a control channel that [is up](Host::reached).
    pub fn announce(&self, to: RunId, keys: &[Key]) {
        self.say(to, keys, PeerMessage::Announce);
    }

    /// Tells a worker what is held here no more.
    pub fn withdraw(&self, to: RunId, keys: &[Key]) {
        self.say(to, keys, PeerMessage::Withdraw);
    }

    /// Waits until most of what was announced and withdrawn is on its way, or never will be. Whoever has much to tell waits
    /// here in between: a worker that does not read 64 MiB of messages is taken for gone.
    pub async fn told(&self, to: RunId) {
        if let Ok(connection) = self.inner.control(to) {
            connection.outbox.relieved().await;
        }
    }

    /// Asks a worker who holds these: one entry a key. To be polled on any runtime.
    pub async fn lookup(&self, to: RunId, keys: &[Key]) -> Result<Vec<Option<RunId>>, Away> {
        let holder = |run| (run != NO_RUN).then_some(run);
        self.ask(to, keys, PeerMessage::Lookup, |answer| match answer {
            Answer::Holders(runs) => Some(runs.into_iter().map(holder).collect()),
            Answer::Deleted(_) => None,
        })
        .await
    }

    /// Withdraws these from what a worker holds: one entry a key, whether it was there.
    pub async fn delete(&self, at: RunId, keys: &[Key]) -> Result<Vec<bool>, Away> {
        self.ask(at, keys, PeerMessage::Delete, |answer| match answer {
            Answer::Deleted(flags) => Some(flags.into_iter().map(|flag| flag == 1).collect()),
            Answer::Holders(_) => None,
        })
        .await
    }

    /// Takes over a connection that another worker has dialled; its first `early` bytes were received already.
    pub fn accept(&self, link: Link, early: Vec<u8>) {
        self.inner.spawn(serve(self.inner.clone(), link, early));
    }

    /// What was carried.
    pub fn stats(&self) -> FabricStats {
        let mut connections = self.inner.accepted.all();
        connections.extend(self.inner.peers.lock().by_run.values().flat_map(|peer| peer.connections()));
        let streams = |connection: &Arc<Connection>| connection.outbox.streams() + connection.incoming.len();
        let streams = connections.iter().map(streams).sum::<usize>() as u64;
        FabricStats { streams, ..self.inner.counters.stats() }
    }

    /// Ends all connections, and takes no others; returns when nothing is left.
    pub async fn end(&self) {
        let left = {
            let mut peers = self.inner.peers.lock();
            peers.has_ended = true;
            std::mem::take(&mut peers.by_run)
        };
        left.values().for_each(|peer| peer.leave());
        self.inner.accepted.end();
        let tasks = self.inner.tasks.lock().take();
        if let Some(mut tasks) = tasks {
            let _ = timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
            tasks.shutdown().await;
        }
    }

    fn say<'a>(&self, to: RunId, keys: &'a [Key], message: impl Fn(&'a [Key]) -> PeerMessage<'a>) {
        if let Ok(connection) = self.inner.control(to) {
            keys.chunks(MAX_BATCH).for_each(|keys| connection.outbox.say(0, &message(keys)));
        }
    }

    /// Asks about keys, as many at once as a message can hold.
    async fn ask<'a, T>(
        &self,
        whom: RunId,
        keys: &'a [Key],
        message: impl Fn(&'a [Key]) -> PeerMessage<'a>,
        understand: impl Fn(Answer) -> Option<Vec<T>>,
    ) -> Result<Vec<T>, Away> {
        let mut answers = Vec::with_capacity(keys.len());
        for (asked, answer) in self.questions(whom, keys, message)? {
            let answer = answer.await.map_err(|_dropped| Away)?;
            answers.extend(understand(answer).filter(|entries| entries.len() == asked).ok_or(Away)?);
        }
        Ok(answers)
    }

    /// How many keys each question is about, and where its answer arrives.
    fn questions<'a>(
        &self,
        whom: RunId,
        keys: &'a [Key],
        message: impl Fn(&'a [Key]) -> PeerMessage<'a>,
    ) -> Result<Vec<(usize, oneshot::Receiver<Answer>)>, Away> {
        let connection = self.inner.control(whom)?;
        let ask = |keys: &'a [Key]| Ok((keys.len(), connection.question(&message(keys)).map_err(|_closed| Away)?));
        keys.chunks(MAX_BATCH).map(ask).collect()
    }
}

impl Inner {
    fn peer(&self, run: RunId) -> Result<Arc<Peer>, Away> {
        self.peers.lock().by_run.get(&run).cloned().ok_or(Away)
    }

    fn control(self: &Arc<Self>, run: RunId) -> Result<Arc<Connection>, Away> {
        line(self, &self.peer(run)?, Channel::Control)
    }

    /// Runs `work` until the fabric ends; drops it if it has.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = self.tasks.lock().as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(work, &self.runtime);
        }
    }
}

impl Peers {
    /// Who has left, and who is new.
    fn change(&mut self, members: &[Member], me: RunId) -> (Vec<Arc<Peer>>, Vec<Arc<Peer>>) {
        let (mut left, mut new) = (Vec::new(), Vec::new());
        self.by_run.retain(|run, peer| {
            let stays = members.iter().any(|member| member.run == *run);
            if !stays {
                left.push(peer.clone());
            }
            stays
        });
        for member in members.iter().filter(|member| member.run != me) {
            self.by_run.entry(member.run).or_insert_with(|| {
                let peer = Arc::new(Peer::new(member.clone()));
                new.push(peer.clone());
                peer
            });
        }
        (left, new)
    }
}
