//! `dscli stop -w`: ends a data worker and returns when it is gone.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use chariot_client::Client;
use chariot_types::WorkerAddress;
use chariot_worker::{Place, default_run_dir};
use clap::Args;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::options::{At, client_options};
use crate::patience::wait_readable;
use crate::{Failure, report};

/// Stop a data worker of this node
///
/// The worker ends its clients' connections and gives its memory back. Clients wait for another worker at the same
/// address; vLLM goes on, and computes what it cannot load.
#[derive(Args)]
#[command(rename_all = "snake_case")]
#[command(after_help = EXAMPLES)]
pub(crate) struct Stop {
    /// Stop a data worker (required: it says what to stop)
    #[arg(short = 'w', long)]
    worker: bool,
    #[command(flatten)]
    at: At,
    /// Seconds to wait for the worker to end by itself; after that it is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    timeout: u64,
}

const EXAMPLES: &str = "\
Examples:
  dscli stop -w --worker_address \"127.0.0.1:31501\"
  dscli stop -w --timeout 30";

/// How long the kernel may take to take away a process that was killed: it gives back gigabytes of memory.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

impl Stop {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let address = &self.at.worker_address;
        if !self.worker {
            return Err(Failure::usage("`dscli stop` is not told what to stop")
                .hint(format!("add `-w` for a data worker: `dscli stop -w --worker_address {address}`")));
        }
        let task = format!("Stop worker service @ {address}");
        self.stop(&task).map_err(|failure| failure.of_task(&task))
    }

    fn stop(&self, task: &str) -> Result<(), Failure> {
        let address = &self.at.worker_address;
        let worker = Holder::of(address)?.ok_or_else(|| nobody_at(address))?;
        worker.send(Signal::TERM)?;
        // A worker that was suspended sees the first signal only when it goes on.
        worker.send(Signal::CONT)?;
        if !wait_readable(&worker.process, Instant::now() + Duration::from_secs(self.timeout))? {
            report::warn(&format!("the worker did not end within {} s and is killed", self.timeout));
            worker.send(Signal::KILL)?;
            if !wait_readable(&worker.process, Instant::now() + KILL_PATIENCE)? {
                return Err(Failure::text(format!("process `{}` was killed and is still there", worker.pid))
                    .hint("the kernel has not let go of it: see `dmesg`"));
            }
        }
        report::succeeded(task, worker.pid);
        Ok(())
    }
}

/// The process that holds a worker's lock, and can be no other.
struct Holder {
    pid: u32,
    process: OwnedFd,
}

impl Holder {
    fn of(address: &WorkerAddress) -> Result<Option<Self>, Failure> {
        let place = Place::of(address, &default_run_dir());
        let Some(pid) = place.holder() else { return Ok(None) };
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let process = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Err(elsewhere(pid)),
            Err(Errno::NOSYS) => {
                return Err(Failure::text("this kernel is older than 5.3, which stopping safely needs")
                    .hint(format!("end it with `kill {pid}`")));
            }
            Err(errno) => return Err(errno.into()),
        };
        // The number was read before the process was opened, and may have been written by an earlier worker: only a
        // process that has the lock's file open now is the one.
        if !has_open(pid, &place.socket().with_extension("lock")) {
            return Err(elsewhere(pid));
        }
        Ok(Some(Self { pid, process }))
    }

    fn send(&self, signal: Signal) -> Result<(), Failure> {
        match pidfd_send_signal(&self.process, signal) {
            // It has ended meanwhile, which is what was wanted.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(Errno::PERM) => Err(Failure::text(format!("process `{}` belongs to another user", self.pid))
                .hint("stop it as that user, or as root")),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(wanted) = fs::metadata(path) else { return false };
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let files = descriptors.flatten().flat_map(|descriptor| fs::metadata(descriptor.path()));
    files.into_iter().any(|file| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino()))
}

fn elsewhere(pid: u32) -> Failure {
    Failure::text(format!("the worker's lock is held, but process `{pid}` cannot be seen to hold it"))
        .hint("the worker may be just starting, or run in another container or as another user: stop it there")
}

/// Nobody holds the lock; says so, and what else is there.
fn nobody_at(address: &WorkerAddress) -> Failure {
    let run_dir = default_run_dir();
    let failure = Failure::text(format!("no data worker of this user runs there (looked in `{}`)", run_dir.display()));
    let options = client_options("dscli stop").unwrap_or_default();
    match Client::connect(address, options).and_then(|client| client.status()) {
        Ok(status) => failure.hint(format!(
            "a worker answers there as PID {} of its host: stop it there, as its user and with its CHARIOT_RUN_DIR",
            status.pid
        )),
        Err(_) => failure.hint("`--worker_address` must be written as it was for `dscli start`"),
    }
}
