//! `dscli serve`, hidden: the process that is a data worker, as `dscli start -w` and
//! `dscli restart -w` start it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chariot_types::WorkerAddress;
use chariot_worker::{Quota, Worker, WorkerConfig, WorkerError};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Failure;
use crate::daemon::{Starter, Word};
use crate::ending::Ending;
use crate::log::{self, Rotation};
use crate::parts::Parts;
use crate::start::parse_quota;

/// What the hidden command is called.
pub(crate) const COMMAND: &str = "serve";

/// Serve as a data worker; `dscli start -w` and `dscli restart -w` run this.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Serve {
    #[arg(long)]
    pub(crate) worker_address: WorkerAddress,
    /// Bytes
    #[arg(long)]
    pub(crate) shared_memory: u64,
    #[arg(long)]
    pub(crate) run_dir: PathBuf,
    #[arg(long)]
    pub(crate) log_dir: PathBuf,
    #[arg(long)]
    pub(crate) log_level: String,
    #[arg(long, value_parser = parse_quota)]
    pub(crate) namespace_quota_mb: Vec<Quota>,
    /// Go on for the worker that serves there
    #[arg(long)]
    pub(crate) take_over: bool,
    #[command(flatten)]
    pub(crate) parts: Parts,
}

impl Serve {
    pub(crate) fn address(&self) -> &WorkerAddress {
        &self.worker_address
    }

    pub(crate) fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// The arguments that read back as this.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![
            COMMAND.into(),
            format!("--worker_address={}", self.worker_address).into(),
            format!("--shared_memory={}", self.shared_memory).into(),
            "--run_dir".into(),
            self.run_dir.clone().into(),
            "--log_dir".into(),
            self.log_dir.clone().into(),
            "--log_level".into(),
            self.log_level.clone().into(),
        ];
        let quotas = self.namespace_quota_mb.iter();
        arguments.extend(
            quotas.map(|Quota { namespace, bytes }| format!("--namespace_quota_mb={namespace}={}", bytes >> 20).into()),
        );
        if self.take_over {
            arguments.push("--take_over".into());
        }
        arguments.extend(self.parts.arguments());
        arguments
    }

    pub(crate) fn run(self) -> Result<(), Failure> {
        let starter = Starter::detach()?;
        let log = match log::to_file(&self.log_level, &log::worker_log(&self.log_dir, &self.worker_address)) {
            Ok(log) => log,
            Err(failure) => return give_up(starter, failure),
        };
        let Self { worker_address, shared_memory, run_dir, log_dir, namespace_quota_mb, take_over, parts, .. } = self;
        let quotas = namespace_quota_mb;
        let config = WorkerConfig { quotas, ..WorkerConfig::new(worker_address, shared_memory, run_dir, log_dir) };
        let start = if take_over { Worker::take_over } else { Worker::start };
        let worker = match parts.complete(config).and_then(|config| ServingWorker::of(config, start)) {
            Ok(worker) => worker,
            Err(failure) => return give_up(starter, failure),
        };
        log.rotate(Rotation::OfFileAndStreams);
        // A starter that is gone was interrupted, and its user expects that nothing runs.
        starter.tell(&Word::Serving)?;
        worker.serve();
        Ok(())
    }
}

/// Tells the starter, which tells the user.
fn give_up(starter: Starter, failure: Failure) -> Result<(), Failure> {
    let word = Word::Failed { reason: format!("{:#}", failure.reason), hint: failure.hint };
    starter.tell(&word)?;
    std::process::exit(failure.code.into());
}

/// A worker, and the signals that end it.
pub(crate) struct ServingWorker {
    worker: Worker,
    runtime: tokio::runtime::Runtime,
    ending: Ending,
}

impl ServingWorker {
    /// Starts the worker by `start`. From here on SIGTERM and SIGINT end it in good order.
    pub(crate) fn of(
        config: WorkerConfig,
        start: impl FnOnce(WorkerConfig) -> Result<Worker, WorkerError>,
    ) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let ending = {
            let _inside = runtime.enter();
            Ending::new()?
        };
        raise_open_files();
        end_on_panic();
        let worker = start(config).map_err(Failure::of_worker)?;
        Ok(Self { worker, runtime, ending })
    }

    /// Returns when the worker has been ended by a signal, or goes on in another process.
    pub(crate) fn serve(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                signal = self.ending.wait() => tracing::info!(signal, "ending"),
                () = self.worker.handed_over() => tracing::info!("going on in another process"),
            }
        });
        self.worker.stop();
    }
}

/// Ends the process when any of its threads panics. A panic means that what the pool believes is wrong, and wrong bytes
/// are worse than none: clients notice at once, and recompute.
fn end_on_panic() {
    let log = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log(panic);
        std::process::abort();
    }));
}

/// Lets this process open as many files as it may: shells give few, for the sake of programs that use select(2).
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // What was given is enough for hundreds of clients.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
