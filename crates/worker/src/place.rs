//! [`Place`]: the files by which a worker is found on its host: a socket, and a lock that names its process.
//!
//! The lock is held for as long as the process lives, so it cannot go stale: a socket whose lock is free is litter
//! and is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chariot_types::{TenantName, WorkerAddress};
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

/// How names of sockets end, but for a tenant's.
const SOCKET: &str = "sock";

/// How often a place is tried for while others come and go there, each for a moment.
const ATTEMPTS: u32 = 1000;

/// How long a process that was killed may take to be gone, and how often it is looked for.
const DEATH_PATIENCE: Duration = Duration::from_secs(2);
const DEATH_PERIOD: Duration = Duration::from_millis(10);

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
        self.socket_of(None)
    }

    /// The path of a tenant's Unix socket.
    pub(crate) fn socket_of(&self, tenant: Option<&TenantName>) -> PathBuf {
        self.file(&tenant.map_or_else(|| SOCKET.to_owned(), |tenant| format!("{SOCKET}-{tenant}")))
    }

    /// The path of the socket at which a process asks that is to go on for the worker.
    pub(crate) fn heir(&self) -> PathBuf {
        self.file("heir")
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
        let mut failure = self.already_running(None);
        let begun = Instant::now();
        let mut attempts = 0..ATTEMPTS;
        while attempts.next().is_some() {
            match self.take_lock() {
                Ok(Some(lock)) => {
                    self.lock = Some(lock);
                    self.remove_sockets();
                    self.remove("heir");
                    return Ok(self);
                }
                Ok(None) => std::thread::yield_now(),
                // A worker that was killed has its lock until the last of its threads is gone.
                Err(WorkerError::AlreadyRunning { pid: Some(pid), .. })
                    if !is_running(pid) && begun.elapsed() < DEATH_PATIENCE =>
                {
                    std::thread::sleep(DEATH_PERIOD);
                    attempts = 0..ATTEMPTS;
                }
                // A worker that ended meanwhile took the directory with it, perhaps as it was made here.
                Err(WorkerError::RunDir { path, source })
                    if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) =>
                {
                    failure = WorkerError::RunDir { path, source };
                }
                Err(other) => return Err(other),
            }
        }
        Err(failure)
    }

    /// Goes on with the lock of another process, which it was given, and puts this one's number there.
    pub(crate) fn inherit(mut self, lock: OwnedFd) -> Result<Self, WorkerError> {
        let mut lock = File::from(lock);
        let io_error = |source| WorkerError::RunDir { path: self.file("lock"), source };
        write_pid(&mut lock).map_err(io_error)?;
        self.lock = Some(lock);
        Ok(self)
    }

    /// The lock, for a process that goes on with it.
    pub(crate) fn lock(&self) -> io::Result<OwnedFd> {
        self.lock.as_ref().ok_or_else(|| io::Error::other("the place is not taken"))?.try_clone().map(OwnedFd::from)
    }

    /// Leaves the files to a process that was given the lock.
    pub(crate) fn give_away(&mut self) {
        self.lock = None;
    }

    /// The lock, with this process's number in it; `None` when someone else was there for a moment.
    fn take_lock(&self) -> Result<Option<File>, WorkerError> {
        self.make_dir()?;
        let path = self.file("lock");
        let io_error = |source| WorkerError::RunDir { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut lock =
            options.create(true).read(true).write(true).truncate(false).mode(0o600).open(&path).map_err(io_error)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return match self.holder() {
                Some(pid) => Err(self.already_running(Some(pid))),
                // One that asks for the holder, or that has yet to write its number.
                None => Ok(None),
            };
        }
        if !is_at(&lock, &path) {
            // A worker that ended removed the file after it was opened here: its lock keeps nobody out.
            return Ok(None);
        }
        write_pid(&mut lock).map_err(io_error)?;
        Ok(Some(lock))
    }

    fn already_running(&self, pid: Option<u32>) -> WorkerError {
        WorkerError::AlreadyRunning { address: self.address.clone(), pid }
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

    /// Removes the sockets of whichever tenants there were.
    fn remove_sockets(&self) {
        let own = self.socket();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let begins =
                |own: &Path| path.as_os_str().as_encoded_bytes().strip_prefix(own.as_os_str().as_encoded_bytes());
            if let Some(b"" | [b'-', ..]) = begins(&own) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn remove(&self, extension: &str) {
        let _ = fs::remove_file(self.file(extension));
    }
}

/// Writes this process's number, whatever was there.
fn write_pid(lock: &mut File) -> io::Result<()> {
    let pid = std::process::id().to_string();
    lock.write_all_at(pid.as_bytes(), 0)?;
    lock.set_len(pid.len() as u64)
}

/// Whether a process is there and does not only wait to be gone.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Whether `file` is what is found at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(found)) => (file.dev(), file.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.remove_sockets();
            self.remove("heir");
            self.remove("lock");
            // The directory goes as well when this was the last worker; it stays when it is not empty.
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    fn workers_that_come_while_others_go_never_share_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let address: WorkerAddress = "127.0.0.1:31501".parse().unwrap();
        let holders = AtomicUsize::new(0);
        let come_and_go = || {
            let mut held = 0;
            while held < 200 {
                match Place::of(&address, &run_dir).take() {
                    Ok(place) => {
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        assert_eq!(Place::of(&address, &run_dir).holder(), Some(std::process::id()));
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                        held += 1;
                    }
                    Err(WorkerError::AlreadyRunning { .. }) => std::thread::yield_now(),
                    Err(other) => panic!("{other:?}"),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(come_and_go);
            }
        });
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
