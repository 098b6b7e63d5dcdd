//! [`Clustered`]: what a worker in a cluster runs besides: its membership and its node, on threads of their own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chariot_cluster::{ClusterConfig, Membership};
use chariot_fabric::Identity;
use chariot_fabric::transport::{TcpTransport, Transport};
use chariot_types::Member;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::WorkerError;
use crate::node::Node;
use crate::shared::Shared;

/// More threads than this carry no more: a connection is one task.
const MOST_THREADS: usize = 4;

/// How long what runs may take to end.
const GRACE: Duration = Duration::from_secs(3);

/// What a worker in a cluster runs besides. Dropped, it leaves the others alone.
pub(crate) struct Clustered {
    /// `None` once it is shut down.
    runtime: Option<Runtime>,
    node: Arc<Node>,
    /// `None` where someone else says who the members are, and once it has left.
    membership: Option<Membership>,
}

/// The threads on which a worker deals with others.
fn runtime() -> io::Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("chariot-fabric")
        .enable_all()
        .build()
}

impl Clustered {
    /// Joins the cluster that an etcd keeps. The worker has its port already.
    pub(crate) fn join(shared: &Arc<Shared>, config: ClusterConfig) -> Result<Self, WorkerError> {
        let runtime = runtime()?;
        let cluster = config.cluster_name.as_str().to_owned();
        let membership = match runtime.block_on(Membership::join(config, shared.member())) {
            Ok(membership) => membership,
            Err(error) => {
                // A look-up of etcd's name may still be under way, for longer than anyone would wait.
                runtime.shutdown_background();
                return Err(error.into());
            }
        };
        let members = membership.members();
        shared.set_etcd(membership.observer());
        let mut clustered = Self::start(runtime, shared, cluster, members);
        clustered.membership = Some(membership);
        Ok(clustered)
    }

    /// Joins a cluster whose members someone else tells.
    pub(crate) fn among(
        shared: &Arc<Shared>,
        cluster: &str,
        members: watch::Receiver<Arc<[Member]>>,
    ) -> Result<Self, WorkerError> {
        Ok(Self::start(runtime()?, shared, cluster.to_owned(), members))
    }

    fn start(runtime: Runtime, shared: &Arc<Shared>, cluster: String, members: watch::Receiver<Arc<[Member]>>) -> Self {
        let identity = Identity { member: shared.member(), cluster };
        let node = {
            let _inside = runtime.enter();
            let transport: Arc<dyn Transport> = match shared.tls() {
                Some(tls) => Arc::new(tls.clone()),
                None => Arc::new(TcpTransport),
            };
            let node = Node::start(shared.clone(), identity, transport, runtime.handle().clone());
            node.follow(members);
            node
        };
        Self { runtime: Some(runtime), node, membership: None }
    }
}

impl Drop for Clustered {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            if let Some(membership) = self.membership.take() {
                runtime.block_on(membership.leave());
            }
            runtime.block_on(self.node.end());
            runtime.shutdown_timeout(GRACE);
        }
    }
}
