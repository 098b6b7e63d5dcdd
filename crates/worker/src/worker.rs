//! [`Worker`]: a running data worker.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use chariot_fabric::transport::TlsTransport;
use chariot_index::Index;
use chariot_pool::Arena;
use chariot_types::Member;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::clustered::{ClusterThreads, Clustered};
use crate::listen::{Door, listen};
use crate::place::Place;
use crate::rest::rest;
use crate::shared::Shared;
use crate::tenants::Tenants;
use crate::tier::{Tier, keep_room};
use crate::touch::Toucher;
use crate::{Plain, Security, Tenant, WorkerConfig, WorkerError};

/// A running data worker. Dropped or stopped, it ends: every client's connection is closed, the memory goes with the
/// last client that has it mapped, and no file stays behind.
#[must_use = "a worker that is dropped ends"]
pub struct Worker {
    tenants: Arc<Tenants>,
    serving: Vec<JoinHandle<()>>,
    clustered: Vec<Clustered>,
    threads: Option<ClusterThreads>,
    _touchers: Vec<Toucher>,
    _place: Place,
}

/// How a pool joins others, on these threads.
type Join<'a> = &'a dyn Fn(&Arc<Shared>, &Handle) -> Result<Clustered, WorkerError>;

impl Worker {
    /// Starts a worker, which serves by the time this returns.
    pub fn start(mut config: WorkerConfig) -> Result<Self, WorkerError> {
        let Some(cluster) = config.cluster.take() else { return Self::start_with(config, None) };
        let join = |shared: &Arc<Shared>, threads: &Handle| {
            let mut cluster = cluster.clone();
            if let Some(tenant) = &shared.tenant {
                cluster.cluster_name = cluster.cluster_name.of_tenant(tenant);
            }
            Clustered::join(shared, cluster, threads)
        };
        Self::start_with(config, Some(&join))
    }

    /// Starts a worker without tenants in a cluster whose members others tell it, instead of an etcd.
    pub fn start_among(
        config: WorkerConfig,
        cluster: &str,
        members: watch::Receiver<Arc<[Member]>>,
    ) -> Result<Self, WorkerError> {
        let join = |shared: &Arc<Shared>, threads: &Handle| {
            Ok(Clustered::among(shared, cluster.to_owned(), members.clone(), threads))
        };
        Self::start_with(config, Some(&join))
    }

    fn start_with(config: WorkerConfig, join: Option<Join<'_>>) -> Result<Self, WorkerError> {
        check_tenants(&config.tenants)?;
        check_quotas(&config)?;
        let tls = config.security.tls.as_ref().map(TlsTransport::new).transpose()?;
        let place = Place::of(&config.address, &config.run_dir).take()?;
        let tcp = bind(&config)?;
        let tenants = Arc::new(match &config.tenants[..] {
            [] => Tenants::none(pool(&config, &place, tls.as_ref(), None)?),
            tenants => {
                let of =
                    |tenant: &Tenant| Ok((tenant.token.clone(), pool(&config, &place, tls.as_ref(), Some(tenant))?));
                Tenants::of(tenants.iter().map(of).collect::<Result<Vec<_>, WorkerError>>()?)
            }
        });
        let locals = tenants.all().map(|shared| bind_local(shared)).collect::<Result<Vec<_>, _>>()?;
        let (threads, clustered) = match join {
            Some(join) => join_all(&tenants, join)?,
            None => (None, Vec::new()),
        };
        let mut serving = Vec::new();
        for ((_, tenant), local) in tenants.each().zip(locals) {
            serving.push(serve("chariot-local", Arc::new(tenant), Door::Unix(local))?);
        }
        serving.push(serve("chariot-tcp", tenants.clone(), Door::Tcp(tcp))?);
        let touchers = tenants.all().map(|shared| Toucher::start(shared.clone())).collect::<io::Result<_>>()?;
        for shared in tenants.all() {
            let (bytes, huge_pages) = (shared.arena.len(), shared.arena.huge_pages());
            let tenant = shared.tenant.as_ref().map(tracing::field::display);
            tracing::info!(address = %shared.address, tenant, arena_bytes = bytes, ?huge_pages, "serving");
        }
        Ok(Self { tenants, serving, clustered, threads, _touchers: touchers, _place: place })
    }

    /// This run of the worker, as others of a cluster know it; with tenants, of the first of them.
    pub fn member(&self) -> Member {
        self.tenants.first().member()
    }

    /// Ends the worker; returns once all its threads have.
    pub fn stop(self) {
        // What there is to do is in `drop`.
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // First of all others: nobody is to be sent here any more.
        self.clustered.clear();
        drop(self.threads.take());
        for shared in self.tenants.all() {
            shared.ending.send_replace(true);
        }
        for thread in self.serving.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a serving thread had panicked");
            }
        }
        for tier in self.tenants.all().filter_map(|shared| shared.tier()) {
            tier.close();
        }
        tracing::info!(address = %self.tenants.first().address, "ended");
    }
}

/// A pool, its memory and its part of the disk: everyone's, or a tenant's.
fn pool(
    config: &WorkerConfig,
    place: &Place,
    tls: Option<&TlsTransport>,
    tenant: Option<&Tenant>,
) -> Result<Arc<Shared>, WorkerError> {
    let arena = Arena::create(tenant.map_or(config.shared_memory, |tenant| tenant.shared_memory))?;
    let index = Index::create(arena.len())?;
    let name = tenant.map(|tenant| tenant.name.clone());
    let socket = place.socket_of(name.as_ref());
    let shared = Shared::new(config.address.clone(), random_run()?, arena, index, socket, config.log_dir.clone())?;
    let shared = Arc::new(shared.of(name).secured(tls.cloned(), config.security.plain));
    shared.set_quotas(&config.quotas);
    if let Some(to) = &config.spill {
        let part = tenant.map(|tenant| to.part(tenant, &config.tenants));
        shared.set_tier(Tier::open(&shared, part.as_ref().unwrap_or(to))?);
    }
    Ok(shared)
}

fn join_all(tenants: &Tenants, join: Join<'_>) -> Result<(Option<ClusterThreads>, Vec<Clustered>), WorkerError> {
    let threads = ClusterThreads::start()?;
    match tenants.all().map(|shared| join(shared, threads.handle())).collect() {
        Ok(clustered) => Ok((Some(threads), clustered)),
        Err(error) => {
            threads.abandon();
            Err(error)
        }
    }
}

fn bind_local(shared: &Shared) -> Result<UnixListener, WorkerError> {
    let path = &shared.local_socket;
    UnixListener::bind(path).map_err(|source| WorkerError::RunDir { path: path.clone(), source })
}

/// Quotas hold in each tenant's pool.
fn check_quotas(config: &WorkerConfig) -> Result<(), WorkerError> {
    let sum = config.quotas.iter().fold(0, |sum: u64, quota| sum.saturating_add(quota.bytes));
    let smallest = config.tenants.iter().map(|tenant| tenant.shared_memory).min();
    let shared_memory = smallest.unwrap_or(config.shared_memory);
    if sum > shared_memory {
        return Err(WorkerError::Quotas { sum, shared_memory });
    }
    Ok(())
}

fn check_tenants(tenants: &[Tenant]) -> Result<(), WorkerError> {
    for (number, tenant) in tenants.iter().enumerate() {
        let before = &tenants[..number];
        if before.iter().any(|other| other.name == tenant.name || other.token.is(tenant.token.secret().as_bytes())) {
            return Err(WorkerError::TenantTwice { name: tenant.name.clone() });
        }
    }
    Ok(())
}

fn bind(config: &WorkerConfig) -> Result<TcpListener, WorkerError> {
    let address = || config.address.clone();
    let listen_error = |source| WorkerError::Listen { address: address(), source };
    let resolved = config.address.resolve().map_err(listen_error)?;
    let listener = TcpListener::bind(&resolved[..]).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => WorkerError::PortTaken { address: address() },
        _ => listen_error(source),
    })?;
    let Security { tls, plain } = &config.security;
    match plain {
        _ if resolved.iter().all(|resolved| resolved.ip().is_loopback()) => Ok(listener),
        Plain::Refused if tls.is_none() => Err(WorkerError::NoTls { address: address() }),
        Plain::Refused => Ok(listener),
        Plain::Allowed => {
            tracing::warn!(
                address = %config.address,
                "anyone who can reach this address can read and put blocks: `--require_tls` keeps others out"
            );
            Ok(listener)
        }
    }
}

fn serve(name: &str, tenants: Arc<Tenants>, door: Door) -> Result<JoinHandle<()>, WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_local = matches!(door, Door::Unix(_));
    door.set_nonblocking()?;
    let work = move || {
        runtime.block_on(async {
            if is_local {
                let shared = tenants.first();
                tokio::spawn(rest(shared.clone()));
                tokio::spawn(keep_room(shared.clone()));
            }
            if let Err(error) = listen(tenants, door).await {
                tracing::error!(%error, "cannot listen");
            }
        });
    };
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(work)?)
}

fn random_run() -> Result<[u8; 16], WorkerError> {
    let mut run = [0; 16];
    let mut filled = 0;
    while filled < run.len() {
        filled += rustix::rand::getrandom(&mut run[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(io::Error::from)?;
    }
    Ok(run)
}
