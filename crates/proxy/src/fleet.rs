//! The instances of one side: picks one for each request, reuses connections to it, and tries another where one is gone.
//!
//! When a request is sent a second time:
//! - nothing of it was sent: always;
//! - the connection was an old one and broke (the instance restarted while it lay idle): once, on a new connection to the
//!   same instance, where [`Repeat`] allows it;
//! - the connection was new and broke before any answer: on one other instance of the side. A request that kills the
//!   engines that touch it shall not visit all of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chariot_types::WorkerAddress;
use hyper::Response;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::balance::{Balance, Tried};
use crate::connection::{Connection, Unanswered};
use crate::metrics::{Metrics, UpstreamFailure};
use crate::outbound::{Outbound, Repeat};
use crate::reply::Reply;
use crate::{InstanceAddress, ProxyConfig, Side};

/// Idle connections kept for one instance.
const MOST_IDLE: usize = 256;

/// How many instances of a side may break under one request before it is given up there.
pub(crate) const MOST_BROKEN: usize = 2;

/// All instances of one side.
pub(crate) struct Fleet {
    side: Side,
    instances: Vec<Instance>,
    /// One lock for all instances, so that two requests cannot both see the same one as least busy. Held for a few
    /// comparisons, never across an await.
    balance: Mutex<Balance>,
    metrics: Arc<Metrics>,
    connect_timeout: Duration,
    peer_silence: Duration,
    idle_timeout: Duration,
}

struct Instance {
    address: InstanceAddress,
    host: HeaderValue,
    /// The data worker on its node, where it is known.
    worker: Option<WorkerAddress>,
    /// Connections without a request, the one used last at the end. A lock because requests run on any thread.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// An instance that brought no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("cannot connect to {side} instance `{address}`")]
    Unreachable { side: Side, address: InstanceAddress, source: io::Error },
    #[error("{side} instance `{address}` closed the connection without an answer")]
    Broken { side: Side, address: InstanceAddress, source: hyper::Error },
}

impl Fleet {
    pub(crate) fn new(side: Side, config: &ProxyConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        let addresses = match side {
            Side::Prefill => &config.prefill,
            Side::Decode => &config.decode,
        };
        let worker = |index| match side {
            Side::Prefill => None,
            Side::Decode => config.decode_worker(index).cloned(),
        };
        Arc::new(Self {
            side,
            instances: addresses
                .iter()
                .enumerate()
                .map(|(index, address)| Instance::new(address.clone(), worker(index)))
                .collect(),
            balance: Mutex::new(Balance::new(addresses.len(), config.backoff.clone())),
            metrics,
            connect_timeout: config.timeouts.connect,
            peer_silence: config.timeouts.peer_silence,
            idle_timeout: config.timeouts.upstream_idle,
        })
    }

    /// The instance best placed to answer a request. With every instance in back-off it is one of them all the same: an
    /// attempt is better than a refusal.
    pub(crate) fn choose(self: &Arc<Self>) -> Lease {
        self.choose_beside(&Tried::default()).expect("a side without instances is refused at start")
    }

    /// Sends a request to the instance best placed to answer it; see [`Self::send_by`].
    pub(crate) async fn send(self: &Arc<Self>, outbound: &Outbound) -> Result<Response<Reply>, NoAnswer> {
        self.send_by(self.choose(), outbound).await
    }

    /// Sends a request to an instance that was chosen before, and to others where that one does not answer.
    pub(crate) async fn send_by(
        self: &Arc<Self>,
        mut lease: Lease,
        outbound: &Outbound,
    ) -> Result<Response<Reply>, NoAnswer> {
        let (mut tried, mut broken) = (Tried::default(), 0);
        loop {
            tried.add(lease.index);
            let failure = match lease.send(outbound).await {
                Ok(response) => return Ok(response),
                Err(unanswered) => unanswered,
            };
            if matches!(failure, NoAnswer::Broken { .. }) {
                broken += 1;
                if broken == MOST_BROKEN || outbound.repeat == Repeat::Never {
                    return Err(failure);
                }
            }
            match self.choose_beside(&tried) {
                Some(next) => lease = next,
                None => return Err(failure),
            }
        }
    }

    fn choose_beside(self: &Arc<Self>, tried: &Tried) -> Option<Lease> {
        self.take_available(tried).or_else(|| self.take_any(tried))
    }

    /// The least busy instance that is not in back-off.
    pub(crate) fn take_available(self: &Arc<Self>, tried: &Tried) -> Option<Lease> {
        let index = self.balance.lock().take_available(tried, Instant::now())?;
        Some(Lease { fleet: Arc::clone(self), index })
    }

    fn take_any(self: &Arc<Self>, tried: &Tried) -> Option<Lease> {
        let index = self.balance.lock().take_any(tried)?;
        Some(Lease { fleet: Arc::clone(self), index })
    }

    /// The instance at `index`, whatever its standing.
    pub(crate) fn take(self: &Arc<Self>, index: usize) -> Lease {
        self.balance.lock().take_this(index);
        Lease { fleet: Arc::clone(self), index }
    }

    /// Counts a failure against an instance and leaves it alone for a while.
    pub(crate) fn failed(&self, index: usize, failure: UpstreamFailure, cause: &dyn std::error::Error) {
        let instance = &self.instances[index].address;
        self.metrics.upstream_failed(self.side, instance, failure);
        if self.balance.lock().failed(index, Instant::now()) {
            let (side, failure) = (self.side.name(), failure.name());
            warn!(side, %instance, failure, %cause, "instance failed, it is left alone for a while");
        }
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &InstanceAddress> {
        self.instances.iter().map(|instance| &instance.address)
    }

    /// How many requests each instance has outstanding.
    pub(crate) fn outstanding(&self) -> Vec<usize> {
        let balance = self.balance.lock();
        (0..self.instances.len()).map(|index| balance.outstanding(index)).collect()
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Closes idle connections that are too old or that the instance has closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        for instance in &self.instances {
            let fresh = |idle: &mut Idle| now - idle.since < self.idle_timeout && idle.connection.is_idle();
            instance.idle.lock().retain_mut(fresh);
        }
    }
}

impl Instance {
    fn new(address: InstanceAddress, worker: Option<WorkerAddress>) -> Self {
        let host = HeaderValue::from_str(&address.to_string()).expect("an address that was parsed is printable");
        Self { address, host, worker, idle: Mutex::new(Vec::new()) }
    }

    fn take_idle(&self, timeout: Duration) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some(Idle { mut connection, since }) = idle.pop() {
            if since.elapsed() < timeout && connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }
}

/// One request's hold on one instance, which counts as busier by it until the lease is dropped.
pub(crate) struct Lease {
    fleet: Arc<Fleet>,
    index: usize,
}

impl Lease {
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn address(&self) -> &InstanceAddress {
        &self.instance().address
    }

    /// The data worker on the instance's node, where it is known.
    pub(crate) fn worker(&self) -> Option<&WorkerAddress> {
        self.instance().worker.as_ref()
    }

    /// Sends the request to this instance and waits for the head of the answer. The body holds the lease on.
    pub(crate) async fn send(self, outbound: &Outbound) -> Result<Response<Reply>, NoAnswer> {
        let request = outbound.to_request(&self.instance().host);
        let request = match self.instance().take_idle(self.fleet.idle_timeout) {
            None => request,
            Some(connection) => match connection.exchange(request).await {
                Ok((response, connection)) => return Ok(self.answered(response, connection)),
                Err(Unanswered::Unsent(request)) => *request,
                Err(Unanswered::Broken(_stale)) if outbound.repeat == Repeat::Harmless => {
                    outbound.to_request(&self.instance().host)
                }
                Err(Unanswered::Broken(source)) => return Err(self.broken(source)),
            },
        };
        let connection = Connection::open(self.address(), self.fleet.connect_timeout, self.fleet.peer_silence).await;
        let connection = connection.map_err(|source| self.unreachable(source))?;
        match connection.exchange(request).await {
            Ok((response, connection)) => Ok(self.answered(response, connection)),
            Err(Unanswered::Unsent(_)) => Err(self.unreachable(io::ErrorKind::ConnectionReset.into())),
            Err(Unanswered::Broken(source)) => Err(self.broken(source)),
        }
    }

    /// Takes a connection back whose exchange is over.
    pub(crate) fn keep(&self, mut connection: Connection) {
        if connection.is_idle() {
            let mut idle = self.instance().idle.lock();
            if idle.len() < MOST_IDLE {
                idle.push(Idle { connection, since: Instant::now() });
            }
        }
    }

    /// Counts a failure of a reply that had begun. The instance is not left alone: the next request tells.
    pub(crate) fn cut(&self, cause: &hyper::Error) {
        self.fleet.metrics.upstream_failed(self.fleet.side, self.address(), UpstreamFailure::Cut);
        warn!(side = self.fleet.side.name(), instance = %self.address(), %cause, "instance broke off a reply");
    }

    fn answered(self, response: Response<hyper::body::Incoming>, connection: Connection) -> Response<Reply> {
        if self.fleet.balance.lock().succeeded(self.index) {
            info!(side = self.fleet.side.name(), instance = %self.address(), "instance answers again");
        }
        response.map(|body| Reply::new(body, connection, self))
    }

    fn unreachable(&self, source: io::Error) -> NoAnswer {
        self.fleet.failed(self.index, UpstreamFailure::Unreachable, &source);
        NoAnswer::Unreachable { side: self.fleet.side, address: self.address().clone(), source }
    }

    fn broken(&self, source: hyper::Error) -> NoAnswer {
        self.fleet.failed(self.index, UpstreamFailure::Broken, &source);
        NoAnswer::Broken { side: self.fleet.side, address: self.address().clone(), source }
    }

    fn instance(&self) -> &Instance {
        &self.fleet.instances[self.index]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.fleet.balance.lock().release(self.index);
    }
}
