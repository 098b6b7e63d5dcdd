//! Looking at etcd without joining: for `dscli doctor`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::connection::{Connection, printable};
use crate::dial::dial;
use crate::health::Reported;
use crate::{ClusterConfig, EtcdEndpoint, EtcdError, JoinError, RequestKind};

/// What one member of etcd says of itself.
#[derive(Clone, Debug)]
pub struct EtcdReport {
    /// Its release.
    pub version: String,
    /// Which etcd it is a member of.
    pub etcd: u64,
    /// Whether it knows a leader: without one, nothing can be changed.
    pub has_leader: bool,
    /// Alarms and the like.
    pub errors: Vec<String>,
}

/// How long a lease still ran after a time.
#[derive(Clone, Copy, Debug)]
pub struct LeaseClock {
    /// For how long it was granted.
    pub granted: Duration,
    /// How much later it was looked at.
    pub waited: Duration,
    /// How long it then still ran; etcd tells whole seconds.
    pub remaining: Duration,
}

impl LeaseClock {
    /// The lease that is tried.
    const LEASE: Duration = Duration::from_secs(5);
    const WAIT: Duration = Duration::from_millis(1500);

    /// Whether leases run at about the pace of this host's clock.
    pub fn is_sane(&self) -> bool {
        let expected = self.granted.saturating_sub(self.waited);
        expected.abs_diff(self.remaining) <= Duration::from_secs(2)
    }
}

/// Asks each endpoint how it is.
pub async fn inspect(config: &ClusterConfig) -> Result<Vec<(EtcdEndpoint, Result<EtcdReport, EtcdError>)>, JoinError> {
    config.check()?;
    let mut reports = Vec::new();
    for endpoint in &config.endpoints {
        reports.push((endpoint.clone(), report(&config.at(endpoint)).await));
    }
    Ok(reports)
}

/// Takes a lease, looks how it runs, and gives it up.
pub async fn lease_clock(config: &ClusterConfig) -> Result<LeaseClock, EtcdError> {
    let connection = connect(config).await?;
    let lease = connection.grant(LeaseClock::LEASE).await?;
    let since = Instant::now();
    sleep(LeaseClock::WAIT).await;
    let remaining = connection.time_to_live(lease.id).await?.seconds.max(0);
    let waited = since.elapsed();
    connection.revoke(lease.id).await?;
    Ok(LeaseClock { granted: lease.ttl, waited, remaining: Duration::from_secs(remaining.unsigned_abs()) })
}

async fn report(config: &ClusterConfig) -> Result<EtcdReport, EtcdError> {
    let connection = connect(config).await?;
    let status = connection.status().await?;
    let header = status.header.ok_or_else(|| connection.nonsense(RequestKind::Status))?;
    Ok(EtcdReport {
        version: printable(&status.version),
        etcd: header.cluster_id,
        has_leader: status.leader != 0,
        errors: status.errors.iter().map(|error| printable(error)).collect(),
    })
}

async fn connect(config: &ClusterConfig) -> Result<Connection, EtcdError> {
    Ok(dial(config, 0, &Arc::new(Reported::new())).await?.1)
}
