//! Which workers are alive: each has one record in etcd, under a lease that it keeps alive.
//!
//! This is the only place that knows etcd, and it knows nothing of keys, blocks or how workers reach each other. What
//! comes of each event is stated in `docs/design/cluster.md`. [`Membership::join`] is the way in; [`Membership::members`]
//! what others follow.
//!
//! Nothing is asked of etcd but what a membership needs: a keep-alive every third of the lease, and a few requests
//! whenever a connection is made. [`Health`] counts them.
//!
//! - `keeper`: the task that does it all, over one connection at a time, and begins anew whenever that fails.
//! - `registration`: this worker's own record, and what stands in its way.
//! - `roster`: the members, from the records of all.
//! - `dial`, `tls`, `connection`: HTTP/2 and gRPC to whichever of etcd's members answers.
//! - `inspect`: a look at etcd, without joining.
//! - `questions`, `watch`, `proto`: etcd's interface, as far as it is needed.

mod config;
mod connection;
mod dial;
mod endpoint;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod health;
mod host;
mod inspect;
mod keeper;
mod membership;
mod name;
mod pause;
mod proto;
mod questions;
mod record;
mod registration;
mod roster;
mod tls;
mod watch;

use std::time::Duration;

pub use config::{ClusterConfig, DEFAULT_LEASE, Login, Security, Tls, TlsIdentity};
pub use endpoint::{EndpointError, EtcdEndpoint};
pub use error::{EtcdError, JoinError};
pub use health::{Contact, Health, Registered, RequestKind, Requests};
pub use inspect::{EtcdReport, LeaseClock, inspect, lease_clock};
pub use membership::{Farewell, Membership, Observer};
pub use name::{ClusterName, ClusterNameError};

/// How long a connection may take to be there.
const DIAL_PATIENCE: Duration = Duration::from_secs(2);

/// How long one endpoint is tried before another is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long an answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// How long etcd may take to be reached when a worker joins.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// How long leaving may take.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// Workers that were away together with etcd have registered anew by this time after it is back: the longest pause, and
/// the time to connect.
const SETTLED_AFTER: Duration = Duration::from_secs(4);

/// Answers are not received beyond this: a page of records, each as long as etcd allows by default, takes 48 MiB.
const LARGEST_MESSAGE: usize = 50 << 20;
