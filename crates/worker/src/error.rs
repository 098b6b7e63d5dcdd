//! [`WorkerError`]: why a worker does not start.

use std::io;
use std::path::PathBuf;

use chariot_certificates::Unusable;
use chariot_cluster::JoinError;
use chariot_index::MemoryError;
use chariot_pool::ArenaError;
use chariot_ssd::SpillError;
use chariot_types::{TenantName, WorkerAddress};

use crate::HandoverError;

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Another worker has the address.
    #[error("a data worker already serves `{address}`{}", .pid.map(|pid| format!(", PID {pid}")).unwrap_or_default())]
    AlreadyRunning {
        /// The address.
        address: WorkerAddress,
        /// The other worker's process.
        pid: Option<u32>,
    },
    /// Another program listens on the port.
    #[error("port `{}` of `{address}` is taken by another program", .address.port())]
    PortTaken {
        /// The address.
        address: WorkerAddress,
    },
    /// The address is not one of this host, or its name is unknown.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: WorkerAddress,
        /// Why.
        source: io::Error,
    },
    /// What quotas promise is not there.
    #[error("the quotas of all namespaces are `{}` MiB together, and the shared memory is `{}`", sum >> 20, shared_memory >> 20)]
    Quotas {
        /// Bytes of all quotas.
        sum: u64,
        /// Bytes of the arena.
        shared_memory: u64,
    },
    /// Two tenants could not be told apart.
    #[error("the tenant `{name}` has the name or the token of another")]
    TenantTwice {
        /// The later of them.
        name: TenantName,
    },
    /// No arena.
    #[error("cannot set up the shared memory")]
    Arena {
        /// Why.
        #[from]
        source: ArenaError,
    },
    /// No index.
    #[error("cannot set up the index in shared memory")]
    Index {
        /// Why.
        #[from]
        source: MemoryError,
    },
    /// No file for blocks on the disk.
    #[error(transparent)]
    Spill {
        /// Why.
        #[from]
        source: SpillError,
    },
    /// The folder for blocks on the disk cannot be made.
    #[error("cannot make the spill directory `{path}`")]
    SpillDirectory {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The run directory cannot be used.
    #[error("cannot use the run directory `{path}`")]
    RunDir {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The run directory is another user's, or others can write there.
    #[error("the run directory `{path}` is not this user's alone")]
    RunDirShared {
        /// The directory.
        path: PathBuf,
    },
    /// A file that TLS needs cannot be used.
    #[error(transparent)]
    Credentials {
        /// Which, and why.
        #[from]
        source: Unusable,
    },
    /// Other hosts could speak with the worker, and not within TLS.
    #[error("`{address}` can be reached from other hosts, there is no certificate for TLS, and TLS is required")]
    NoTls {
        /// The address.
        address: WorkerAddress,
    },
    /// The worker is not let into its cluster.
    #[error("cannot join the cluster")]
    Join {
        /// Why.
        #[from]
        source: JoinError,
    },
    /// The worker that is to be gone on for does not hand over, or what it hands over is not right.
    #[error("cannot go on for the running worker")]
    Handover {
        /// Why.
        #[from]
        source: HandoverError,
    },
    /// The system refused a thread or a runtime.
    #[error("cannot start serving")]
    System {
        /// Why.
        #[from]
        source: io::Error,
    },
}

impl WorkerError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::AlreadyRunning { address, .. } => {
                Some(format!("stop it with `dscli stop -w --worker_address {address}`, or choose another address"))
            }
            Self::PortTaken { address } => {
                Some(format!("find it with `ss -ltnp 'sport = :{}'`, or choose another port", address.port()))
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some("use an address of this host: `ip -brief address` lists them".to_owned())
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 need root: choose a higher one".to_owned())
            }
            Self::Listen { .. } => Some("check that the host's name is spelt right and can be resolved".to_owned()),
            Self::Arena { source: ArenaError::TooLarge { available, .. } } => {
                Some(format!("at most `--shared_memory_size_mb {}` fits here now", available >> 20))
            }
            Self::Quotas { .. } => {
                Some("lower a `--namespace_quota_mb`, or raise `--shared_memory_size_mb`".to_owned())
            }
            Self::TenantTwice { .. } => Some("give each tenant a name and a token of its own".to_owned()),
            Self::RunDirShared { path } => {
                Some(format!("remove `{}`, or name another with CHARIOT_RUN_DIR", path.display()))
            }
            Self::Spill { source } => source.hint(),
            Self::SpillDirectory { .. } => Some("name a folder that can be written with --spill_directory".to_owned()),
            Self::RunDir { .. } => Some("name a directory that can be written with CHARIOT_RUN_DIR".to_owned()),
            Self::Join { source } => source.hint(),
            Self::Credentials { .. } => {
                Some("`--tls_ca`, `--tls_cert` and `--tls_key` name PEM files: the authority's certificate, this worker's, and its key".to_owned())
            }
            Self::NoTls { .. } => Some("name the files with `--tls_ca`, `--tls_cert` and `--tls_key`, or listen on 127.0.0.1".to_owned()),
            Self::Handover { source: HandoverError::Nobody { .. } } => Some("`dscli status` says whether one runs".to_owned()),
            Self::Handover { source: HandoverError::Tenants } => {
                Some("stop it and start it anew: its blocks in memory go".to_owned())
            }
            Self::Handover { source: HandoverError::Version { .. } } => {
                Some("the running worker goes on; stop it and start it anew to have this version".to_owned())
            }
            Self::Handover { .. } => Some("the running worker goes on as before".to_owned()),
            Self::Arena { .. } | Self::Index { .. } | Self::System { .. } => None,
        }
    }
}
