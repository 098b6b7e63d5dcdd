//! [`Worker`]: a running data worker.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use chariot_fabric::transport::TlsTransport;
use chariot_index::Index;
use chariot_pool::Arena;
use chariot_tcp::unpace;
use chariot_types::Member;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::clustered::{Clustered, InCluster};
use crate::handover::{Course, Giver, Giving, Inheritance, PausedSession, Settling, Unsettled};
use crate::listen::{Door, listen};
use crate::place::Place;
use crate::rest::rest;
use crate::running::{Parts, Running};
use crate::shared::Shared;
use crate::tenants::Tenants;
use crate::tier::{Tier, keep_room};
use crate::touch::Toucher;
use crate::{HandoverError, Plain, Security, Tenant, WorkerConfig, WorkerError};

/// A running data worker. Dropped or stopped, it ends: every client's connection is closed, the memory goes with the
/// last client that has it mapped, and no file stays behind; unless it was handed over to another process, where it goes on.
#[must_use = "a worker that is dropped ends"]
pub struct Worker {
    tenants: Arc<Tenants>,
    running: Arc<Running>,
    /// `None` where there are tenants, and once it ends.
    giver: Option<Giver>,
}

/// What is needed to serve.
struct Doors {
    /// One a tenant.
    locals: Vec<UnixListener>,
    tcp: TcpListener,
    /// Where a process asks that is to go on for the worker.
    heir: Option<UnixListener>,
    /// Clients that were there before.
    paused: Vec<PausedSession>,
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
        let locals = tenants.all().map(|shared| bind_at(shared.local_socket.clone())).collect::<Result<Vec<_>, _>>()?;
        let heir = match config.tenants[..] {
            [] => Some(bind_at(place.heir())?),
            _ => None,
        };
        let clustered = match join {
            Some(join) => Some(InCluster::join(tenants.all(), join)?),
            None => None,
        };
        Self::serve(
            tenants,
            place,
            Doors { locals, tcp, heir, paused: Vec::new() },
            Arc::new(Mutex::new(clustered)),
            None,
        )
    }

    /// Goes on for the worker that serves at the address now, with its arena, its blocks and its clients, and serves by
    /// the time this returns. After an error that one goes on as if nothing had been. Not for workers with tenants.
    pub fn take_over(mut config: WorkerConfig) -> Result<Self, WorkerError> {
        if !config.tenants.is_empty() {
            return Err(HandoverError::Tenants.into());
        }
        check_quotas(&config)?;
        let tls = config.security.tls.as_ref().map(TlsTransport::new).transpose()?;
        check_reach(&config, &resolve(&config)?)?;
        let place = Place::of(&config.address, &config.run_dir);
        let mut inheritance = Inheritance::ask(&place, &config)?;
        let (arena, index) = inheritance.memory()?;
        let shared = Shared::new(config.address, random_run()?, arena, index, place.socket(), config.log_dir)?;
        let shared = Arc::new(shared.secured(tls, config.security.plain));
        shared.set_quotas(&config.quotas);
        inheritance.fill(&shared)?;
        shared.touched.store(inheritance.touched, Ordering::Relaxed);
        inheritance.accept()?;
        let left_behind = inheritance.left_behind();
        let Inheritance { channel, local, tcp, heir, lock, clients, .. } = inheritance;
        // Whoever opened it may have been of a version that did not.
        unpace(&tcp);
        let place = place.inherit(lock)?;
        let clustered = Arc::default();
        let settling = Settling::start(Unsettled {
            shared: shared.clone(),
            channel,
            cluster: config.cluster.take(),
            clustered: Arc::clone(&clustered),
            spill: config.spill,
            left_behind,
        })?;
        settling.wait_for_cluster();
        let doors = Doors { locals: vec![local], tcp, heir: Some(heir), paused: clients };
        Self::serve(Arc::new(Tenants::none(shared)), place, doors, clustered, Some(settling))
    }

    fn serve(
        tenants: Arc<Tenants>,
        place: Place,
        doors: Doors,
        clustered: Arc<Mutex<Option<InCluster>>>,
        settling: Option<Settling>,
    ) -> Result<Self, WorkerError> {
        let Doors { locals, tcp, heir, mut paused } = doors;
        let copies = locals.first().map(UnixListener::try_clone).transpose()?.zip(Some(tcp.try_clone()?));
        let lock = place.lock()?;
        let mut serving = Vec::new();
        for ((_, tenant), local) in tenants.each().zip(locals) {
            serving.push(serve("chariot-local", Arc::new(tenant), Door::Unix(local), std::mem::take(&mut paused))?);
        }
        serving.push(serve("chariot-tcp", tenants.clone(), Door::Tcp(tcp), Vec::new())?);
        let touchers = tenants.all().map(|shared| Toucher::start(shared.clone())).collect::<io::Result<_>>()?;
        let parts = Parts { serving, clustered, settling, touchers, place };
        let running = Arc::new(Running::new(tenants.clone(), parts));
        let giver = match heir.zip(copies) {
            Some((heir, (local, tcp))) => Some(Giver::start(Giving {
                shared: tenants.first().clone(),
                running: running.clone(),
                heir,
                local: local.into(),
                tcp: tcp.into(),
                lock,
            })?),
            None => None,
        };
        for shared in tenants.all() {
            let (bytes, huge_pages) = (shared.arena.len(), shared.arena.huge_pages());
            let tenant = shared.tenant.as_ref().map(tracing::field::display);
            tracing::info!(address = %shared.address, tenant, arena_bytes = bytes, ?huge_pages, "serving");
        }
        Ok(Self { tenants, running, giver })
    }

    /// This run of the worker, as others of a cluster know it; with tenants, of the first of them.
    pub fn member(&self) -> Member {
        self.tenants.first().member()
    }

    /// Returns when the worker goes on in another process, and nothing is left to do here but to [stop](Self::stop).
    pub async fn handed_over(&self) {
        let mut course = self.tenants.first().course.subscribe();
        // It does not end while this is here.
        let _ = course.wait_for(|course| *course == Course::Gone).await;
    }

    /// Ends the worker; returns once all its threads have.
    pub fn stop(self) {
        // What there is to do is in `drop`.
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.giver.take());
        self.running.end();
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

fn bind_at(path: PathBuf) -> Result<UnixListener, WorkerError> {
    UnixListener::bind(&path).map_err(|source| WorkerError::RunDir { path, source })
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

fn resolve(config: &WorkerConfig) -> Result<Vec<SocketAddr>, WorkerError> {
    let address = || config.address.clone();
    config.address.resolve().map_err(|source| WorkerError::Listen { address: address(), source })
}

fn bind(config: &WorkerConfig) -> Result<TcpListener, WorkerError> {
    let address = || config.address.clone();
    let resolved = resolve(config)?;
    let listener = TcpListener::bind(&resolved[..]).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => WorkerError::PortTaken { address: address() },
        _ => WorkerError::Listen { address: address(), source },
    })?;
    unpace(&listener);
    check_reach(config, &resolved)?;
    Ok(listener)
}

/// Whether those who can reach the worker from other hosts are let in only as the user wants.
fn check_reach(config: &WorkerConfig, resolved: &[SocketAddr]) -> Result<(), WorkerError> {
    let Security { tls, plain } = &config.security;
    match plain {
        _ if resolved.iter().all(|resolved| resolved.ip().is_loopback()) => {}
        Plain::Refused if tls.is_none() => return Err(WorkerError::NoTls { address: config.address.clone() }),
        Plain::Refused => {}
        Plain::Allowed => tracing::warn!(
            address = %config.address,
            "anyone who can reach this address can read and put blocks: `--require_tls` keeps others out"
        ),
    }
    Ok(())
}

fn serve(
    name: &str,
    tenants: Arc<Tenants>,
    door: Door,
    paused: Vec<PausedSession>,
) -> Result<JoinHandle<()>, WorkerError> {
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
            if let Err(error) = listen(tenants, door, paused).await {
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
