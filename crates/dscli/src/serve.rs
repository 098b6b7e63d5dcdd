//! `dscli serve`, hidden: the process that is a data worker, as `dscli start -w` starts it.

use std::path::PathBuf;

use chariot_types::WorkerAddress;
use chariot_worker::{Quota, Worker, WorkerConfig};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Failure;
use crate::daemon::{Starter, Word};
use crate::ending::Ending;
use crate::log::{self, Rotation};
use crate::parts::Parts;
use crate::start::parse_quota;

/// Serve as a data worker; `dscli start -w` runs this.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Serve {
    #[arg(long)]
    worker_address: WorkerAddress,
    /// Bytes
    #[arg(long)]
    shared_memory: u64,
    #[arg(long)]
    run_dir: PathBuf,
    #[arg(long)]
    log_dir: PathBuf,
    #[arg(long)]
    log_level: String,
    #[arg(long, value_parser = parse_quota)]
    namespace_quota_mb: Vec<Quota>,
    #[command(flatten)]
    parts: Parts,
}

impl Serve {
    /// The arguments that read back as `config`, with the rest of it as `parts`, and `log_level`.
    pub(crate) fn arguments(config: &WorkerConfig, parts: &Parts, log_level: &str) -> Vec<std::ffi::OsString> {
        let WorkerConfig { address, shared_memory, run_dir, log_dir, quotas, .. } = config;
        let mut arguments = vec![
            "serve".into(),
            format!("--worker_address={address}").into(),
            format!("--shared_memory={shared_memory}").into(),
            "--run_dir".into(),
            run_dir.into(),
            "--log_dir".into(),
            log_dir.into(),
            "--log_level".into(),
            log_level.into(),
        ];
        arguments.extend(
            quotas
                .iter()
                .map(|Quota { namespace, bytes }| format!("--namespace_quota_mb={namespace}={}", bytes >> 20).into()),
        );
        arguments.extend(parts.arguments());
        arguments
    }

    pub(crate) fn run(self) -> Result<(), Failure> {
        let starter = Starter::detach()?;
        let log = match log::to_file(&self.log_level, &log::worker_log(&self.log_dir, &self.worker_address)) {
            Ok(log) => log,
            Err(failure) => return give_up(starter, failure),
        };
        let Self { worker_address, shared_memory, run_dir, log_dir, namespace_quota_mb, parts, .. } = self;
        let quotas = namespace_quota_mb;
        let config = WorkerConfig { quotas, ..WorkerConfig::new(worker_address, shared_memory, run_dir, log_dir) };
        let worker = match parts.complete(config).and_then(ServingWorker::start) {
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
    /// Starts the worker. From here on SIGTERM and SIGINT end it in good order.
    pub(crate) fn start(config: WorkerConfig) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let ending = {
            let _inside = runtime.enter();
            Ending::new()?
        };
        raise_open_files();
        end_on_panic();
        let worker = Worker::start(config).map_err(Failure::of_worker)?;
        Ok(Self { worker, runtime, ending })
    }

    /// Returns when the worker has been ended by a signal.
    pub(crate) fn serve(mut self) {
        let signal = self.runtime.block_on(self.ending.wait());
        tracing::info!(signal, "ending");
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
