//! `dscli start -w`: starts a data worker and returns when it serves.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chariot_types::NamespaceNameError;
use chariot_worker::{Quota, Worker, WorkerConfig, default_run_dir, default_shared_memory};
use clap::Args;

use crate::launch::launch;
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
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

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
        let serve = Serve {
            worker_address: config.address,
            shared_memory: config.shared_memory,
            run_dir: config.run_dir,
            log_dir: config.log_dir,
            log_level: self.level.log_level.clone(),
            namespace_quota_mb: config.quotas,
            take_over: false,
            parts: self.parts.clone().absolute()?,
        };
        let token = config.tenants.into_iter().next().map(|tenant| tenant.token);
        launch(task, &serve, token, None, deadline)
    }

    /// Is the worker, until a signal ends it.
    fn stay(&self, task: &str) -> Result<(), Failure> {
        let Some(log_dir) = &self.log_dir else {
            log::to_standard_error(&self.level.log_level)?;
            let worker = ServingWorker::of(self.config(PathBuf::new())?, Worker::start)?;
            return serve(task, worker);
        };
        let config = self.config(std::path::absolute(log_dir)?)?;
        let log = log::to_file(&self.level.log_level, &log::worker_log(&config.log_dir, &config.address))?;
        let worker = ServingWorker::of(config, Worker::start)?;
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
