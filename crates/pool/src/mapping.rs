//! [`Mapping`]: a process's view of an arena.

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use chariot_types::Extent;
use rustix::fs::SealFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A process's view of an arena: shared memory that every client of the worker, and the worker, can write.
///
/// Pointers and slices of it are valid until it is dropped. It can never fault: the file behind it is sealed against
/// shrinking.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

/// Why a file cannot be mapped as an arena.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// It is not as long as the worker said.
    #[error("the arena's file has `{found}` bytes, not the `{expected}` that the worker announced")]
    WrongLength {
        /// What the worker said.
        expected: u64,
        /// The file's length.
        found: u64,
    },
    /// Someone could make it shorter while it is mapped.
    #[error("the arena's file can still be made shorter, so reading it could kill this process")]
    NotSealed,
    /// The kernel refused.
    #[error("cannot map `{len}` bytes of shared memory")]
    Map {
        /// Bytes to map.
        len: u64,
        /// Why.
        source: io::Error,
    },
}

/// An extent that does not lie in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("bytes `{}` to +`{}` are not in the arena of `{arena_len}` bytes", extent.offset, extent.len)]
pub struct OutsideArena {
    /// The extent.
    pub extent: Extent,
    /// Bytes in the arena.
    pub arena_len: u64,
}

impl Mapping {
    /// Maps the arena that a worker handed over as `fd` and said to be `len` bytes long. `fd` can be closed after.
    pub fn of(fd: impl AsFd, len: u64) -> Result<Self, MappingError> {
        let map_error = |source: rustix::io::Errno| MappingError::Map { len, source: source.into() };
        let found = rustix::fs::fstat(&fd).map_err(map_error)?.st_size as u64;
        if found != len {
            return Err(MappingError::WrongLength { expected: len, found });
        }
        // A file that knows no seals answers with an error: it is no memfd.
        let seals = rustix::fs::fcntl_get_seals(&fd).unwrap_or(SealFlags::empty());
        if !seals.contains(SealFlags::SHRINK) {
            return Err(MappingError::NotSealed);
        }
        let size = usize::try_from(len).map_err(|_| map_error(rustix::io::Errno::NOMEM))?;
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address range that nothing else uses.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), size, flags, MapFlags::SHARED, &fd, 0) };
        let base = NonNull::new(base.map_err(map_error)?.cast::<u8>()).expect("mmap never places a mapping at null");
        // Best effort: what the kernel does not follow costs only speed.
        // SAFETY: the range was just mapped, and the advice changes no byte.
        let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast(), size, Advice::LinuxHugepage) };
        Ok(Self { base, len: size })
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes in the arena.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Whether there are none; never so for an arena of a worker.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of `extent`, as a pointer: what may be read or written there, and when, is the pool's to say, and
    /// other processes can write at any time.
    pub fn slice(&self, extent: Extent) -> Result<NonNull<[u8]>, OutsideArena> {
        if !(Extent { offset: 0, len: self.len() }).contains(extent) {
            return Err(OutsideArena { extent, arena_len: self.len() });
        }
        // SAFETY: the extent lies in the mapping, as was just checked; so its offset fits `usize` as well.
        let first = unsafe { self.base.add(extent.offset as usize) };
        Ok(NonNull::slice_from_raw_parts(first, extent.len as usize))
    }

    /// The bytes of `extent` to read.
    ///
    /// # Safety
    /// Nobody writes to them while the slice lives: they are readable bytes of a block that the caller has pinned.
    pub unsafe fn bytes(&self, extent: Extent) -> Result<&[u8], OutsideArena> {
        let slice = self.slice(extent)?;
        // SAFETY: in bounds as checked, mapped for as long as `self` lives, unchanged as the caller promises.
        Ok(unsafe { slice.as_ref() })
    }

    /// The bytes of `extent` to write.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice lives: they are room granted to the caller, or a part of a
    /// growing block of the caller's that is not readable yet.
    #[allow(clippy::mut_from_ref, reason = "an arena is many separate pieces; the pool says whose each is")]
    pub unsafe fn bytes_mut(&self, extent: Extent) -> Result<&mut [u8], OutsideArena> {
        let mut slice = self.slice(extent)?;
        // SAFETY: in bounds as checked, mapped for as long as `self` lives, the caller's alone as it promises.
        Ok(unsafe { slice.as_mut() })
    }
}

// SAFETY: the mapping is a range of addresses, valid on every thread; access to the bytes is the pool's to order.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method of `&Mapping` reads or writes the bytes except under an unsafe contract.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `of`, and slices of it cannot outlive `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "unmapping what was mapped cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arena;
    use rustix::fs::MemfdFlags;

    #[test]
    fn only_a_sealed_file_of_the_announced_length_is_mapped() {
        let arena = Arena::create(8192).unwrap();
        assert!(matches!(
            Mapping::of(&arena, 4096),
            Err(MappingError::WrongLength { expected: 4096, found }) if found == arena.len()
        ));
        let unsealed = rustix::fs::memfd_create("unsealed", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&unsealed, 8192).unwrap();
        assert!(matches!(Mapping::of(&unsealed, 8192), Err(MappingError::NotSealed)));
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let len = file.metadata().unwrap().len();
        assert!(matches!(Mapping::of(&file, len), Err(MappingError::NotSealed)));
    }

    #[test]
    fn a_slice_never_leaves_the_arena() {
        let arena = Arena::create(8192).unwrap();
        let len = arena.len();
        assert_eq!(arena.slice(Extent { offset: 64, len: 128 }).unwrap().len(), 128);
        assert_eq!(arena.slice(Extent { offset: len, len: 0 }).unwrap().len(), 0);
        for (offset, bytes) in [(len, 1), (0, len + 1), (u64::MAX, 1), (64, u64::MAX)] {
            let extent = Extent { offset, len: bytes };
            assert_eq!(arena.slice(extent), Err(OutsideArena { extent, arena_len: len }));
        }
    }
}
