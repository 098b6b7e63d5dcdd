//! Touching pages ahead of their first use.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use chariot_types::Extent;
use rustix::io::Errno;
use rustix::mm::Advice;

use crate::mapping::{Mapping, OutsideArena};

impl Mapping {
    /// How many bytes to [`touch`](Mapping::touch) at a time: a huge page.
    pub const TOUCH: u64 = 2 << 20;

    /// Makes the pages of `extent` present, so that the first to write there does not pay for it. What they hold does
    /// not change, whoever writes meanwhile. Takes milliseconds for [`Mapping::TOUCH`] bytes: loop over the arena in
    /// such pieces, in a thread of low priority.
    pub fn touch(&self, extent: Extent) -> Result<(), TouchError> {
        let slice = self.slice(extent)?;
        let page = rustix::param::page_size();
        let into_page = extent.offset as usize % page;
        let first = slice.cast::<u8>();
        // SAFETY: the start of the page that a mapped byte lies in is mapped as well.
        let start = unsafe { first.sub(into_page) };
        let len = slice.len() + into_page;
        // SAFETY: the range is mapped, and populating it changes no byte.
        match unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxPopulateWrite) } {
            Ok(()) => Ok(()),
            // Kernels before 5.14 do not know the advice.
            Err(Errno::INVAL) => {
                touch_each_page(start, len);
                Ok(())
            }
            Err(errno) => Err(TouchError::Refused { extent, source: errno.into() }),
        }
    }
}

/// Why pages were not made present; the arena works without, only slower at first.
#[derive(Debug, thiserror::Error)]
pub enum TouchError {
    /// Not pages of the arena.
    #[error(transparent)]
    Outside {
        /// Which, and what there is.
        #[from]
        source: OutsideArena,
    },
    /// The kernel has no memory for them.
    #[error("no memory for the pages of bytes `{}` to +`{}`", extent.offset, extent.len)]
    Refused {
        /// The bytes.
        extent: Extent,
        /// Why.
        source: io::Error,
    },
}

/// Makes `len` mapped bytes from `start`, the start of a page, present by writing to every page.
fn touch_each_page(start: NonNull<u8>, len: usize) {
    for offset in (0..len).step_by(rustix::param::page_size()) {
        // SAFETY: the caller's range is mapped, so the byte is.
        let byte = unsafe { start.add(offset) };
        // SAFETY: the byte is mapped; adding zero is one atomic step, so that whoever else writes it loses nothing.
        unsafe { AtomicU8::from_ptr(byte.as_ptr()) }.fetch_add(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arena;

    const MIB: u64 = 1 << 20;

    fn all(arena: &Arena) -> Extent {
        Extent { offset: 0, len: arena.len() }
    }

    #[test]
    fn touched_pages_are_there_and_unchanged() {
        let arena = Arena::create(4 * MIB).unwrap();
        let extent = Extent { offset: MIB, len: 3 };
        // SAFETY: this test is alone with the arena.
        unsafe { arena.bytes_mut(extent) }.unwrap().copy_from_slice(b"abc");
        arena.touch(all(&arena)).unwrap();
        touch_each_page(arena.base(), arena.len() as usize);
        let blocks = rustix::fs::fstat(&arena).unwrap().st_blocks as u64;
        assert!(blocks * 512 >= 4 * MIB, "{blocks} blocks of 512 bytes");
        // SAFETY: as above.
        assert_eq!(unsafe { arena.bytes(extent) }.unwrap(), b"abc");
    }

    #[test]
    fn pages_can_be_touched_without_the_kernels_help() {
        let arena = Arena::create(MIB).unwrap();
        touch_each_page(arena.base(), arena.len() as usize);
        assert!(rustix::fs::fstat(&arena).unwrap().st_blocks as u64 * 512 >= MIB);
    }

    #[test]
    fn a_last_odd_piece_can_be_touched_but_nothing_beyond() {
        let arena = Arena::create(MIB).unwrap();
        arena.touch(Extent { offset: MIB - 64, len: 64 }).unwrap();
        arena.touch(Extent { offset: 100, len: 0 }).unwrap();
        let beyond = Extent { offset: MIB - 64, len: 65 };
        assert!(matches!(arena.touch(beyond), Err(TouchError::Outside { .. })));
    }
}
