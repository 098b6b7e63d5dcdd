//! [`Shared`]: what all sessions of a worker have in common, or, where it has tenants, those of one of them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::time::Instant;

use chariot_cluster::Observer;
use chariot_fabric::transport::TlsTransport;
use chariot_index::Index;
use chariot_pool::{Arena, Event, OwnerId, Pool};
use chariot_types::{Key, Member, NamespaceName, RunId, TenantName, WorkerAddress};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use crate::handover::{Channel, Course, Message, PausedSession};
use crate::node::{Change, Node};
use crate::seldom::Seldom;
use crate::tier::Tier;
use crate::waiters::Waiters;
use crate::{Plain, Quota};

/// What all sessions of a worker, or of one of its tenants, have in common.
pub(crate) struct Shared {
    pub(crate) address: WorkerAddress,
    /// Whose it is, where the worker has tenants.
    pub(crate) tenant: Option<TenantName>,
    /// This run of the worker.
    pub(crate) run: [u8; 16],
    pub(crate) arena: Arena,
    /// The index of what the pool holds, as clients are handed it.
    pub(crate) index: OwnedFd,
    /// What writers tell readers directly, as clients are handed it.
    pub(crate) board: OwnedFd,
    pub(crate) local_socket: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) started: Instant,
    pub(crate) touched: AtomicU64,
    pub(crate) misuses: AtomicU64,
    pub(crate) shown_out: Seldom,
    pub(crate) turned_away: Seldom,
    pub(crate) room_freed: Notify,
    /// Turns true when the worker ends.
    pub(crate) ending: watch::Sender<bool>,
    // One lock for pool and waiters, held for microseconds and never across an await: a session that looks and finds
    // nothing must be enrolled before anything can change.
    state: Mutex<State>,
    next_session: AtomicU64,
    /// The worker's part in a cluster, if it is in one.
    node: OnceLock<Weak<Node>>,
    /// What keeps it there, if that is etcd.
    etcd: OnceLock<Observer>,
    /// What workers speak with each other, if not plain TCP.
    tls: Option<TlsTransport>,
    pub(crate) plain: Plain,
    /// The worker's part on a local disk, if it has one.
    tier: OnceLock<Arc<Tier>>,
    tier_came: Notify,
    /// Whether the worker serves, and where sessions say that they have come to a pause.
    pub(crate) course: watch::Sender<Course>,
    pub(crate) pauses: AtomicU64,
    is_gone: AtomicBool,
    pub(crate) pausing: Mutex<Option<mpsc::Sender<PausedSession>>>,
    /// To the worker that goes on for this one: it ends when nothing here can touch the arena any more. So it is the
    /// last field.
    heir: OnceLock<Channel>,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) pool: Pool,
    pub(crate) waiters: Waiters,
    pub(crate) sessions: HashMap<OwnerId, SessionFacts>,
}

/// What is known of a session.
#[derive(Clone, Debug)]
pub(crate) struct SessionFacts {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) namespace: NamespaceName,
    pub(crate) transport: &'static str,
    pub(crate) since: Instant,
}

impl Shared {
    pub(crate) fn new(
        address: WorkerAddress,
        run: [u8; 16],
        arena: Arena,
        index: Index,
        local_socket: PathBuf,
        log_dir: PathBuf,
    ) -> io::Result<Self> {
        let index_file = index.as_fd().try_clone_to_owned()?;
        let board = index.board_file().try_clone_to_owned()?;
        let pool = Pool::shared(arena.len(), index);
        Ok(Self {
            address,
            tenant: None,
            run,
            arena,
            index: index_file,
            board,
            local_socket,
            log_dir,
            started: Instant::now(),
            touched: AtomicU64::new(0),
            misuses: AtomicU64::new(0),
            shown_out: Seldom::default(),
            turned_away: Seldom::default(),
            room_freed: Notify::new(),
            ending: watch::Sender::new(false),
            state: Mutex::new(State { pool, waiters: Waiters::default(), sessions: HashMap::new() }),
            next_session: AtomicU64::new(1),
            node: OnceLock::new(),
            etcd: OnceLock::new(),
            tls: None,
            plain: Plain::Allowed,
            tier: OnceLock::new(),
            tier_came: Notify::new(),
            course: watch::Sender::new(Course::Serving),
            pauses: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
            pausing: Mutex::default(),
            heir: OnceLock::new(),
        })
    }

    /// The same, a tenant's.
    pub(crate) fn of(self, tenant: Option<TenantName>) -> Self {
        Self { tenant, ..self }
    }

    /// The same, speaking with other hosts like this.
    pub(crate) fn secured(self, tls: Option<TlsTransport>, plain: Plain) -> Self {
        Self { tls, plain, ..self }
    }

    /// What workers speak with each other, if not plain TCP.
    pub(crate) fn tls(&self) -> Option<&TlsTransport> {
        self.tls.as_ref()
    }

    /// Namespaces have these quotas, before anything is put.
    pub(crate) fn set_quotas(&self, quotas: &[Quota]) {
        let mut state = self.state.lock();
        for Quota { namespace, bytes } in quotas {
            let namespace = state.pool.namespace(namespace);
            state.pool.set_quota(namespace, *bytes);
        }
    }

    /// This run of the worker, as others of a cluster know it.
    pub(crate) fn member(&self) -> Member {
        Member { run: RunId::from_bytes(self.run), address: self.address.clone() }
    }

    /// From now on what is not here may be at another worker.
    pub(crate) fn join(&self, node: &Arc<Node>) {
        self.state.lock().pool.leave_absence_open();
        let is_first = self.node.set(Arc::downgrade(node)).is_ok();
        debug_assert!(is_first, "a worker is in one cluster");
    }

    /// From now on it can be asked how it stands with etcd.
    pub(crate) fn set_etcd(&self, observer: Observer) {
        let is_first = self.etcd.set(observer).is_ok();
        debug_assert!(is_first, "a worker is in one cluster");
    }

    /// What keeps the worker in its cluster, if that is etcd.
    pub(crate) fn etcd(&self) -> Option<&Observer> {
        self.etcd.get()
    }

    /// From now on what is not in memory may be on the disk.
    pub(crate) fn set_tier(&self, tier: Arc<Tier>) {
        self.state.lock().pool.leave_absence_open();
        let is_first = self.tier.set(tier).is_ok();
        debug_assert!(is_first, "a worker has one disk");
        self.tier_came.notify_waiters();
        if let Some(node) = self.node() {
            // What was found on the disk is news to the owners of its keys.
            node.announce_everything();
        }
    }

    /// The worker's part on a local disk, once it has one.
    pub(crate) async fn tier_when_there(&self) -> Arc<Tier> {
        loop {
            let came = self.tier_came.notified();
            if let Some(tier) = self.tier() {
                return tier.clone();
            }
            came.await;
        }
    }

    /// Whether the worker goes on in another process.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// From now on it does. Under the lock of the state, before anyone sees what is left there.
    pub(crate) fn be_gone(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.course.send_replace(Course::Gone);
    }

    /// Returns when the worker serves or is gone, and says which.
    pub(crate) async fn settled_course(&self) -> Course {
        let mut course = self.course.subscribe();
        let settled = course.wait_for(|course| !matches!(course, Course::Pausing(_))).await;
        settled.map_or(Course::Gone, |course| *course)
    }

    /// Returns when the worker does not serve.
    pub(crate) async fn pause(&self) {
        let mut course = self.course.subscribe();
        let _ = course.wait_for(|course| *course != Course::Serving).await;
    }

    /// Keeps the conversation with the worker that goes on until this is gone.
    pub(crate) fn keep_until_gone(&self, heir: Channel) {
        let is_first = self.heir.set(heir).is_ok();
        debug_assert!(is_first, "a worker goes once");
    }

    /// Tells the worker that goes on.
    pub(crate) fn tell_heir(&self, message: &Message, deadline: Instant) {
        if let Some(Err(error)) = self.heir.get().map(|heir| heir.send(message, &[], deadline)) {
            tracing::warn!(%error, "the worker that goes on does not listen");
        }
    }

    /// No session has a number below this from now on.
    pub(crate) fn begin_sessions_at(&self, number: u64) {
        self.next_session.fetch_max(number, Ordering::Relaxed);
    }

    /// The worker's part on a local disk, if it has one.
    pub(crate) fn tier(&self) -> Option<&Arc<Tier>> {
        self.tier.get()
    }

    /// The worker's part in a cluster, if it is in one.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.node.get()?.upgrade()
    }

    /// A number that no other session of this worker has or had.
    pub(crate) fn next_session(&self) -> OwnerId {
        OwnerId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// Looks at the state, or changes it without anyone being waited for.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Deletes blocks from memory and from the disk; which of them there were.
    pub(crate) fn delete(&self, keys: &[Key]) -> Vec<bool> {
        let now = Instant::now();
        let from_disk = || match self.tier() {
            Some(tier) => keys.iter().map(|key| tier.remove(key)).collect(),
            None => vec![false; keys.len()],
        };
        // Before, so that nothing comes back from there; and after, for what went there in between.
        let before = from_disk();
        let deleted = self.change(|state| keys.iter().map(|key| state.pool.delete(key, now)).collect::<Vec<_>>());
        let after = from_disk();
        let both = before.into_iter().zip(after).map(|(before, after)| before | after);
        deleted.into_iter().zip(both).map(|(deleted, removed)| deleted | removed).collect()
    }

    /// Changes the state, then nudges all who waited for what changed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        state.pool.sweep();
        let mut names = Vec::new();
        for event in state.pool.take_events() {
            match event {
                Event::RoomFreed => self.room_freed.notify_waiters(),
                Event::Published { key } => names.push(Change::Came(key)),
                // What has moved to the disk is still here.
                Event::Withdrawn { key } if self.tier().is_some_and(|tier| tier.holds(&key)) => {}
                Event::Withdrawn { key } => names.push(Change::Went(key)),
                Event::Readable { .. } | Event::Sealed { .. } | Event::Lost { .. } => {}
            }
            state.waiters.tell(event);
        }
        if !names.is_empty()
            && let Some(node) = self.node()
        {
            // Under the lock, so that others are told in the order in which it happened.
            node.note(names);
        }
        if let Some(tier) = self.tier() {
            tier.look_at_room(&state);
        }
        result
    }
}
