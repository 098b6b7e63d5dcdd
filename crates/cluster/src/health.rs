//! [`Health`]: how it stands with etcd, for people and for figures.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::EtcdEndpoint;

/// How it stands with etcd at a moment.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether etcd can be spoken to.
    pub contact: Contact,
    /// Whether this worker's record stands there, as far as is known.
    pub registered: Registered,
    /// Requests made so far.
    pub requests: Requests,
}

/// Whether etcd can be spoken to.
#[derive(Clone, Debug)]
pub enum Contact {
    /// It answers.
    Connected {
        /// The member that does.
        endpoint: EtcdEndpoint,
        /// Since when.
        since: Instant,
    },
    /// It does not; the members are those that were known last.
    Away {
        /// Since when.
        since: Instant,
        /// What happened last.
        why: String,
    },
}

/// Whether a worker's record stands in etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Registered {
    /// It does.
    Yes,
    /// It does not yet, or its lease has run out; it is put there as soon as etcd answers.
    NotNow,
    /// Another host's worker has the address.
    Taken {
        /// The other's host.
        by: String,
    },
}

/// What is asked of etcd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// A user is logged in.
    Authenticate,
    /// Records are listed.
    Range,
    /// A record is put, on a condition.
    Txn,
    /// A lease is taken.
    LeaseGrant,
    /// A lease is kept.
    LeaseKeepAlive,
    /// A lease is asked how long it runs.
    LeaseTimeToLive,
    /// A lease is given up.
    LeaseRevoke,
    /// Changes are asked for, once a connection.
    Watch,
    /// A member of etcd is asked how it is.
    Status,
}

impl RequestKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Authenticate,
        Self::Range,
        Self::Txn,
        Self::LeaseGrant,
        Self::LeaseKeepAlive,
        Self::LeaseTimeToLive,
        Self::LeaseRevoke,
        Self::Watch,
        Self::Status,
    ];

    /// As in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Range => "range",
            Self::Txn => "txn",
            Self::LeaseGrant => "lease_grant",
            Self::LeaseKeepAlive => "lease_keep_alive",
            Self::LeaseTimeToLive => "lease_time_to_live",
            Self::LeaseRevoke => "lease_revoke",
            Self::Watch => "watch",
            Self::Status => "status",
        }
    }
}

/// How many requests of each kind have been made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Requests([u64; RequestKind::ALL.len()]);

impl Requests {
    /// How many of `kind`.
    pub fn of(&self, kind: RequestKind) -> u64 {
        self.0[kind as usize]
    }

    /// How many of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Counts requests.
#[derive(Default)]
pub(crate) struct Counters([AtomicU64; RequestKind::ALL.len()]);

impl Counters {
    pub(crate) fn count(&self, kind: RequestKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Requests {
        Requests(std::array::from_fn(|kind| self.0[kind].load(Ordering::Relaxed)))
    }
}

/// What the task that speaks with etcd tells whoever asks.
pub(crate) struct Reported {
    pub(crate) counters: Counters,
    // Held to copy or replace what it guards.
    state: Mutex<(Contact, Registered)>,
}

impl Reported {
    pub(crate) fn new() -> Self {
        let contact = Contact::Away { since: Instant::now(), why: "not asked yet".into() };
        Self { counters: Counters::default(), state: Mutex::new((contact, Registered::NotNow)) }
    }

    pub(crate) fn connected(&self, endpoint: &EtcdEndpoint) {
        self.state.lock().0 = Contact::Connected { endpoint: endpoint.clone(), since: Instant::now() };
    }

    /// Returns whether that is news.
    pub(crate) fn away(&self, why: String) -> bool {
        let mut state = self.state.lock();
        let (since, news) = match &state.0 {
            Contact::Away { since, .. } => (*since, false),
            Contact::Connected { .. } => (Instant::now(), true),
        };
        state.0 = Contact::Away { since, why };
        news
    }

    /// Returns whether that is news.
    pub(crate) fn registered(&self, registered: Registered) -> bool {
        let mut state = self.state.lock();
        let news = state.1 != registered;
        state.1 = registered;
        news
    }

    pub(crate) fn health(&self) -> Health {
        let (contact, registered) = self.state.lock().clone();
        Health { contact, registered, requests: self.counters.read() }
    }
}
