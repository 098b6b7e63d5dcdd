//! `dscli start -w`: starts a data worker and returns when it serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use chariot_client::{Client, ConnectOptions};
use chariot_types::NamespaceNameError;
use chariot_worker::{Quota, WorkerConfig, default_run_dir, default_shared_memory};
use clap::Args;

use crate::daemon::Daemon;
use crate::log::Rotation;
use crate::options::At;
use crate::parts::Parts;
use crate::serve::{Serve, ServingWorker};
use crate::{Failure, log, report};

/// Start a data worker on this node
///
/// Returns when the worker serves, and leaves it running in the background; a worker that cannot start leaves nothing
/// behind.
#[derive(Args)]
#[command(rename_all = "snake_case")]
#[command(after_help = EXAMPLES)]
pub(crate) struct Start {
    /// Start a data worker (required: it says what to start)
    #[arg(short = 'w', long)]
    worker: bool,
    #[command(flatten)]
    at: At,
    /// Megabytes (2^20 bytes) of host memory for KV cache [default: a quarter of the machine's, if half of what is
    /// available allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 40), conflicts_with = "tenants")]
    shared_memory_size_mb: Option<u64>,
    /// What a namespace may hold when others want room, in megabytes (2^20 bytes); once for each. Over it, its blocks go
    /// first; within it, others' do. A namespace is a model, as its vLLM instances call it [default: all compete alike]
    #[arg(long, value_name = "NAMESPACE=N", value_parser = parse_quota)]
    namespace_quota_mb: Vec<Quota>,
    /// Where the log goes [default: $XDG_STATE_HOME/chariot/log or ~/.local/state/chariot/log]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    #[command(flatten)]
    level: log::Level,
    /// Seconds within which the worker must serve [default: 10; 50 more with a spill file, and in a cluster those of
    /// the lease and 5 more]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
    /// Stay in the foreground, and log to standard error unless --log_dir is given: for containers and systemd
    #[arg(long)]
    foreground: bool,
    #[command(flatten)]
    parts: Parts,
}

/// Seconds within which a worker on its own must serve, where the user names none.
const PATIENCE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  dscli start -w --worker_address \"127.0.0.1:31501\"
  dscli start -w --worker_address=0.0.0.0:31501 --shared_memory_size_mb=65536 --log_dir /var/log/chariot
  dscli start -w --spill_directory /mnt/nvme0/chariot --spill_size_limit 500GiB
  dscli start -w --foreground
  dscli start -w --namespace_quota_mb Qwen/Qwen2.5-7B-Instruct=16384 --namespace_quota_mb llama=8192
  dscli start -w --tenants /etc/chariot/tenants
  dscli start -w --worker_address 10.0.0.7:31501 --etcd_address 10.0.0.1:2379,10.0.0.2:2379
  dscli start -w --worker_address 10.0.0.7:31501 --etcd_address 10.0.0.1:2379 --require_tls \\
      --tls_ca ca.pem --tls_cert node7.pem --tls_key node7.key

Then tell vLLM where the worker is: export DS_WORKER_ADDR=127.0.0.1:31501";

impl Start {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let address = &self.at.worker_address;
        if !self.worker {
            return Err(Failure::usage("`dscli start` is not told what to start")
                .hint(format!("add `-w` for a data worker: `dscli start -w --worker_address {address}`")));
        }
        let task = format!("Start worker service @ {address}");
        if self.foreground { self.stay(&task) } else { self.start(&task) }.map_err(|failure| failure.of_task(&task))
    }

    /// Starts a daemon.
    fn start(&self, task: &str) -> Result<(), Failure> {
        let patience = self.timeout.map_or(PATIENCE + self.parts.patience(), Duration::from_secs);
        let deadline = Instant::now() + patience;
        let log_dir = self.log_dir.clone().map_or_else(log::default_dir, Ok)?;
        let config = self.config(std::path::absolute(log_dir)?)?;
        let log = LogSince::now(&log::worker_log(&config.log_dir, &config.address))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(Serve::arguments(&config, &self.parts.clone().absolute()?, &self.level.log_level));
        let mut daemon = Daemon::start(&mut command, log.file.try_clone()?)?;
        let served = daemon.wait(deadline).and_then(|()| answers(&config, deadline));
        if let Err(failure) = served {
            drop(daemon);
            return Err(log.explain(failure));
        }
        report::succeeded(task, daemon.pid());
        daemon.let_go();
        Ok(())
    }

    /// Is the worker, until a signal ends it.
    fn stay(&self, task: &str) -> Result<(), Failure> {
        let Some(log_dir) = &self.log_dir else {
            log::to_standard_error(&self.level.log_level)?;
            let worker = ServingWorker::start(self.config(PathBuf::new())?)?;
            return serve(task, worker);
        };
        let config = self.config(std::path::absolute(log_dir)?)?;
        let log = log::to_file(&self.level.log_level, &log::worker_log(&config.log_dir, &config.address))?;
        let worker = ServingWorker::start(config)?;
        log.rotate(Rotation::OfFile);
        serve(task, worker)
    }

    fn config(&self, log_dir: PathBuf) -> Result<WorkerConfig, Failure> {
        let shared_memory = self.shared_memory_size_mb.map_or_else(default_shared_memory, |megabytes| megabytes << 20);
        let run_dir = std::path::absolute(default_run_dir())?;
        let config = WorkerConfig::new(self.at.worker_address.clone(), shared_memory, run_dir, log_dir);
        self.parts.complete(WorkerConfig { quotas: self.namespace_quota_mb.clone(), ..config })
    }
}

/// Reads what [`Serve::arguments`] writes as well.
pub(crate) fn parse_quota(text: &str) -> Result<Quota, String> {
    let (namespace, megabytes) = text.rsplit_once('=').ok_or("expected NAMESPACE=N")?;
    let namespace = namespace.parse().map_err(|error: NamespaceNameError| error.to_string())?;
    let bytes = megabytes.parse().ok().and_then(|megabytes: u64| megabytes.checked_mul(1 << 20));
    let bytes = bytes.ok_or_else(|| format!("`{megabytes}` is no number of megabytes"))?;
    Ok(Quota { namespace, bytes })
}

fn serve(task: &str, worker: ServingWorker) -> Result<(), Failure> {
    report::succeeded(task, std::process::id());
    worker.serve();
    Ok(())
}

/// Asks the worker for its status, as any client would.
fn answers(config: &WorkerConfig, deadline: Instant) -> Result<(), Failure> {
    let timeout = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    let token = config.tenants.first().map(|tenant| tenant.token.clone());
    let name = "dscli start".to_owned();
    let options = ConnectOptions { timeout, request_timeout: timeout, name, token, ..Default::default() };
    Client::connect(&config.address, options)?.status()?;
    Ok(())
}

/// What a log says from a moment on.
struct LogSince {
    path: PathBuf,
    file: fs::File,
    start: u64,
}

impl LogSince {
    fn now(path: &Path) -> Result<Self, Failure> {
        let file = log::open(path)?;
        Ok(Self { path: path.to_owned(), start: file.metadata()?.len(), file })
    }

    /// With the log's last lines as a hint, where the failure has none.
    fn explain(self, failure: Failure) -> Failure {
        if failure.hint.is_some() {
            return failure;
        }
        let text = fs::read(&self.path).unwrap_or_default();
        let new = String::from_utf8_lossy(text.get(self.start as usize..).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = new.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n  ");
        let path = self.path.display();
        failure.hint(match tail.is_empty() {
            true => format!("nothing more is said in the log, `{path}`"),
            false => format!("the log, `{path}`, ends with\n  {tail}"),
        })
    }
}
