//! [`Fabric`]: all connections between this worker and the others of its cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chariot_types::{Key, Member, RunId};
use chariot_wire::{Channel, InlineRecord, NO_RUN, PeerMessage, Pull};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::counters::{Counters, FabricStats};
use crate::hello::{Identity, answer, greet};
use crate::host::Host;
use crate::incoming::Answer;
use crate::peer::{Line, Peer};
use crate::stream::Source;
use crate::transport::{Link, Transport};
use crate::{FabricError, PATIENCE};

/// Connections that others may have to this worker.
const MOST_ACCEPTED: usize = 4096;

/// How long connections may take to end once the fabric does.
const GRACE: Duration = Duration::from_secs(2);

/// All connections between this worker and the others of its cluster.
#[derive(Clone)]
pub struct Fabric {
    inner: Arc<Inner>,
}

struct Inner {
    me: Identity,
    transport: Arc<dyn Transport>,
    host: Weak<dyn Host>,
    runtime: Handle,
    peers: Mutex<BTreeMap<RunId, Arc<Peer>>>,
    accepted: Mutex<Vec<Arc<Connection>>>,
    tasks: Mutex<Option<JoinSet<()>>>,
    counters: Arc<Counters>,
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
                accepted: Mutex::default(),
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
            let gone: Vec<RunId> =
                peers.keys().filter(|run| members.iter().all(|member| member.run != **run)).copied().collect();
            let left: Vec<_> = gone.iter().filter_map(|run| peers.remove(run)).collect();
            let mut new = Vec::new();
            for member in members.iter().filter(|member| member.run != self.inner.me.member.run) {
                peers.entry(member.run).or_insert_with(|| {
                    let peer = Arc::new(Peer::new(member.clone()));
                    new.push(peer.clone());
                    peer
                });
            }
            (left, new)
        };
        left.iter().for_each(|peer| peer.leave());
        new.into_iter().for_each(|peer| Inner::hold_control(&self.inner, peer));
    }

    /// The members other than this worker.
    pub fn peers(&self) -> Vec<Member> {
        self.inner.peers.lock().values().map(|peer| peer.member.clone()).collect()
    }

    /// Whether a worker can be reached, as far as is known.
    pub fn is_reached(&self, run: RunId) -> bool {
        self.inner.peer(run).is_some_and(|peer| peer.is_reached())
    }

    /// Asks a worker for a block. How that ends, the host is told.
    pub fn pull(&self, from: RunId, pull: Pull) -> Result<Pulling, Away> {
        let peer = self.inner.peer(from).ok_or(Away)?;
        let connection = Inner::connection(&self.inner, &peer, peer.next_data())?;
        let stream = connection.pull(pull).map_err(|_closed| Away)?;
        Ok(Pulling { connection: Arc::downgrade(&connection), stream })
    }

    /// Sends a block to a worker that has not asked for it.
    pub fn offer(&self, to: RunId, block: &InlineRecord, source: Box<dyn Source>) -> Result<(), Away> {
        let peer = self.inner.peer(to).ok_or(Away)?;
        let connection = Inner::connection(&self.inner, &peer, peer.next_data())?;
        connection.outbox.open(&connection, connection.next_id(), &PeerMessage::Offer(*block), source);
        Ok(())
    }

    /// Tells a worker what is held here. To be heard it takes a control channel that [is up](Host::reached).
    pub fn announce(&self, to: RunId, keys: &[Key]) {
        self.say(to, &PeerMessage::Announce(keys));
    }

    /// Tells a worker what is held here no more.
    pub fn withdraw(&self, to: RunId, keys: &[Key]) {
        self.say(to, &PeerMessage::Withdraw(keys));
    }

    /// Asks a worker who holds these: one entry a key. To be polled on any runtime.
    pub async fn lookup(&self, to: RunId, keys: &[Key]) -> Result<Vec<Option<RunId>>, Away> {
        match self.ask(to, &PeerMessage::Lookup(keys)).await? {
            Answer::Holders(runs) if runs.len() == keys.len() => {
                Ok(runs.into_iter().map(|run| (run != NO_RUN).then_some(run)).collect())
            }
            _ => Err(Away),
        }
    }

    /// Withdraws these from what a worker holds: one entry a key, whether it was there.
    pub async fn delete(&self, at: RunId, keys: &[Key]) -> Result<Vec<bool>, Away> {
        match self.ask(at, &PeerMessage::Delete(keys)).await? {
            Answer::Deleted(flags) if flags.len() == keys.len() => {
                Ok(flags.into_iter().map(|flag| flag == 1).collect())
            }
            _ => Err(Away),
        }
    }

    /// Takes over a connection that another worker has dialled; its first `early` bytes were received already.
    pub fn accept(&self, link: Link, early: Vec<u8>) {
        let inner = self.inner.clone();
        self.inner.spawn(async move { inner.serve(link, early).await });
    }

    /// What was carried.
    pub fn stats(&self) -> FabricStats {
        let dialled: Vec<_> = self.inner.peers.lock().values().flat_map(|peer| peer.connections()).collect();
        let accepted = self.inner.accepted.lock().clone();
        let streams = |connection: &Arc<Connection>| connection.outbox.streams() + connection.incoming.len();
        let streams = dialled.iter().chain(&accepted).map(streams).sum::<usize>() as u64;
        FabricStats { streams, ..self.inner.counters.stats() }
    }

    /// Ends all connections; returns when they have.
    pub async fn end(&self) {
        self.set_members(&[]);
        self.inner.accepted.lock().iter().for_each(|connection| connection.end());
        let tasks = self.inner.tasks.lock().take();
        if let Some(mut tasks) = tasks {
            let _ = timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
            tasks.shutdown().await;
        }
    }

    fn say(&self, to: RunId, message: &PeerMessage<'_>) {
        if let Some(peer) = self.inner.peer(to)
            && let Ok(connection) = Inner::connection(&self.inner, &peer, Channel::Control)
        {
            connection.outbox.say(0, message);
        }
    }

    async fn ask(&self, to: RunId, message: &PeerMessage<'_>) -> Result<Answer, Away> {
        let peer = self.inner.peer(to).ok_or(Away)?;
        let connection = Inner::connection(&self.inner, &peer, Channel::Control)?;
        let answer = connection.question(message).map_err(|_closed| Away)?;
        drop(connection);
        answer.await.map_err(|_dropped| Away)
    }
}

impl Inner {
    fn peer(&self, run: RunId) -> Option<Arc<Peer>> {
        self.peers.lock().get(&run).cloned()
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = self.tasks.lock().as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(work, &self.runtime);
        }
    }

    /// The connection to a peer, which is dialled if there is none.
    fn connection(this: &Arc<Self>, peer: &Arc<Peer>, channel: Channel) -> Result<Arc<Connection>, Away> {
        let host = this.host.upgrade().ok_or(Away)?;
        let make = || Connection::new(peer.member.run, channel, host, this.counters.clone());
        match peer.line(channel, make) {
            Line::There(connection) => Ok(connection),
            Line::New(connection) => {
                let (inner, peer, dialled) = (this.clone(), peer.clone(), connection.clone());
                this.spawn(async move { inner.dial(&peer, &dialled).await });
                Ok(connection)
            }
            Line::Away => Err(Away),
        }
    }

    /// Keeps a control channel to a peer up for as long as it is a member.
    fn hold_control(this: &Arc<Self>, peer: Arc<Peer>) {
        let inner = this.clone();
        this.spawn(async move {
            while !peer.has_left() {
                let Some(host) = inner.host.upgrade() else { return };
                let make = || Connection::new(peer.member.run, Channel::Control, host, inner.counters.clone());
                match peer.line(Channel::Control, make) {
                    Line::New(connection) => inner.dial(&peer, &connection).await,
                    // Another call has dialled it.
                    Line::There(connection) => connection.outbox.closed().await,
                    Line::Away => tokio::time::sleep(RETRY).await,
                }
            }
        });
    }

    /// Dials a peer, and carries the connection to its end.
    async fn dial(&self, peer: &Peer, connection: &Arc<Connection>) {
        let channel = connection.channel;
        let greeted = async {
            let mut link = self.transport.dial(&peer.member.address).await?;
            let early = greet(&self.me, &mut link, peer.member.run, channel).await?;
            Ok::<_, FabricError>((link, early))
        };
        let error = match timeout(PATIENCE, greeted).await {
            Ok(Ok((link, early))) => {
                peer.reached();
                if channel == Channel::Control {
                    connection.host.reached(peer.member.run);
                }
                connection.carry(link, early).await
            }
            Ok(Err(error)) => error,
            Err(_) => FabricError::Silent { seconds: PATIENCE.as_secs() },
        };
        connection.finish();
        if peer.has_left() || matches!(error, FabricError::Ended) {
            return;
        }
        // What its connections were told is lost with one of them: it is cheaper to begin anew than to find out which.
        peer.missed();
        self.note_end(&peer.member.address.to_string(), &error);
    }

    /// Serves a connection that was accepted, to its end.
    async fn serve(&self, mut link: Link, early: Vec<u8>) {
        let (theirs, early) = match answer(&self.me, &mut link, early).await {
            Ok(answered) => answered,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "turned a worker away");
                return;
            }
        };
        let Some(host) = self.host.upgrade() else { return };
        let connection = Connection::new(theirs.run, theirs.channel, host, self.counters.clone());
        if !self.admit(&connection) {
            tracing::warn!(limit = MOST_ACCEPTED, "turned a worker away: too many connections");
            return;
        }
        let is_control = theirs.channel == Channel::Control;
        if is_control {
            connection.host.forget(theirs.run);
        }
        let error = connection.carry(link, early).await;
        connection.finish();
        self.accepted.lock().retain(|accepted| !Arc::ptr_eq(accepted, &connection));
        if is_control {
            self.lose(&connection);
        }
        if !matches!(error, FabricError::Ended | FabricError::Closed) {
            self.note_end(&theirs.run.to_string(), &error);
        }
    }

    /// Adds an accepted connection. A control channel takes the place of the one that its worker had.
    fn admit(&self, connection: &Arc<Connection>) -> bool {
        let replaced: Vec<_> = {
            let mut accepted = self.accepted.lock();
            if accepted.len() >= MOST_ACCEPTED {
                return false;
            }
            let is_replaced = |other: &Arc<Connection>| {
                connection.channel == Channel::Control
                    && other.channel == Channel::Control
                    && other.peer() == connection.peer()
            };
            let replaced = accepted.iter().filter(|other| is_replaced(other)).cloned().collect();
            accepted.retain(|other| !is_replaced(other));
            accepted.push(connection.clone());
            replaced
        };
        replaced.iter().for_each(|connection| connection.end());
        true
    }

    /// The control channel of a worker has ended: without it nothing of what the worker has said is certain.
    fn lose(&self, control: &Arc<Connection>) {
        let others: Vec<_> = {
            let accepted = self.accepted.lock();
            let theirs: Vec<_> = accepted.iter().filter(|other| other.peer() == control.peer()).cloned().collect();
            if theirs.iter().any(|other| other.channel == Channel::Control) {
                return;
            }
            theirs
        };
        others.iter().for_each(|connection| connection.end());
        control.host.forget(control.peer());
    }

    fn note_end(&self, peer: &str, error: &FabricError) {
        self.counters.broken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tracing::warn!(peer, error = %Chain(error), "lost a connection to a worker");
    }
}

/// How often it is looked whether a peer that was away may be tried again.
const RETRY: Duration = Duration::from_millis(50);

/// An error with its causes, on one line.
struct Chain<'a>(&'a FabricError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
