//! Workers that join, and what is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_cluster::{ClusterConfig, Contact, Health, JoinError, Membership};
use chariot_types::{Member, RunId};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::server::{Etcd, PATIENCE};

/// Longer than a test waits for anything: what goes within one goes for another reason.
pub(crate) const LONG_LEASE: Duration = Duration::from_secs(600);

/// As short as may be where a busy machine is to keep it alive.
pub(crate) const SHORT_LEASE: Duration = Duration::from_secs(3);

/// A worker's run at an address that is made of its number.
pub(crate) fn member(node: u16, run: u8) -> Member {
    Member { run: RunId::from_bytes([run; 16]), address: format!("127.0.0.1:{}", 31_000 + node).parse().unwrap() }
}

/// The key of that worker's record in the default cluster.
pub(crate) fn key(node: u16) -> String {
    format!("/chariot/default/workers/127.0.0.1:{}", 31_000 + node)
}

/// What stands at a worker's key.
pub(crate) struct Standing {
    /// 0 for none.
    pub(crate) lease: i64,
}

/// What stands at a worker's key, if anything does.
pub(crate) fn record(etcd: &Etcd, node: u16) -> Option<Standing> {
    let json: serde_json::Value = serde_json::from_str(&etcd.ctl(&["get", &key(node), "-w", "json"])).unwrap();
    let record = json["kvs"].get(0)?;
    Some(Standing { lease: record["lease"].as_i64().unwrap_or(0) })
}

/// Returns once `condition` holds, which asks etcd.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not so: {what}");
    }
}

/// A cluster by etcd at these addresses.
pub(crate) fn config(addresses: &[String], lease: Duration) -> ClusterConfig {
    let endpoints = addresses.iter().map(|address| address.parse().unwrap()).collect();
    ClusterConfig { lease, ..ClusterConfig::new(endpoints) }
}

/// Joins as a worker's run.
pub(crate) async fn join(etcd: &Etcd, lease: Duration, node: u16, run: u8) -> Membership {
    Membership::join(config(&etcd.addresses(), lease), member(node, run)).await.unwrap()
}

/// The same with an etcd that may be too busy to answer at once.
pub(crate) async fn join_at_last(etcd: &Etcd, lease: Duration, node: u16, run: u8) -> Membership {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Membership::join(config(&etcd.addresses(), lease), member(node, run)).await {
            Ok(membership) => return membership,
            Err(error) => assert!(
                matches!(error, JoinError::Unreachable { .. }) && Instant::now() < deadline,
                "a worker cannot join: {error}"
            ),
        }
    }
}

/// Why a worker does not join.
pub(crate) async fn refused(config: ClusterConfig, member: Member) -> JoinError {
    match Membership::join(config, member).await {
        Ok(_) => panic!("it joined"),
        Err(error) => error,
    }
}

/// Returns once these are the members.
pub(crate) async fn sees(membership: &Membership, members: &[Member]) {
    reaches(&mut membership.members(), members).await;
}

/// Returns once these are the members that are told.
pub(crate) async fn reaches(told: &mut watch::Receiver<Arc<[Member]>>, members: &[Member]) {
    if timeout(PATIENCE, told.wait_for(|now| **now == *members)).await.is_err() {
        panic!("still {:?}, not {members:?}", told.borrow());
    }
}

/// Returns once `condition` holds for how it stands with etcd.
pub(crate) async fn healthy(membership: &Membership, condition: impl Fn(&Health) -> bool) -> Health {
    let wait = async {
        loop {
            let health = membership.health();
            if condition(&health) {
                return health;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("still {:?}", membership.health()))
}

pub(crate) fn is_away(health: &Health) -> bool {
    matches!(health.contact, Contact::Away { .. })
}

pub(crate) fn is_connected(health: &Health) -> bool {
    matches!(health.contact, Contact::Connected { .. })
}
