//! [`WorkerConfig`]: what a worker is told.

use std::path::PathBuf;

use chariot_cluster::ClusterConfig;
use chariot_fabric::transport::Credentials;
use chariot_types::{NamespaceName, TenantName, Token, WorkerAddress};

use crate::SpillTo;

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Where to listen.
    pub address: WorkerAddress,
    /// Bytes of the arena; with tenants, each says its own.
    pub shared_memory: u64,
    /// Where the worker keeps its socket and its lock; see [`default_run_dir`](crate::default_run_dir).
    pub run_dir: PathBuf,
    /// Where its log goes, for `dscli status`.
    pub log_dir: PathBuf,
    /// What namespaces may hold when others want room; those without share what is left.
    pub quotas: Vec<Quota>,
    /// Those who have a pool of their own, each by itself; without any, there is one pool for all.
    pub tenants: Vec<Tenant>,
    /// The cluster that it joins; `None` for a node by itself.
    pub cluster: Option<ClusterConfig>,
    /// How it speaks with other hosts.
    pub security: Security,
    /// Where blocks go for which memory has no room; `None` for nowhere.
    pub spill: Option<SpillTo>,
}

/// Who has a pool of its own. What a client of one holds, no client of another can map, read, list or evict.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// What it is called, in logs and in names of files and clusters.
    pub name: TenantName,
    /// By what its clients show whose they are.
    pub token: Token,
    /// Bytes of its arena.
    pub shared_memory: u64,
}

impl WorkerConfig {
    /// A worker by itself, with one pool in memory for all who come, and what it leaves on its host in these folders.
    pub fn new(address: WorkerAddress, shared_memory: u64, run_dir: PathBuf, log_dir: PathBuf) -> Self {
        Self {
            address,
            shared_memory,
            run_dir,
            log_dir,
            quotas: Vec::new(),
            tenants: Vec::new(),
            cluster: None,
            security: Security::default(),
            spill: None,
        }
    }
}

/// How a worker speaks with other hosts.
#[derive(Clone, Default, Debug)]
pub struct Security {
    /// Who it is and whom it believes: with these, workers speak TLS with each other and with nobody who does not.
    pub tls: Option<Credentials>,
    /// What is plain.
    pub plain: Plain,
}

/// What becomes of those on other hosts who do not speak TLS.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Plain {
    /// Clients are let in.
    #[default]
    Allowed,
    /// Nobody is, and a worker that could not speak otherwise does not start.
    Refused,
}

/// What a namespace may hold when others want room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quota {
    /// The namespace.
    pub namespace: NamespaceName,
    /// Bytes of the arena.
    pub bytes: u64,
}

/// The arena's size where the user names none: a quarter of the machine's memory, and no more than half of what is
/// available now.
pub fn default_shared_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
    };
    let total = field("MemTotal").unwrap_or(4 << 30);
    let available = field("MemAvailable").unwrap_or(total / 2);
    (total / 4).min(available / 2).max(64 << 20) >> 20 << 20
}
