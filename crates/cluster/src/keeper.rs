//! [`Keeper`]: the task that keeps a worker's lease and record, and follows the records of the others.
//!
//! It has one connection at a time. Over that it lists the records, puts its own, watches all, and keeps its lease alive.
//! Whatever goes wrong with any of these, it begins anew over another connection, to the next of etcd's members, for
//! as long as it takes. The members stand meanwhile.

mod joining;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chariot_types::{Member, WithCauses};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::connection::Connection;
use crate::dial::dial;
use crate::health::Reported;
use crate::host::Host;
use crate::pause::Pause;
use crate::proto::Event;
use crate::questions::Lease;
use crate::registration::{Outcome, Registration};
use crate::roster::Roster;
use crate::watch::{Told, Watch};
use crate::{ClusterConfig, EtcdError, Farewell, LEAVE_PATIENCE, Registered, RequestKind, SETTLED_AFTER};

/// A lease is kept alive this often before it would run out.
const BEATS: u32 = 3;

/// Keeps a worker's lease and record, and follows the records of the others.
pub(crate) struct Keeper {
    config: ClusterConfig,
    me: Member,
    prefix: String,
    own: Registration,
    roster: Roster,
    members: watch::Sender<Arc<[Member]>>,
    reported: Arc<Reported>,
    pause: Pause,
    /// The endpoint to try first.
    next: usize,
    lease: Option<Lease>,
    is_registered: bool,
    connection: Option<Arc<Connection>>,
}

/// A connection over which everything was told up to a revision.
pub(crate) struct Session {
    connection: Arc<Connection>,
    revision: i64,
}

impl Keeper {
    pub(crate) fn new(config: ClusterConfig, me: Member, host: Host, reported: Arc<Reported>) -> Self {
        let prefix = config.cluster_name.prefix();
        let roster = Roster::new(me.clone(), prefix.clone());
        Self {
            own: Registration::new(&prefix, &me, host),
            members: watch::Sender::new(roster.members()),
            pause: Pause::new(me.run),
            next: 0,
            lease: None,
            is_registered: false,
            connection: None,
            config,
            me,
            prefix,
            roster,
            reported,
        }
    }

    pub(crate) fn members(&self) -> watch::Receiver<Arc<[Member]>> {
        self.members.subscribe()
    }

    /// Stays joined until it is told to leave, or nobody is there who could tell it.
    pub(crate) async fn run(mut self, session: Session, ending: oneshot::Receiver<()>) -> Farewell {
        tokio::select! {
            _ = ending => {}
            never = self.stay(session) => match never {},
        }
        self.leave().await
    }

    async fn stay(&mut self, mut session: Session) -> Infallible {
        loop {
            let since = Instant::now();
            let Err(error) = self.follow(&session).await;
            self.connection = None;
            if since.elapsed() > SETTLED_AFTER {
                self.pause.reset();
            }
            session = self.come_back(error).await;
        }
    }

    /// Tries until etcd is there again.
    async fn come_back(&mut self, mut error: EtcdError) -> Session {
        loop {
            let why = WithCauses(&error).to_string();
            if self.reported.away(why.clone()) {
                tracing::warn!(error = why, members = self.members.borrow().len(), "etcd is away: the members stand");
            }
            sleep(self.pause.next()).await;
            match self.open().await {
                Ok((session, _)) => {
                    tracing::info!(endpoint = %session.connection.endpoint(), "etcd is back");
                    return session;
                }
                Err(again) => error = again,
            }
        }
    }

    /// Connects, lists the records, and puts this worker's there.
    async fn open(&mut self) -> Result<(Session, Outcome), EtcdError> {
        let connection = Arc::new(self.connect().await?);
        // Whatever is known of the own record may have changed meanwhile.
        self.is_registered = false;
        let outcome = self.hold(&connection).await?;
        let revision = self.list(&connection).await?;
        self.connection = Some(connection.clone());
        self.reported.connected(connection.endpoint());
        Ok((Session { connection, revision }, outcome))
    }

    async fn connect(&mut self) -> Result<Connection, EtcdError> {
        let (at, connection) = dial(&self.config, self.next, &self.reported).await?;
        // Should this one fail, it is the next one's turn.
        self.next = (at + 1) % self.config.endpoints.len();
        Ok(connection)
    }

    /// Follows what happens over one connection, for as long as that works.
    async fn follow(&mut self, session: &Session) -> Result<Infallible, EtcdError> {
        let connection = &*session.connection;
        let mut watch = self.watch(connection, session.revision).await?;
        let mut settled = Instant::now() + SETTLED_AFTER;
        let mut beat = Instant::now() + self.between_beats();
        loop {
            tokio::select! {
                () = sleep_until(beat) => {
                    self.hold(connection).await?;
                    beat = Instant::now() + self.between_beats();
                }
                () = sleep_until(settled), if self.roster.is_unsettled() => {
                    self.roster.settle();
                    self.publish();
                }
                told = watch.next(connection) => match told? {
                    Told::Events(events) => self.hear(connection, events).await?,
                    Told::Forgotten => {
                        let revision = self.list(connection).await?;
                        watch = self.watch(connection, revision).await?;
                        settled = Instant::now() + SETTLED_AFTER;
                    }
                },
            }
        }
    }

    async fn watch(&self, connection: &Connection, revision: i64) -> Result<Watch, EtcdError> {
        let watch = Watch::open(connection, &self.prefix, revision + 1).await?;
        // What was listed a moment ago is forgotten only where an etcd is very busy: everything begins anew then.
        watch.ok_or_else(|| connection.nonsense(RequestKind::Watch))
    }

    async fn list(&mut self, connection: &Connection) -> Result<i64, EtcdError> {
        let listing = connection.list(&self.prefix).await?;
        self.roster.list(&listing.records);
        self.publish();
        Ok(listing.revision)
    }

    async fn hear(&mut self, connection: &Connection, events: Vec<Event>) -> Result<(), EtcdError> {
        let mut is_lost = false;
        for event in events {
            let Some(record) = event.kv else { continue };
            let is_put = event.kind != Event::DELETE;
            if self.own.is_at(&record.key) {
                is_lost = !is_put || !self.own.is_own(&record.value);
            }
            match is_put {
                true => self.roster.put(&record),
                false => self.roster.remove(&record.key),
            }
        }
        self.publish();
        if is_lost {
            self.is_registered = false;
            self.hold(connection).await?;
        }
        Ok(())
    }

    /// Keeps the lease or takes a new one, and sees to it that the record stands for as long as that runs.
    async fn hold(&mut self, connection: &Connection) -> Result<Outcome, EtcdError> {
        if let Some(lease) = self.lease
            && connection.keep_alive(lease.id).await?.seconds <= 0
        {
            tracing::warn!("the lease in etcd has run out: registering anew");
            self.lease = None;
            self.is_registered = false;
        }
        if self.is_registered {
            return Ok(Outcome::Registered);
        }
        self.reported.registered(Registered::NotNow);
        let lease = match self.lease {
            Some(lease) => lease,
            None => *self.lease.insert(connection.grant(self.config.lease).await?),
        };
        let outcome = self.own.put(connection, lease).await?;
        self.is_registered = matches!(outcome, Outcome::Registered);
        match &outcome {
            Outcome::Registered => self.reported.registered(Registered::Yes),
            Outcome::Taken(other) => self.reported.registered(Registered::Taken { by: other.host.clone() }),
        };
        Ok(outcome)
    }

    fn between_beats(&self) -> Duration {
        self.lease.map_or(self.config.lease, |lease| lease.ttl) / BEATS
    }

    fn publish(&self) {
        let members = self.roster.members();
        self.members.send_if_modified(|known| {
            let is_news = *known != members;
            *known = members;
            is_news
        });
    }

    /// Takes the record away, by its lease.
    async fn leave(mut self) -> Farewell {
        let Some(lease) = self.lease.take() else { return Farewell::Said };
        match timeout(LEAVE_PATIENCE, self.revoke(lease)).await {
            Ok(Ok(())) => Farewell::Said,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = WithCauses(&error).to_string(),
                    "the record in etcd goes when its lease runs out"
                );
                Farewell::Unheard
            }
            Err(_) => {
                tracing::warn!("etcd did not answer in time: the record there goes when its lease runs out");
                Farewell::Unheard
            }
        }
    }

    async fn revoke(&mut self, lease: Lease) -> Result<(), EtcdError> {
        let revoked = match self.connection.take() {
            Some(connection) => connection.revoke(lease.id).await,
            None => self.connect().await?.revoke(lease.id).await,
        };
        match revoked {
            Err(EtcdError::Refused { code: tonic::Code::NotFound, .. }) => Ok(()),
            revoked => revoked,
        }
    }
}
