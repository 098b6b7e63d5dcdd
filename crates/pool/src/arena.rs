//! [`Arena`]: the shared memory that blocks live in, as the worker holds it.

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use crate::mapping::{Mapping, MappingError};
use crate::memory;

/// One memfd of fixed length, mapped here and handed to local clients as a file descriptor.
///
/// Derefs to this process's [`Mapping`] of it. The memory goes when the arena, and every client's mapping, is gone:
/// nothing of it has a name in the file system, so nothing stays behind.
#[derive(Debug)]
pub struct Arena {
    fd: OwnedFd,
    mapping: Mapping,
    huge_pages: HugePages,
}

/// Whether the kernel backs the arena with huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugePages {
    /// It will where it finds them.
    Allowed,
    /// It will not: `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says no, or the kernel has none.
    Unavailable,
}

/// Why there is no arena.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// An arena of no bytes.
    #[error("the arena must have at least one byte")]
    Empty,
    /// The machine does not have that much memory left.
    #[error("`{asked}` bytes of shared memory were asked for, and `{available}` are available")]
    TooLarge {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that this machine, or this process's control group, has left.
        available: u64,
    },
    /// The kernel gave no memory file.
    #[error("cannot create a memory file of `{len}` bytes")]
    Create {
        /// Its length.
        len: u64,
        /// Why.
        source: io::Error,
    },
    /// The memory file could not be mapped.
    #[error("cannot map the arena")]
    Map {
        /// Why.
        #[from]
        source: MappingError,
    },
}

impl Arena {
    /// An arena of `len` bytes, rounded up to whole pages; reads as zeros. Costs no memory until it is touched.
    pub fn create(len: u64) -> Result<Self, ArenaError> {
        if len == 0 {
            return Err(ArenaError::Empty);
        }
        let available = memory::available().unwrap_or(u64::MAX);
        let len = match len.checked_next_multiple_of(rustix::param::page_size() as u64) {
            Some(rounded) if rounded <= available => rounded,
            _ => return Err(ArenaError::TooLarge { asked: len, available }),
        };
        let fd = sealed_memory(len).map_err(|errno| ArenaError::Create { len, source: errno.into() })?;
        let mapping = Mapping::of(&fd, len)?;
        Ok(Self { fd, mapping, huge_pages: huge_pages() })
    }

    /// The arena of `len` bytes that another process made and handed over as `fd`, with all that is in it.
    pub fn take_over(fd: OwnedFd, len: u64) -> Result<Self, ArenaError> {
        let mapping = Mapping::of(&fd, len)?;
        Ok(Self { fd, mapping, huge_pages: huge_pages() })
    }

    /// Whether the kernel backs it with huge pages.
    pub fn huge_pages(&self) -> HugePages {
        self.huge_pages
    }
}

impl Deref for Arena {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.mapping
    }
}

impl AsFd for Arena {
    /// What a client maps: `Mapping::of(fd, arena.len())`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A memory file that can neither shrink nor grow, and whose seals nobody can add to: a client that has it cannot
/// keep the next one from mapping it.
fn sealed_memory(len: u64) -> Result<OwnedFd, Errno> {
    let fd = rustix::fs::memfd_create("chariot-arena", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, len)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// What the kernel does with the advice that every mapping gives it: it accepts it even where it will not follow it.
fn huge_pages() -> HugePages {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let overridden = setting.is_empty() || setting.contains("[never]") || setting.contains("[deny]");
    if overridden { HugePages::Unavailable } else { HugePages::Allowed }
}

#[cfg(test)]
mod tests {
    use chariot_types::Extent;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_client_reads_what_the_worker_wrote() {
        let arena = Arena::create(MIB).unwrap();
        let view = Mapping::of(&arena, arena.len()).unwrap();
        let extent = Extent { offset: 4096, len: 5 };
        // SAFETY: this test is alone with the arena, and uses one slice after the other.
        unsafe { arena.bytes_mut(extent) }.unwrap().copy_from_slice(b"bytes");
        drop(arena);
        // SAFETY: as above.
        assert_eq!(unsafe { view.bytes(extent) }.unwrap(), b"bytes");
    }

    #[test]
    fn nobody_can_shorten_or_seal_an_arena_under_the_others() {
        let arena = Arena::create(MIB).unwrap();
        assert_eq!(rustix::fs::ftruncate(&arena, 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&arena, 2 * MIB), Err(Errno::PERM));
        assert_eq!(rustix::fs::fcntl_add_seals(&arena, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
    }

    #[test]
    fn more_memory_than_there_is_is_refused_with_both_numbers() {
        for asked in [1 << 60, u64::MAX] {
            let error = Arena::create(asked).unwrap_err();
            assert!(matches!(error, ArenaError::TooLarge { asked: told, available } if told == asked && available > 0));
            assert!(error.to_string().contains(&asked.to_string()), "{error}");
        }
        assert!(matches!(Arena::create(0), Err(ArenaError::Empty)));
    }

    #[test]
    fn an_arena_is_whole_pages() {
        assert_eq!(Arena::create(1).unwrap().len(), rustix::param::page_size() as u64);
    }
}
