//! [`Place`]: the files by which a worker is found on its host: a socket, and a lock that names its process.
//!
//! The lock is held for as long as the process lives, so it cannot go stale: a socket whose lock is free is litter
//! and is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chariot_types::WorkerAddress;
use rustix::fs::{FlockOperation, flock};

use crate::WorkerError;

/// Where the files are if the user says nothing: `CHARIOT_RUN_DIR`, else a directory of the user's own under `/tmp`.
///
/// Not `XDG_RUNTIME_DIR`: services, shells and containers disagree about it.
pub fn default_run_dir() -> PathBuf {
    match std::env::var_os("CHARIOT_RUN_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(format!("/tmp/chariot-{}", rustix::process::geteuid().as_raw())),
    }
}

/// The files of the worker at one address.
#[derive(Debug)]
pub struct Place {
    address: WorkerAddress,
    dir: PathBuf,
    lock: Option<File>,
}

impl Place {
    /// The place of the worker at `address`, whether there is one or not.
    pub fn of(address: &WorkerAddress, run_dir: &Path) -> Self {
        Self { address: address.clone(), dir: run_dir.to_owned(), lock: None }
    }

    /// The path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// The process that holds the lock, if one does.
    pub fn holder(&self) -> Option<u32> {
        let mut lock = File::open(self.file("lock")).ok()?;
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let mut text = String::new();
        lock.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// Makes the directory, takes the lock, and clears away what a dead worker left.
    pub(crate) fn take(mut self) -> Result<Self, WorkerError> {
        self.make_dir()?;
        let path = self.file("lock");
        let io_error = |source| WorkerError::RunDir { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut lock =
            options.create(true).read(true).write(true).truncate(false).mode(0o600).open(&path).map_err(io_error)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(WorkerError::AlreadyRunning { address: self.address.clone(), pid: self.holder() });
        }
        lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(io_error)?;
        self.lock = Some(lock);
        self.remove("sock");
        Ok(self)
    }

    fn make_dir(&self) -> Result<(), WorkerError> {
        let io_error = |source| WorkerError::RunDir { path: self.dir.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(io_error)?;
        let found = fs::symlink_metadata(&self.dir).map_err(io_error)?;
        let is_own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
        if !is_own || found.mode() & 0o022 != 0 {
            return Err(WorkerError::RunDirShared { path: self.dir.clone() });
        }
        Ok(())
    }

    fn file(&self, extension: &str) -> PathBuf {
        let name = self.address.to_string().replace([':', '[', ']'], "_");
        self.dir.join(format!("{name}.{extension}"))
    }

    fn remove(&self, extension: &str) {
        let _ = fs::remove_file(self.file(extension));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.remove("sock");
            self.remove("lock");
            // The directory goes as well when this was the last worker; it stays when it is not empty.
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_held_by_one_worker_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let address: WorkerAddress = "127.0.0.1:31501".parse().unwrap();
        let held = Place::of(&address, &run_dir).take().unwrap();
        assert_eq!(Place::of(&address, &run_dir).holder(), Some(std::process::id()));
        let second = Place::of(&address, &run_dir).take();
        assert!(matches!(second, Err(WorkerError::AlreadyRunning { pid: Some(_), .. })), "{second:?}");
        drop(held);
        assert!(!run_dir.exists());
        drop(Place::of(&address, &run_dir).take().unwrap());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let address: WorkerAddress = "127.0.0.1:31501".parse().unwrap();
        assert!(matches!(Place::of(&address, &open).take(), Err(WorkerError::RunDirShared { .. })));
    }
}
