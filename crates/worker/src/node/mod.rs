//! [`Node`]: this worker as a part of its cluster.
//!
//! It composes what does not know each other: the members (told from outside), the directory of the keys that this worker
//! owns, the fabric to the others, and the pool. `docs/design/cluster.md` says who knows what.
//!
//! - `fetch`: what sessions want and is not here: whom to ask, and whom then (pure state).
//! - `announce`: owners are told what is here and what no longer is.
//! - `serve`: what other workers ask, answered.
//! - `carry`: blocks of the pool, as the fabric reads and writes them.
//! - `look`: questions about many keys, and deletes, put to the others.
//!
//! The node's own lock is never held while the pool's is taken, nor the other way round.

mod announce;
mod carry;
mod fetch;
mod look;
mod serve;
#[cfg(test)]
mod simulation;
mod tend;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use chariot_directory::{Directory, Enrolment, Limits, Ticket};
use chariot_fabric::transport::{Link, Transport};
use chariot_fabric::{Asker, Away, Fabric, Host, Identity, PullEnd, Pulling};
use chariot_types::{Key, Member, RunId, WorkerAddress};
use chariot_wire::{ClusterStatus, MemberStatus};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::shared::Shared;
pub(crate) use announce::Change;
use announce::Changes;
use fetch::{Fetches, Move, Sight};
pub(crate) use fetch::{Interest, Sighting};
use tend::Settling;

/// This worker as a part of its cluster.
pub(crate) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) me: RunId,
    pub(super) fabric: Fabric,
    runtime: Handle,
    // Held for moments; what comes of it is done after.
    state: Mutex<State>,
    changes: Changes,
    /// Something may be due earlier than was known.
    hurry: Notify,
    tasks: Mutex<Option<JoinSet<()>>>,
}

struct State {
    members: Arc<[Member]>,
    directory: Directory,
    fetches: Fetches,
    tickets: BTreeMap<Ticket, Waiter>,
    next_ticket: u64,
    /// What is still to be done about the last change of members.
    settling: Settling,
}

/// Who waits for a key to appear in the directory.
struct Waiter {
    key: Key,
    who: Who,
}

enum Who {
    /// This worker's own sessions.
    Me,
    /// Another worker, until then.
    Other { asker: Asker, until: Instant },
}

impl Node {
    /// A node that knows no other yet; its tasks run on `runtime`.
    pub(crate) fn start(
        shared: Arc<Shared>,
        identity: Identity,
        transport: Arc<dyn Transport>,
        runtime: Handle,
    ) -> Arc<Self> {
        let me = identity.member.clone();
        let node = Arc::new_cyclic(|node: &Weak<Self>| {
            let host: Weak<dyn Host> = node.clone();
            Self {
                shared,
                me: me.run,
                fabric: Fabric::new(identity, transport, host, runtime.clone()),
                runtime,
                state: Mutex::new(State {
                    members: Arc::from([me.clone()]),
                    directory: Directory::new(me.run, Limits::default()),
                    fetches: Fetches::default(),
                    tickets: BTreeMap::new(),
                    next_ticket: 1,
                    settling: Settling::default(),
                }),
                changes: Changes::default(),
                hurry: Notify::new(),
                tasks: Mutex::new(Some(JoinSet::new())),
            }
        });
        node.shared.join(&node);
        node.shared.change(|state| state.pool.tell_of_names());
        node.spawn(announce::announce(Arc::downgrade(&node)));
        // What was found on the disk, or was handed over, is news to the owner that this worker itself is.
        node.announce_everything();
        node.spawn(tend::tend(Arc::downgrade(&node)));
        node
    }

    /// Takes the members from `members` for as long as those change.
    pub(crate) fn follow(self: &Arc<Self>, mut members: watch::Receiver<Arc<[Member]>>) {
        let node = Arc::downgrade(self);
        self.spawn(async move {
            loop {
                let now = members.borrow_and_update().clone();
                let Some(node) = node.upgrade() else { return };
                node.set_members(&now);
                drop(node);
                if members.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Ends all that the node does; returns when it has.
    pub(crate) async fn end(&self) {
        let tasks = self.tasks.lock().take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        self.fabric.end().await;
    }

    /// These are the members now; this worker is among them, whatever the list says.
    pub(crate) fn set_members(self: &Arc<Self>, members: &[Member]) {
        let mut members = members.to_vec();
        if members.iter().all(|member| member.run != self.me) {
            members.push(self.fabric.me().member.clone());
        }
        members.sort();
        members.dedup_by_key(|member| member.run);
        let members: Arc<[Member]> = members.into();
        let before = {
            let mut state = self.state.lock();
            if state.members == members {
                return;
            }
            state.settling = Settling::from(Instant::now());
            std::mem::replace(&mut state.members, members.clone())
        };
        tracing::info!(members = members.len(), "the members of the cluster have changed");
        self.fabric.set_members(&members);
        self.announce_moved(before);
        self.drive(|state, moves| {
            let State { fetches, members, directory, .. } = state;
            fetches.members_changed(&Sight { me: self.me, members, directory }, moves);
        });
        self.hurry.notify_one();
    }

    /// The members as this worker knows them.
    pub(crate) fn members(&self) -> Arc<[Member]> {
        self.state.lock().members.clone()
    }

    /// Sessions want `keys`, which were not whole here when looked for. What others hold of them comes into the pool; what
    /// nobody holds is told as [settled](crate::waiters::Topic::Elsewhere), unless it is waited for.
    pub(crate) fn want(&self, keys: impl IntoIterator<Item = (Key, Sighting)>, interest: Interest) {
        self.drive(|state, moves| {
            let State { fetches, members, directory, .. } = state;
            let sight = Sight { me: self.me, members, directory };
            for (key, sighting) in keys {
                fetches.want(key, sighting, interest, &sight, moves);
            }
        });
    }

    /// The opposite of one [`want`](Self::want).
    pub(crate) fn unwant(&self, keys: impl IntoIterator<Item = Key>, interest: Interest) {
        self.drive(|state, moves| keys.into_iter().for_each(|key| state.fetches.unwant(&key, interest, moves)));
    }

    /// Carries these blocks, as far as they are here, to the worker at `to`.
    pub(crate) fn forward(&self, to: &WorkerAddress, keys: &[Key]) {
        let member = self.members().iter().find(|member| member.address == *to).map(|member| member.run);
        let Some(run) = member.filter(|run| *run != self.me) else {
            if member.is_none() {
                tracing::debug!(%to, "a client forwards blocks to no member of the cluster");
            }
            return;
        };
        for key in keys {
            if let Some(outgoing) = self.source(key)
                && outgoing.offer(&self.fabric, run).is_err()
            {
                return;
            }
        }
    }

    /// How the cluster is, as this worker knows it.
    pub(crate) fn status(&self) -> ClusterStatus {
        let (members, directory, wanted) = {
            let state = self.state.lock();
            (state.members.clone(), state.directory.counts(), state.fetches.len() as u64)
        };
        let fabric = self.fabric.stats();
        let member = |member: &Member| MemberStatus {
            address: member.address.to_string(),
            run: member.run.to_string(),
            is_reached: member.run == self.me || self.fabric.is_reached(member.run),
        };
        ClusterStatus {
            name: self.cluster().to_owned(),
            members: members.iter().map(member).collect(),
            directory_keys: directory.records,
            directory_bytes: directory.record_bytes as u64,
            wanted,
            streams: fabric.streams,
            sent_bytes: fabric.bytes_sent,
            received_bytes: fabric.bytes_received,
            received_blocks: fabric.blocks_received,
            corrupt: fabric.corrupt,
            broken: fabric.broken,
            etcd: None,
        }
    }

    /// The cluster's name.
    pub(crate) fn cluster(&self) -> &str {
        &self.fabric.me().cluster
    }

    /// Where its work is done.
    pub(crate) fn threads(&self) -> &Handle {
        &self.runtime
    }

    /// Takes over a link from another worker, of which `early` was received already.
    pub(crate) fn accept(&self, link: Link, early: Vec<u8>) {
        self.fabric.accept(link, early);
    }

    /// How many wait for a key to appear in this worker's directory.
    #[cfg(test)]
    fn tickets(&self) -> usize {
        self.state.lock().tickets.len()
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = self.tasks.lock().as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(work, &self.runtime);
        }
    }

    /// Changes the state, and does what comes of it.
    fn drive(&self, change: impl FnOnce(&mut State, &mut Vec<Move>)) {
        let mut moves = Vec::new();
        change(&mut self.state.lock(), &mut moves);
        let mut settled = Vec::new();
        while let Some(next) = moves.pop() {
            match next {
                Move::Pull { attempt, whom, pull } => match self.fabric.pull(whom, pull) {
                    Ok(pulling) => self.note_pulling(attempt, &pull.key, pulling),
                    Err(Away) => self.state.lock().ended(self.me, whom, &pull.key, PullEnd::Gone, &mut moves),
                },
                Move::Enrol(key) => self.state.lock().enrol_me(self.me, key, &mut moves),
                Move::Strike(ticket) => self.state.lock().strike_me(self.me, ticket),
                Move::Stop(pulling) => pulling.stop(),
                Move::Settle(key) => settled.push(key),
                Move::Rest => self.hurry.notify_one(),
            }
        }
        if !settled.is_empty() {
            self.shared.change(|state| settled.into_iter().for_each(|key| state.waiters.settle(key)));
        }
    }

    fn note_pulling(&self, attempt: u64, key: &Key, pulling: Pulling) {
        let unwanted = self.state.lock().fetches.began(attempt, key, pulling);
        if let Some(pulling) = unwanted {
            pulling.stop();
        }
    }
}

impl State {
    fn ended(&mut self, me: RunId, from: RunId, key: &Key, end: PullEnd, moves: &mut Vec<Move>) {
        let Self { fetches, members, directory, .. } = self;
        fetches.ended(from, key, end, &Sight { me, members, directory }, moves);
    }

    fn next_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Has this worker told when `key` appears in its own directory.
    fn enrol_me(&mut self, me: RunId, key: Key, moves: &mut Vec<Move>) {
        let ticket = self.next_ticket();
        match self.directory.enrol(me, ticket, &key) {
            Enrolment::Held(holder) => self.appeared_to_me(me, &key, holder, moves),
            Enrolment::Waiting => {
                self.tickets.insert(ticket, Waiter { key, who: Who::Me });
                self.fetches.enrolled(&key, ticket, moves);
            }
            Enrolment::Refused => self.fetches.rest(&key, moves),
        }
    }

    fn strike_me(&mut self, me: RunId, ticket: Ticket) {
        self.directory.strike(me, ticket);
        self.tickets.remove(&ticket);
    }

    fn appeared_to_me(&mut self, me: RunId, key: &Key, holder: RunId, moves: &mut Vec<Move>) {
        let Self { fetches, members, directory, .. } = self;
        fetches.appeared(key, holder, &Sight { me, members, directory }, moves);
    }
}
