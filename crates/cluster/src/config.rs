//! [`ClusterConfig`]: which cluster a worker joins, and by which etcd.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint::Scheme;
use crate::{ClusterName, EtcdEndpoint, JoinError};

/// Which cluster a worker joins, and by which etcd.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Members of one etcd; any that answers will do.
    pub endpoints: Vec<EtcdEndpoint>,
    /// Which of the clusters that share the etcd.
    pub cluster_name: ClusterName,
    /// How long others believe that a worker which says nothing is alive. Whole seconds.
    pub lease: Duration,
    /// How etcd is spoken to.
    pub security: Security,
}

/// The lease where the user names none.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);

/// How etcd is spoken to.
#[derive(Clone, Default, Debug)]
pub struct Security {
    /// TLS, or plain text.
    pub tls: Option<Tls>,
    /// The user that etcd knows this worker as.
    pub login: Option<Login>,
}

/// What TLS needs, as PEM files. They are read at each connection, so they may be renewed.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authorities that may have signed etcd's certificate.
    pub ca: PathBuf,
    /// Who this worker is to an etcd that wants client certificates.
    pub identity: Option<TlsIdentity>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    /// The certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A user of etcd.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Without the password, which has no place in a log.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl ClusterConfig {
    /// A cluster in plain text, with the defaults for all but the endpoints.
    pub fn new(endpoints: Vec<EtcdEndpoint>) -> Self {
        Self { endpoints, cluster_name: ClusterName::default(), lease: DEFAULT_LEASE, security: Security::default() }
    }

    /// The same, by this member of etcd alone.
    pub(crate) fn at(&self, endpoint: &EtcdEndpoint) -> Self {
        Self { endpoints: vec![endpoint.clone()], ..self.clone() }
    }

    /// Refuses what contradicts itself.
    pub(crate) fn check(&self) -> Result<(), JoinError> {
        if self.endpoints.is_empty() {
            return Err(JoinError::NoEndpoint);
        }
        let contradicts = match &self.security.tls {
            Some(_) => Scheme::Http,
            None => Scheme::Https,
        };
        match self.endpoints.iter().find(|endpoint| endpoint.scheme() == contradicts) {
            Some(endpoint) if contradicts == Scheme::Https => {
                Err(JoinError::NoAuthority { endpoint: endpoint.clone() })
            }
            Some(endpoint) => Err(JoinError::AuthorityForPlainText { endpoint: endpoint.clone() }),
            None => Ok(()),
        }
    }
}
