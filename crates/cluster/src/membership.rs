//! [`Membership`]: a worker's place in its cluster.

use std::sync::Arc;

use chariot_types::Member;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::health::Reported;
use crate::host::Host;
use crate::keeper::Keeper;
use crate::{ClusterConfig, Health, JoinError, LEAVE_PATIENCE};

/// A worker's place in its cluster, for as long as this lives.
///
/// Dropped without [leaving](Self::leave), it is as if the worker had crashed: the others see it until its lease runs out.
#[must_use = "a membership that is dropped ends"]
pub struct Membership {
    observer: Observer,
    ending: oneshot::Sender<()>,
    keeper: Keeping,
}

/// Sees what a membership sees, and does not keep it.
#[derive(Clone)]
pub struct Observer {
    members: watch::Receiver<Arc<[Member]>>,
    reported: Arc<Reported>,
    config: Arc<ClusterConfig>,
}

impl Observer {
    /// The members now and whenever they change: sorted by run, this worker among them.
    pub fn members(&self) -> watch::Receiver<Arc<[Member]>> {
        self.members.clone()
    }

    /// How it stands with etcd.
    pub fn health(&self) -> Health {
        self.reported.health()
    }

    /// What the worker was told of its cluster.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }
}

/// Whether the others were told that a worker leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// They were: the record is gone.
    Said,
    /// Etcd did not hear it, and the record goes when its lease runs out.
    Unheard,
}

impl Membership {
    /// Joins the cluster as `me`, which is one run of a worker that has its port already. Must be called within a tokio
    /// runtime, which then runs what keeps the membership.
    ///
    /// Fails within about five seconds when etcd is unreachable, and at once when it refuses. Where another host's
    /// record has the address, waits until that one's lease must have run out, and fails when it is kept alive.
    pub async fn join(config: ClusterConfig, me: Member) -> Result<Self, JoinError> {
        config.check()?;
        let host = Host::here().map_err(|source| JoinError::Host { source })?;
        let reported = Arc::new(Reported::new());
        let observed = Arc::new(config.clone());
        let mut keeper = Keeper::new(config, me, host, reported.clone());
        let observer = Observer { members: keeper.members(), reported, config: observed };
        let session = keeper.join().await?;
        let (ending, told) = oneshot::channel();
        let keeper = Keeping(tokio::spawn(keeper.run(session, told)));
        Ok(Self { observer, ending, keeper })
    }

    /// The members now and whenever they change: sorted by run, this worker among them.
    pub fn members(&self) -> watch::Receiver<Arc<[Member]>> {
        self.observer.members()
    }

    /// How it stands with etcd.
    pub fn health(&self) -> Health {
        self.observer.health()
    }

    /// What sees the same, for other threads.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Leaves: the others see it at once. Takes no longer than a few seconds, whatever etcd does.
    pub async fn leave(self) -> Farewell {
        let Self { ending, mut keeper, .. } = self;
        // A keeper that has ended needs not be told.
        let _ = ending.send(());
        match timeout(LEAVE_PATIENCE * 2, &mut keeper.0).await {
            Ok(Ok(farewell)) => farewell,
            Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Farewell::Unheard,
        }
    }
}

/// The keeper's task, which ends with this.
struct Keeping(JoinHandle<Farewell>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}
