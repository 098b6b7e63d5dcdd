//! [`Memory`]: a memory file of fixed length, mapped.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// A mapped memory file of fixed length. Its bytes are zeros or what was stored through atomics; it never faults,
/// because the file is sealed against shrinking.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
}

/// Why shared memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The kernel gave no memory file.
    #[error("cannot create a memory file of `{len}` bytes")]
    Create {
        /// Its length.
        len: usize,
        /// Why.
        source: io::Error,
    },
    /// The kernel did not map it.
    #[error("cannot map a memory file")]
    Map {
        /// Why.
        source: io::Error,
    },
    /// Someone could make it shorter while it is mapped.
    #[error("the memory file can still be made shorter, so reading it could kill this process")]
    NotSealed,
    /// It is not what a worker of this version hands over.
    #[error("the memory file of `{len}` bytes is none that this version knows")]
    Unknown {
        /// Its length.
        len: usize,
    },
}

/// Who else may write a memory file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writers {
    /// Nobody but the mapping that comes with its creation.
    Creator,
    /// Whoever is given the file.
    Holders,
}

impl Memory {
    /// A file of `len` zeros, and a writable mapping of it.
    pub(crate) fn create(name: &str, len: usize, writers: Writers) -> Result<(OwnedFd, Self), MemoryError> {
        let error = |source: rustix::io::Errno| MemoryError::Create { len, source: source.into() };
        let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(error)?;
        rustix::fs::ftruncate(&file, len as u64).map_err(error)?;
        let memory = Self::map(file.as_fd(), len, ProtFlags::READ | ProtFlags::WRITE)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let seals = if writers == Writers::Creator { seals | SealFlags::FUTURE_WRITE } else { seals };
        rustix::fs::fcntl_add_seals(&file, seals).map_err(error)?;
        Ok((file, memory))
    }

    /// A view of a file that someone else created, for reading only.
    pub(crate) fn map_to_read(file: impl AsFd) -> Result<Self, MemoryError> {
        let len = sealed_len(file.as_fd())?;
        Self::map(file.as_fd(), len, ProtFlags::READ)
    }

    /// A view of a file that someone else created.
    pub(crate) fn map_to_write(file: impl AsFd) -> Result<Self, MemoryError> {
        let len = sealed_len(file.as_fd())?;
        Self::map(file.as_fd(), len, ProtFlags::READ | ProtFlags::WRITE)
    }

    fn map(file: BorrowedFd<'_>, len: usize, access: ProtFlags) -> Result<Self, MemoryError> {
        // SAFETY: the kernel chooses an address range that nothing else uses.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, file, 0) };
        let base = base.map_err(|errno| MemoryError::Map { source: errno.into() })?;
        Ok(Self { base: NonNull::new(base.cast()).expect("mmap never places a mapping at null"), len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// `count` values from `offset` on, which is aligned for them.
    ///
    /// # Safety
    /// `T` consists of atomics of the processor's, for which any bytes are valid; on a view for reading only, nobody
    /// stores to them.
    pub(crate) unsafe fn slice<T>(&self, offset: usize, count: usize) -> &[T] {
        let bytes = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        assert!(bytes.is_some_and(|end| end <= self.len) && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: in bounds, as was just checked.
        let first = unsafe { self.base.add(offset) }.cast::<T>();
        // SAFETY: mapped for as long as `self` lives, aligned (mappings begin at pages), and valid as the caller says;
        // other processes change the values only in the way that atomics may change.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), count) }
    }
}

fn sealed_len(file: BorrowedFd<'_>) -> Result<usize, MemoryError> {
    // A file that knows no seals answers with an error: it is no memory file.
    let seals = rustix::fs::fcntl_get_seals(file).unwrap_or(SealFlags::empty());
    if !seals.contains(SealFlags::SHRINK) {
        return Err(MemoryError::NotSealed);
    }
    let stat = rustix::fs::fstat(file).map_err(|errno| MemoryError::Map { source: errno.into() })?;
    usize::try_from(stat.st_size).map_err(|_| MemoryError::Unknown { len: usize::MAX })
}

// SAFETY: the mapping is a range of addresses, valid on every thread, and used through atomics only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map`, and slices of it cannot outlive `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "unmapping what was mapped cannot fail");
    }
}
