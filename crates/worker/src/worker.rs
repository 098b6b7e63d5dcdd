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

use tokio::sync::watch;

use crate::clustered::Clustered;
use crate::listen::{Door, listen};
use crate::place::Place;
use crate::rest::rest;
use crate::shared::Shared;
use crate::tier::{Tier, keep_room};
use crate::touch::Toucher;
use crate::{Plain, Security, WorkerConfig, WorkerError};

/// A running data worker. Dropped or stopped, it ends: every client's connection is closed, the memory goes with the
/// last client that has it mapped, and no file stays behind.
#[must_use = "a worker that is dropped ends"]
pub struct Worker {
    shared: Arc<Shared>,
    serving: Vec<JoinHandle<()>>,
    clustered: Option<Clustered>,
    _toucher: Toucher,
    _place: Place,
}

impl Worker {
    /// Starts a worker, which serves by the time this returns.
    pub fn start(mut config: WorkerConfig) -> Result<Self, WorkerError> {
        let cluster = config.cluster.take();
        Self::start_with(config, |shared| cluster.map(|cluster| Clustered::join(shared, cluster)).transpose())
    }

    /// Starts a worker of a cluster whose members others tell it, instead of an etcd.
    pub fn start_among(
        config: WorkerConfig,
        cluster: &str,
        members: watch::Receiver<Arc<[Member]>>,
    ) -> Result<Self, WorkerError> {
        Self::start_with(config, |shared| Clustered::among(shared, cluster, members).map(Some))
    }

    fn start_with(
        config: WorkerConfig,
        join: impl FnOnce(&Arc<Shared>) -> Result<Option<Clustered>, WorkerError>,
    ) -> Result<Self, WorkerError> {
        check_quotas(&config)?;
        let tls = config.security.tls.as_ref().map(TlsTransport::new).transpose()?;
        let place = Place::of(&config.address, &config.run_dir).take()?;
        let tcp = bind(&config)?;
        let arena = Arena::create(config.shared_memory)?;
        let index = Index::create(arena.len())?;
        let socket = place.socket();
        let run_dir_error = |source| WorkerError::RunDir { path: socket.clone(), source };
        let local = UnixListener::bind(&socket).map_err(run_dir_error)?;
        let shared = Shared::new(config.address, random_run()?, arena, index, socket.clone(), config.log_dir)?;
        let shared = Arc::new(shared.secured(tls, config.security.plain));
        shared.set_quotas(&config.quotas);
        if let Some(to) = &config.spill {
            shared.set_tier(Tier::open(&shared, to)?);
        }
        let clustered = join(&shared)?;
        let serving = vec![
            serve("chariot-local", shared.clone(), Door::Unix(local))?,
            serve("chariot-tcp", shared.clone(), Door::Tcp(tcp))?,
        ];
        let toucher = Toucher::start(shared.clone())?;
        tracing::info!(
            address = %shared.address, arena_bytes = shared.arena.len(), huge_pages = ?shared.arena.huge_pages(),
            "serving"
        );
        Ok(Self { shared, serving, clustered, _toucher: toucher, _place: place })
    }

    /// This run of the worker, as others of a cluster know it.
    pub fn member(&self) -> Member {
        self.shared.member()
    }

    /// Ends the worker; returns once all its threads have.
    pub fn stop(self) {
        // What there is to do is in `drop`.
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // First of all others: nobody is to be sent here any more.
        drop(self.clustered.take());
        self.shared.ending.send_replace(true);
        for thread in self.serving.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a serving thread had panicked");
            }
        }
        if let Some(tier) = self.shared.tier() {
            tier.close();
        }
        tracing::info!(address = %self.shared.address, "ended");
    }
}

fn check_quotas(config: &WorkerConfig) -> Result<(), WorkerError> {
    let sum = config.quotas.iter().fold(0, |sum: u64, quota| sum.saturating_add(quota.bytes));
    if sum > config.shared_memory {
        return Err(WorkerError::Quotas { sum, shared_memory: config.shared_memory });
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

fn serve(name: &str, shared: Arc<Shared>, door: Door) -> Result<JoinHandle<()>, WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_local = matches!(door, Door::Unix(_));
    door.set_nonblocking()?;
    let work = move || {
        runtime.block_on(async {
            if is_local {
                tokio::spawn(rest(shared.clone()));
                tokio::spawn(keep_room(shared.clone()));
            }
            if let Err(error) = listen(shared, door).await {
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
