//! [`Shared`]: what all sessions of a worker have in common, or, where it has tenants, those of one of them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use chariot_cluster::Observer;
use chariot_fabric::transport::TlsTransport;
use chariot_index::Index;
use chariot_pool::{Arena, Event, OwnerId, Pool};
use chariot_types::{Key, Member, NamespaceName, RunId, TenantName, WorkerAddress};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

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
