//! [`Holder`]: the process that is the worker at an address, and can be no other.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use chariot_client::Client;
use chariot_types::WorkerAddress;
use chariot_worker::{Place, default_run_dir};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Failure;
use crate::options::client_options;

/// The process that holds a worker's lock, and can be no other.
pub(crate) struct Holder {
    pub(crate) pid: u32,
    pub(crate) process: OwnedFd,
}

impl Holder {
    pub(crate) fn of(address: &WorkerAddress) -> Result<Option<Self>, Failure> {
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

    pub(crate) fn send(&self, signal: Signal) -> Result<(), Failure> {
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
pub(crate) fn nobody_at(address: &WorkerAddress) -> Failure {
    let run_dir = default_run_dir();
    let failure = Failure::text(format!("no data worker of this user runs there (looked in `{}`)", run_dir.display()));
    let options = client_options("dscli").unwrap_or_default();
    match Client::connect(address, options).and_then(|client| client.status()) {
        Ok(status) => failure.hint(format!(
            "a worker answers there as PID {} of its host: stop it there, as its user and with its CHARIOT_RUN_DIR",
            status.pid
        )),
        Err(_) => failure.hint("`--worker_address` must be written as it was for `dscli start`"),
    }
}
