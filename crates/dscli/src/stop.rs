//! `dscli stop -w`: ends a data worker and returns when it is gone.

use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;

use crate::holder::{Holder, nobody_at};
use crate::options::At;
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
