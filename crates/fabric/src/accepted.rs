//! The connections that other workers have dialled.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chariot_types::{Member, WithCauses};
use chariot_wire::Channel;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::connection::{Carried, Connection};
use crate::fabric::Inner;
use crate::hello::{Theirs, hear, say};
use crate::transport::Link;
use crate::{FabricError, HELLO_PATIENCE};

/// Connections that others may have to this worker.
const MOST_ACCEPTED: usize = 4096;

/// The connections that other workers have dialled, the oldest first.
#[derive(Default)]
pub(crate) struct Accepted {
    // Held for moments; connections are only told to end under it.
    list: Mutex<List>,
    removed: Notify,
}

#[derive(Default)]
struct List {
    connections: Vec<Arc<Connection>>,
    has_ended: bool,
}

/// Serves a connection that was accepted, to its end.
pub(crate) async fn serve(inner: Arc<Inner>, mut link: Link, early: Vec<u8>) {
    let (theirs, early) = match hear(&inner.me, &mut link, early).await {
        Ok(heard) => heard,
        Err(error) => {
            tracing::warn!(error = %WithCauses(&error), "turned a worker away");
            return;
        }
    };
    let error = match serve_worker(&inner, theirs, link, early).await {
        FabricError::Ended | FabricError::Closed => return,
        error => error,
    };
    inner.counters.broken.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(peer = %theirs.run, error = %WithCauses(&error), "lost a connection of a worker");
}

async fn serve_worker(inner: &Arc<Inner>, theirs: Theirs, mut link: Link, early: Vec<u8>) -> FabricError {
    let Some(host) = inner.host.upgrade() else { return FabricError::Ended };
    let connection = Connection::new(theirs.run, theirs.channel, host, inner.counters.clone());
    let admitted = match Admitted::new(inner, connection) {
        Ok(admitted) => admitted,
        Err(error) => return error,
    };
    let connection = &admitted.connection;
    let begun = async {
        admitted.place.come_first().await?;
        say(&inner.me, &mut link, theirs.channel).await
    };
    let begun = tokio::select! {
        biased;
        () = connection.ending() => Err(FabricError::Ended),
        begun = begun => begun,
    };
    match begun {
        Ok(()) => connection.carry(link, early).await,
        Err(error) => error,
    }
}

/// A connection that may be carried. At its end all goes that belonged to it, and then its place.
struct Admitted {
    connection: Carried,
    place: Place,
}

/// The place of a connection among the accepted ones.
struct Place {
    inner: Arc<Inner>,
    connection: Arc<Connection>,
}

impl Admitted {
    fn new(inner: &Arc<Inner>, connection: Arc<Connection>) -> Result<Self, FabricError> {
        inner.accepted.add(&connection)?;
        let place = Place { inner: inner.clone(), connection: connection.clone() };
        Ok(Self { connection: Carried::new(connection), place })
    }
}

impl Place {
    /// Waits until nothing more is heard over the channel that this one replaces.
    async fn come_first(&self) -> Result<(), FabricError> {
        let come_first = timeout(HELLO_PATIENCE, self.inner.accepted.until_first(&self.connection)).await;
        come_first.map_err(|_| FabricError::Silent { seconds: HELLO_PATIENCE.as_secs() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.connection.channel == Channel::Control {
            // Without it nothing of what the worker has said is certain.
            self.inner.accepted.end_without(&self.connection);
            self.connection.host.forget(self.connection.peer());
        }
        self.inner.accepted.remove(&self.connection);
    }
}

impl Accepted {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        self.list.lock().connections.clone()
    }

    /// Ends all, and takes no others.
    pub(crate) fn end(&self) {
        let mut list = self.list.lock();
        list.has_ended = true;
        list.connections.iter().for_each(|connection| connection.end());
    }

    /// Ends those of workers that are no members.
    pub(crate) fn end_strangers(&self, members: &[Member]) {
        let list = self.list.lock();
        let is_stranger = |other: &&Arc<Connection>| members.iter().all(|member| member.run != other.peer());
        list.connections.iter().filter(is_stranger).for_each(|stranger| stranger.end());
    }

    /// Adds a connection, which replaces the one that its worker had for the same channel.
    fn add(&self, connection: &Arc<Connection>) -> Result<(), FabricError> {
        let mut list = self.list.lock();
        if list.has_ended {
            return Err(FabricError::Ended);
        }
        if list.connections.len() >= MOST_ACCEPTED {
            return Err(FabricError::TooMany { limit: MOST_ACCEPTED });
        }
        list.connections.iter().filter(|other| is_same_channel(other, connection)).for_each(|other| other.end());
        list.connections.push(connection.clone());
        Ok(())
    }

    fn remove(&self, connection: &Arc<Connection>) {
        self.list.lock().connections.retain(|other| !Arc::ptr_eq(other, connection));
        self.removed.notify_waiters();
    }

    /// Waits until no older connection of the same worker is left for the same channel.
    async fn until_first(&self, connection: &Arc<Connection>) {
        loop {
            let mut removed = std::pin::pin!(self.removed.notified());
            removed.as_mut().enable();
            let is_first = {
                let list = self.list.lock();
                let first = list.connections.iter().find(|other| is_same_channel(other, connection));
                first.is_none_or(|first| Arc::ptr_eq(first, connection))
            };
            if is_first {
                return;
            }
            removed.await;
        }
    }

    /// A control channel has ended: with it end the other connections of its worker, unless that has another.
    fn end_without(&self, control: &Arc<Connection>) {
        let list = self.list.lock();
        let is_theirs = |other: &&Arc<Connection>| other.peer() == control.peer() && !Arc::ptr_eq(other, control);
        let theirs = list.connections.iter().filter(is_theirs);
        if theirs.clone().all(|other| other.channel != Channel::Control) {
            theirs.for_each(|other| other.end());
        }
    }
}

fn is_same_channel(one: &Connection, other: &Connection) -> bool {
    one.peer() == other.peer() && one.channel == other.channel
}
