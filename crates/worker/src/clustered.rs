//! [`Clustered`]: what a worker in a cluster runs besides: its membership and its node, on threads of their own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chariot_cluster::{ClusterConfig, Membership};
use chariot_fabric::Identity;
use chariot_fabric::transport::{TcpTransport, Transport};
use chariot_types::Member;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use crate::WorkerError;
use crate::node::Node;
use crate::shared::Shared;

/// More threads than this carry no more: a connection is one task.
const MOST_THREADS: usize = 4;

/// How long what runs may take to end.
const GRACE: Duration = Duration::from_secs(3);

/// The threads on which a worker deals with others. Dropped, they end.
pub(crate) struct ClusterThreads(Option<Runtime>);

impl ClusterThreads {
    pub(crate) fn start() -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(threads).thread_name("chariot-fabric").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("they end when this is dropped").handle()
    }

    /// Ends them without waiting for what they do: a look-up of etcd's name takes longer than anyone would wait.
    pub(crate) fn abandon(mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for ClusterThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(GRACE);
        }
    }
}

/// What a worker in a cluster runs besides, for each of its pools. Dropped, it leaves the others alone.
pub(crate) struct Clustered {
    threads: Handle,
    node: Arc<Node>,
    /// `None` where someone else says who the members are, and once it has left.
    membership: Option<Membership>,
}

/// All of that, and the threads on which it is done.
pub(crate) struct InCluster {
    // Ended before the threads are.
    _pools: Vec<Clustered>,
    _threads: ClusterThreads,
}

impl InCluster {
    /// Each of the pools joins its cluster by `join`.
    pub(crate) fn join<'a>(
        pools: impl Iterator<Item = &'a Arc<Shared>>,
        join: impl Fn(&Arc<Shared>, &Handle) -> Result<Clustered, WorkerError>,
    ) -> Result<Self, WorkerError> {
        let threads = ClusterThreads::start()?;
        match pools.map(|shared| join(shared, threads.handle())).collect() {
            Ok(pools) => Ok(Self { _pools: pools, _threads: threads }),
            Err(error) => {
                threads.abandon();
                Err(error)
            }
        }
    }
}

impl Clustered {
    /// Joins the cluster that an etcd keeps. The worker has its port already.
    pub(crate) fn join(shared: &Arc<Shared>, config: ClusterConfig, threads: &Handle) -> Result<Self, WorkerError> {
        let cluster = config.cluster_name.as_str().to_owned();
        let membership = threads.block_on(Membership::join(config, shared.member()))?;
        let members = membership.members();
        shared.set_etcd(membership.observer());
        let mut clustered = Self::among(shared, cluster, members, threads);
        clustered.membership = Some(membership);
        Ok(clustered)
    }

    /// Joins a cluster whose members someone else tells.
    pub(crate) fn among(
        shared: &Arc<Shared>,
        cluster: String,
        members: watch::Receiver<Arc<[Member]>>,
        threads: &Handle,
    ) -> Self {
        let identity = Identity { member: shared.member(), cluster };
        let _inside = threads.enter();
        let transport: Arc<dyn Transport> = match shared.tls() {
            Some(tls) => Arc::new(tls.clone()),
            None => Arc::new(TcpTransport),
        };
        let node = Node::start(shared.clone(), identity, transport, threads.clone());
        node.follow(members);
        Self { threads: threads.clone(), node, membership: None }
    }
}

impl Drop for Clustered {
    fn drop(&mut self) {
        if let Some(membership) = self.membership.take() {
            self.threads.block_on(membership.leave());
        }
        self.threads.block_on(self.node.end());
    }
}
