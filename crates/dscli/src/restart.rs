//! `dscli restart -w`: has a worker go on in a new process, with all its blocks.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chariot_worker::Quota;
use clap::{Args, FromArgMatches};

use crate::etcd::PASSWORD_VARIABLE;
use crate::holder::{Holder, nobody_at};
use crate::launch::launch;
use crate::options::At;
use crate::parts::Parts;
use crate::patience::wait_readable;
use crate::serve::{self, Serve};
use crate::start::{PATIENCE, parse_quota};
use crate::{Failure, either_spelling, log, report};

/// Restart a data worker of this node with all its blocks
///
/// A new process of this very `dscli` takes the memory over from the running one, and its clients: they connect again by
/// themselves, and calls under way are answered. It is what the running one was told when it was started, but for the
/// options given here. Where the new process cannot go on, the running one does. The size of the shared memory stays.
/// A worker with tenants is not restarted in this way.
#[derive(Args)]
#[command(rename_all = "snake_case")]
#[command(after_help = EXAMPLES)]
pub(crate) struct Restart {
    /// Restart a data worker (required: it says what to restart)
    #[arg(short = 'w', long)]
    worker: bool,
    #[command(flatten)]
    at: At,
    /// What a namespace may hold when others want room, as for `start`; once for each [default: all as before]
    #[arg(long, value_name = "NAMESPACE=N", value_parser = parse_quota)]
    namespace_quota_mb: Vec<Quota>,
    /// Where the log goes [default: as before]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// How much to log, as for `start` [default: as before]
    #[arg(long, value_name = "LEVEL", value_parser = log::checked_level)]
    log_level: Option<String>,
    /// Seconds within which the new process must serve [default: as for `start`]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
    #[command(flatten)]
    parts: Parts,
}

const EXAMPLES: &str = "\
Examples:
  pip install --upgrade chariot-ds && dscli restart -w --worker_address \"127.0.0.1:31501\"
  dscli restart -w --log_level info,chariot_worker=debug
  dscli restart -w --spill_directory /mnt/nvme1/chariot

Options of one kind (SSD, Cluster, TLS) replace all that the worker was told of that kind.";

/// How long the old process may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(10);

impl Restart {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let address = self.at.worker_address.clone();
        if !self.worker {
            return Err(Failure::usage("`dscli restart` is not told what to restart")
                .hint(format!("add `-w` for a data worker: `dscli restart -w --worker_address {address}`")));
        }
        let task = format!("Restart worker service @ {address}");
        self.restart(&task).map_err(|failure| failure.of_task(&task))
    }

    fn restart(self, task: &str) -> Result<(), Failure> {
        let address = &self.at.worker_address;
        let running = Holder::of(address)?.ok_or_else(|| nobody_at(address))?;
        let timeout = self.timeout.map(Duration::from_secs);
        let password = password_of(running.pid);
        let serve = self.changed(told(running.pid)?)?;
        let patience = timeout.unwrap_or(PATIENCE + serve.parts.patience());
        launch(task, &serve, None, password, Instant::now() + patience)?;
        if !wait_readable(&running.process, Instant::now() + END_PATIENCE)? {
            report::warn(&format!("process `{}` serves nobody any more, and has not ended yet", running.pid));
        }
        Ok(())
    }

    /// What the new process is told.
    fn changed(self, before: Serve) -> Result<Serve, Failure> {
        let quotas = self.namespace_quota_mb;
        Ok(Serve {
            log_dir: self.log_dir.map(std::path::absolute).transpose()?.unwrap_or(before.log_dir),
            log_level: self.log_level.unwrap_or(before.log_level),
            namespace_quota_mb: if quotas.is_empty() { before.namespace_quota_mb } else { quotas },
            take_over: true,
            parts: self.parts.absolute()?.or(before.parts),
            ..before
        })
    }
}

/// What the worker was told that is this process.
fn told(pid: u32) -> Result<Serve, Failure> {
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    let words = line.strip_suffix(&[0]).unwrap_or(&line).split(|byte| *byte == 0);
    let words: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    if words.get(1).is_none_or(|word| word != serve::COMMAND) {
        return Err(Failure::text(format!("process `{pid}` runs in the foreground"))
            .hint("whoever looks after it would miss it: have that stop it and start it again"));
    }
    let command = either_spelling::accept(Serve::augment_args(clap::Command::new(serve::COMMAND)));
    let told = command.try_get_matches_from(&words[1..]).and_then(|matches| Serve::from_arg_matches(&matches));
    told.map_err(|error| {
        let what = error.to_string();
        let line = what.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Failure::text(format!("process `{pid}` was started with what this version does not know: {line}"))
            .hint("stop it and start it anew")
    })
}

/// The password for etcd in the environment of a process, where this one has none.
fn password_of(pid: u32) -> Option<(&'static str, String)> {
    if std::env::var_os(PASSWORD_VARIABLE).is_some() {
        return None;
    }
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{PASSWORD_VARIABLE}=");
    let password = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_bytes()))?;
    Some((PASSWORD_VARIABLE, String::from_utf8(password.to_vec()).ok()?))
}
