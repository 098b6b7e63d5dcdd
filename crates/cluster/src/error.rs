//! [`JoinError`]: why a worker does not join, and [`EtcdError`]: what went wrong with etcd.

use std::io;

use chariot_certificates::Unusable;
use chariot_types::WorkerAddress;

use crate::{ClusterName, EtcdEndpoint, RequestKind};

/// Why a worker does not join its cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No etcd is named.
    #[error("no address of etcd is given")]
    NoEndpoint,
    /// An endpoint wants TLS, and there is no authority to trust.
    #[error("etcd at `{endpoint}` is to be spoken to by TLS, but no certificate authority is given")]
    NoAuthority {
        /// The endpoint.
        endpoint: EtcdEndpoint,
    },
    /// An endpoint wants plain text, and there are files for TLS.
    #[error("etcd at `{endpoint}` is to be spoken to in plain text, but a certificate authority is given")]
    AuthorityForPlainText {
        /// The endpoint.
        endpoint: EtcdEndpoint,
    },
    /// It cannot be said which host this is.
    #[error("cannot tell this host from others")]
    Host {
        /// Why.
        source: io::Error,
    },
    /// No etcd answers.
    #[error("cannot reach etcd at `{endpoints}`")]
    Unreachable {
        /// All that were tried.
        endpoints: String,
        /// What happened last.
        source: EtcdError,
    },
    /// Etcd does not let this worker do what it needs to.
    #[error("etcd at `{endpoints}` refuses this worker")]
    Refused {
        /// All that etcd was said to be.
        endpoints: String,
        /// Why.
        source: EtcdError,
    },
    /// A worker of another host has the address.
    #[error("the address `{address}` is another worker's in cluster `{cluster}`, on host `{host}`")]
    Clash {
        /// The address.
        address: WorkerAddress,
        /// The cluster.
        cluster: ClusterName,
        /// What the other says of its host.
        host: String,
    },
}

impl JoinError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoEndpoint | Self::NoAuthority { .. } => {
                Some("name one with `--etcd_address`, and for TLS `--etcd_ca`".into())
            }
            Self::AuthorityForPlainText { .. } => Some("leave out `--etcd_ca`, or write `https://`".into()),
            Self::Host { .. } => None,
            Self::Unreachable { source, .. } => Some(source.hint_of_silence().into()),
            Self::Refused { source, .. } => source.hint_of_refusal().map(str::to_owned),
            Self::Clash { cluster, .. } => Some(format!(
                "give each worker an address at which the others reach it (not 127.0.0.1 on several hosts), or \
                 another `--cluster_name` than `{cluster}`; the record of a worker that died goes when its lease runs out"
            )),
        }
    }
}

/// What went wrong with etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A file that TLS needs cannot be used.
    #[error(transparent)]
    Credentials {
        /// Which, and why.
        #[from]
        source: Unusable,
    },
    /// No connection.
    #[error("cannot connect to `{endpoint}`")]
    Dial {
        /// Where to.
        endpoint: EtcdEndpoint,
        /// Why not.
        source: io::Error,
    },
    /// A connection, but no HTTP/2.
    #[error("`{endpoint}` does not speak as etcd does")]
    NotEtcd {
        /// Which does not.
        endpoint: EtcdEndpoint,
        /// What happened.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("`{endpoint}` did not answer in time ({})", .asked.name())]
    Silent {
        /// Which did not.
        endpoint: EtcdEndpoint,
        /// What it was asked.
        asked: RequestKind,
    },
    /// An answer that says no.
    #[error("`{endpoint}` answers `{message}` ({})", .asked.name())]
    Refused {
        /// Which does.
        endpoint: EtcdEndpoint,
        /// What it was asked.
        asked: RequestKind,
        /// The kind of refusal.
        code: tonic::Code,
        /// In its words.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("`{endpoint}` answers what makes no sense ({})", .asked.name())]
    Nonsense {
        /// Which does.
        endpoint: EtcdEndpoint,
        /// What it was asked.
        asked: RequestKind,
    },
}

impl EtcdError {
    /// Whether it will be the same however often it is tried.
    pub fn is_final(&self) -> bool {
        use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented};
        match self {
            Self::Credentials { .. } => true,
            // The two have spoken, and do not agree on TLS.
            Self::Dial { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            Self::Refused { code, .. } => {
                matches!(code, InvalidArgument | PermissionDenied | Unauthenticated | Unimplemented)
            }
            Self::NotEtcd { .. } | Self::Silent { .. } | Self::Nonsense { .. } => false,
        }
    }

    /// What to do about an etcd that was tried for a time.
    fn hint_of_silence(&self) -> &'static str {
        match self {
            Self::Refused { .. } | Self::NotEtcd { .. } => {
                "check that it is etcd's client port, and whether etcd wants TLS: `--etcd_ca` names its authority, and \
                 `--etcd_cert` and `--etcd_key` what it may want of this node"
            }
            _ => {
                "check that etcd runs and that this host may connect to it, or leave out `--etcd_address` for a single node"
            }
        }
    }

    /// What to do about an error that is final.
    fn hint_of_refusal(&self) -> Option<&'static str> {
        Some(match self {
            Self::Dial { .. } => {
                "the two do not agree on TLS: check that `--etcd_ca` is etcd's authority, and `--etcd_cert`"
            }
            Self::Refused { code: tonic::Code::PermissionDenied, .. } => {
                "the user needs read and write access to the keys from `/chariot/`"
            }
            Self::Refused { message, .. } if message.contains("user name is empty") => {
                "etcd wants a user: `--etcd_user`, and the password in a file or CHARIOT_ETCD_PASSWORD"
            }
            Self::Refused { message, .. } if message.contains("authentication failed") => {
                "check the user's name and password"
            }
            _ => return None,
        })
    }
}
