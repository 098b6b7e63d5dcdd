//! [`Settling`]: what a new worker does when the old one leaves: it takes its place in the cluster and its disk, and ends
//! what the old one still held.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chariot_cluster::ClusterConfig;
use chariot_pool::OwnerId;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::channel::Woken;
use super::{Channel, Wake};
use crate::SpillTo;
use crate::clustered::{Clustered, InCluster};
use crate::shared::Shared;
use crate::tier::Tier;

/// How long clients wait for a worker to be in its cluster again before they are served without.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(1);

/// The pause between two attempts to join.
const JOIN_PAUSE: Duration = Duration::from_secs(1);

/// For how long the file on the disk may still be the old worker's, and the pause between two looks.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
const DISK_PAUSE: Duration = Duration::from_millis(50);

/// The thread that settles; dropped, it ends.
pub(crate) struct Settling {
    wake: Wake,
    has_joined: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// What there is to settle.
pub(crate) struct Unsettled {
    pub(crate) shared: Arc<Shared>,
    /// To the old worker.
    pub(crate) channel: Channel,
    pub(crate) cluster: Option<ClusterConfig>,
    pub(crate) clustered: Arc<Mutex<Option<InCluster>>>,
    pub(crate) spill: Option<SpillTo>,
    /// Who holds something for as long as anything of the old worker is there.
    pub(crate) left_behind: Vec<OwnerId>,
}

impl Settling {
    pub(crate) fn start(unsettled: Unsettled) -> io::Result<Self> {
        let wake = Wake::new()?;
        let (joined, has_joined) = sync_channel(1);
        let woken = wake.clone();
        let work = move || unsettled.run(&woken, &joined);
        let thread = std::thread::Builder::new().name("chariot-settle".into()).spawn(work)?;
        Ok(Self { wake, has_joined, thread: Some(thread) })
    }

    /// Waits until the worker is in its cluster, if it is to be in one, but not for long.
    pub(crate) fn wait_for_cluster(&self) {
        if self.has_joined.recv_timeout(CLUSTER_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("not in the cluster yet: serving what is here");
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.wake.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that settles had panicked");
        }
    }
}

impl Unsettled {
    fn run(mut self, wake: &Wake, joined: &SyncSender<()>) {
        let has_to_join = self.cluster.is_some();
        if !has_to_join {
            let _ = joined.try_send(());
        }
        // Two workers at one address would take it from each other.
        if wake.wait(&self.channel, None) == Woken::Ending {
            return;
        }
        let has_only_left = self.channel.hear_of_leaving();
        while let Some(cluster) = self.cluster.clone() {
            let join = |shared: &Arc<Shared>, threads: &Handle| Clustered::join(shared, cluster.clone(), threads);
            match InCluster::join(std::iter::once(&self.shared), join) {
                Ok(clustered) => {
                    *self.clustered.lock() = Some(clustered);
                    self.cluster = None;
                    let _ = joined.try_send(());
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot join the cluster yet");
                    if wake.sleep(JOIN_PAUSE) == Woken::Ending {
                        return;
                    }
                }
            }
        }
        if has_only_left && wake.wait(&self.channel, None) == Woken::Ending {
            return;
        }
        self.shared.change(|state| self.left_behind.iter().for_each(|owner| state.pool.drop_owner(*owner)));
        tracing::info!("the old worker is gone");
        if let Some(spill) = self.spill.take() {
            self.open_disk(&spill, wake);
        }
    }

    fn open_disk(&self, spill: &SpillTo, wake: &Wake) {
        let deadline = Instant::now() + DISK_PATIENCE;
        loop {
            match Tier::open(&self.shared, spill) {
                Ok(tier) => return self.shared.set_tier(tier),
                Err(error) if Instant::now() >= deadline => {
                    tracing::error!(%error, "goes on without its disk");
                    return;
                }
                Err(_) if wake.sleep(DISK_PAUSE) == Woken::Ending => return,
                Err(_) => {}
            }
        }
    }
}
