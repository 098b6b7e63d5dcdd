//! [`SpillFile`]: the file, opened, locked and allocated.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::layout::{Layout, PAGE};
use crate::record::{Head, HeadFound, Identity};
use crate::{Beginning, SpillConfig, SpillError};

/// The file of one spill. Nobody else has it open as such while this lives.
#[derive(Debug)]
pub(crate) struct SpillFile {
    pub(crate) file: File,
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    pub(crate) beginning: Beginning,
}

/// How long a lock is asked for that another process has.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

impl SpillFile {
    /// Opens the file or makes it. What it says of itself is on the disk when this returns, and its room allocated.
    pub(crate) fn open(config: &SpillConfig) -> Result<Self, SpillError> {
        let bounds = Layout::SHORTEST_FILE..=Layout::LONGEST_FILE;
        if !bounds.contains(&config.capacity) {
            let (least, most) = (*bounds.start(), *bounds.end());
            return Err(SpillError::Capacity { asked: config.capacity, least, most });
        }
        let path = &config.path;
        let file_error = |source| SpillError::File { path: path.clone(), source };
        let was_there = fs::symlink_metadata(path).is_ok();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(file_error)?;
        lock(&file, path)?;
        let opened = begin(config, file);
        if opened.is_err() && !was_there {
            // What this call made, it takes away again.
            let _ = fs::remove_file(path);
        }
        opened
    }

    /// Lets the next one have the file at once, and not when the kernel has cleaned up. Nothing may be under way.
    pub(crate) fn unlock(&self) {
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Takes the lock that one worker alone can have. The kernel holds it a moment longer than a process that was killed.
fn lock(file: &File, path: &Path) -> Result<(), SpillError> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(SpillError::InUse { path: path.to_owned() }),
            Err(errno) => return Err(SpillError::File { path: path.to_owned(), source: errno.into() }),
        }
    }
}

fn begin(config: &SpillConfig, file: File) -> Result<SpillFile, SpillError> {
    let file_error = |source| SpillError::File { path: config.path.clone(), source };
    let fresh = Layout::of_new_file(config.capacity);
    let (beginning, known) = match read_head(&file).map_err(file_error)? {
        HeadFound::Foreign => return Err(SpillError::Foreign { path: config.path.clone() }),
        HeadFound::Blank => (Beginning::New, None),
        HeadFound::OtherVersion(version) => (Beginning::OtherVersion { version }, None),
        HeadFound::Damaged => (Beginning::Damaged, None),
        HeadFound::Known(head) => match Layout::of_found_file(config.capacity, head.segment_len) {
            Some(layout) => (Beginning::Continued, Some((head, layout))),
            None => (Beginning::OtherDivision, None),
        },
    };
    let (head, layout) = match known {
        Some(known) => known,
        None => (Head { identity: random().map_err(file_error)?, segment_len: fresh.segment_len() }, fresh),
    };
    allocate(&file, layout.file_len(), &config.path)?;
    if beginning != Beginning::Continued {
        let mut page = vec![0; PAGE as usize];
        head.encode(&mut page);
        file.write_all_at(&page, 0).and_then(|()| file.sync_data()).map_err(file_error)?;
    }
    use_direct_io(&file, &config.path).map_err(file_error)?;
    Ok(SpillFile { file, layout, identity: head.identity, beginning })
}

/// What the first page says; a file that is shorter than that and not empty is none of ours.
fn read_head(file: &File) -> io::Result<HeadFound> {
    if file.metadata()?.len() == 0 {
        return Ok(HeadFound::Blank);
    }
    let mut page = vec![0; PAGE as usize];
    match file.read_exact_at(&mut page, 0) {
        Ok(()) => Ok(Head::decode(&page)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(HeadFound::Foreign),
        Err(error) => Err(error),
    }
}

/// Makes the file `len` bytes long, with room for all of them where the file system can promise it.
fn allocate(file: &File, len: u64, path: &Path) -> Result<(), SpillError> {
    let file_error = |source| SpillError::File { path: path.to_owned(), source };
    let found = file.metadata().map_err(file_error)?;
    if found.len() > len {
        file.set_len(len).map_err(file_error)?;
    }
    // Blocks of 512 bytes; those of the file system's own bookkeeping count as well, which does no harm here.
    if found.len() >= len && found.blocks().saturating_mul(512) >= len {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC) => {
            let available = rustix::fs::fstatvfs(file).map_or(0, |room| room.f_bavail.saturating_mul(room.f_frsize));
            Err(SpillError::DiskFull { path: path.to_owned(), asked: len, available })
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            tracing::warn!(path = %path.display(), "the file system cannot promise room: writes fail once it is full");
            file.set_len(len).map_err(file_error)
        }
        Err(errno) => Err(file_error(errno.into())),
    }
}

/// Past the page cache, where the file system can.
fn use_direct_io(file: &File, path: &Path) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    match rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL) => {
            tracing::warn!(path = %path.display(), "no direct I/O there: blocks take memory in the page cache as well");
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

fn random() -> io::Result<Identity> {
    let mut identity = Identity::default();
    let mut filled = 0;
    while filled < identity.len() {
        filled += rustix::rand::getrandom(&mut identity[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(identity)
}

/// The file of the worker that is called `name` (its address) in `folder`.
pub fn spill_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("chariot-{}.spill", name.replace([':', '[', ']', '/'], "_")))
}

/// The capacity of the file at `path` where the user names none: what it has, or, if it is not there, half of what the file
/// system has left.
pub fn spill_capacity(path: &Path) -> Result<u64, SpillError> {
    let found = fs::metadata(path).map_or(0, |found| found.len());
    if found >= Layout::SHORTEST_FILE {
        return Ok(found);
    }
    let folder = path.parent().unwrap_or(path);
    let error = |errno: Errno| SpillError::File { path: path.to_owned(), source: errno.into() };
    let room = rustix::fs::statvfs(folder).map_err(error)?;
    Ok((room.f_bavail.saturating_mul(room.f_frsize) / 2).min(Layout::LONGEST_FILE))
}
