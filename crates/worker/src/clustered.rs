//! [`Clustered`]: what a worker in a cluster runs besides: its node, on threads of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chariot_fabric::Identity;
use chariot_fabric::transport::Transport;
use chariot_types::Member;
use tokio::runtime::Runtime;
use tokio::sync::watch;

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
}

/// The threads on which a worker deals with others.
pub(crate) fn runtime() -> io::Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("chariot-fabric")
        .enable_all()
        .build()
}

impl Clustered {
    /// Starts the node, which follows `members` from now on.
    pub(crate) fn start(
        runtime: Runtime,
        shared: Arc<Shared>,
        identity: Identity,
        transport: Arc<dyn Transport>,
        members: watch::Receiver<Arc<[Member]>>,
    ) -> Self {
        let _in_runtime = runtime.enter();
        let node = Node::start(shared, identity, transport, runtime.handle().clone());
        node.follow(members);
        drop(_in_runtime);
        Self { runtime: Some(runtime), node }
    }
}

impl Drop for Clustered {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.node.end());
            runtime.shutdown_timeout(GRACE);
        }
    }
}
