//! The answer to a status request.

use std::sync::atomic::Ordering;

use chariot_cluster::{Contact, Observer, Registered, RequestKind};
use chariot_pool::{HugePages, NamespaceStats};
use chariot_wire::{ClusterStatus, EtcdStatus, NamespaceStatus, SessionStatus, Status};

use crate::shared::Shared;

/// How the worker is at this moment.
pub(crate) fn status(shared: &Shared) -> Status {
    let (pool, namespaces, waiting, sessions) = {
        let state = shared.state();
        let sessions: Vec<_> = state.sessions.values().cloned().collect();
        (state.pool.stats(), state.pool.namespaces(), state.waiters.len() as u64, sessions)
    };
    Status {
        worker_address: shared.address.to_string(),
        tenant: shared.tenant.as_ref().map(ToString::to_string),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: shared.started.elapsed().as_secs_f64(),
        capacity_bytes: pool.capacity,
        free_bytes: pool.free,
        granted_bytes: pool.granted,
        largest_free_bytes: pool.largest_free_run,
        sealed_blocks: pool.sealed.blocks,
        sealed_bytes: pool.sealed.bytes,
        growing_blocks: pool.growing.blocks,
        pinned_blocks: pool.pinned.blocks,
        detached_blocks: pool.detached.blocks,
        touched_bytes: shared.touched.load(Ordering::Relaxed),
        huge_pages: shared.arena.huge_pages() == HugePages::Allowed,
        resident_bytes: resident_bytes().unwrap_or(0),
        puts: pool.puts,
        put_bytes: pool.put_bytes,
        duplicates: pool.duplicates,
        hits: pool.hits,
        hit_bytes: pool.hit_bytes,
        misses: pool.misses,
        soft_pinned_blocks: pool.soft_pinned.blocks,
        soft_pinned_bytes: pool.soft_pinned.bytes,
        namespaces: namespaces
            .into_iter()
            .map(|NamespaceStats { name, held, quota }| NamespaceStatus {
                name: name.to_string(),
                blocks: held.blocks,
                bytes: held.bytes,
                quota_bytes: quota,
            })
            .collect(),
        evictions: pool.evictions,
        expired: pool.expired,
        waiting,
        misuses: shared.misuses.load(Ordering::Relaxed),
        sessions: sessions
            .into_iter()
            .map(|facts| SessionStatus {
                name: facts.name,
                pid: facts.pid,
                namespace: facts.namespace.to_string(),
                transport: facts.transport.to_owned(),
                connected_s: facts.since.elapsed().as_secs_f64(),
            })
            .collect(),
        log_dir: shared.log_dir.display().to_string(),
        spill: shared.tier().map(|tier| tier.status()),
        cluster: shared.node().map(|node| ClusterStatus { etcd: shared.etcd().map(etcd), ..node.status() }),
    }
}

/// How it stands with etcd.
fn etcd(observer: &Observer) -> EtcdStatus {
    let health = observer.health();
    let config = observer.config();
    let (is_connected, endpoint, since, error) = match health.contact {
        Contact::Connected { endpoint, since } => (true, endpoint.to_string(), since, String::new()),
        Contact::Away { since, why } => (false, String::new(), since, why),
    };
    let requests = RequestKind::ALL.map(|kind| (kind.name().to_owned(), health.requests.of(kind)));
    EtcdStatus {
        endpoints: config.endpoints.iter().map(ToString::to_string).collect(),
        lease_s: config.lease.as_secs_f64(),
        is_connected,
        endpoint,
        since_s: since.elapsed().as_secs_f64(),
        error,
        is_registered: health.registered == Registered::Yes,
        taken_by: match health.registered {
            Registered::Taken { by } => by,
            Registered::Yes | Registered::NotNow => String::new(),
        },
        requests: requests.into(),
    }
}

/// Resident memory of this process without shared memory, which is the arena.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
    };
    Some(field("RssAnon:")? + field("RssFile:")?)
}
