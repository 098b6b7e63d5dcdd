//! [`Pages`]: memory of our own that direct I/O accepts.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::layout::PAGE;

/// Whole pages on the heap, aligned to a page.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// `count` pages of zeros, one or more.
    pub(crate) fn zeroed(count: usize) -> Self {
        let layout = Self::layout(count * PAGE as usize);
        // SAFETY: the layout is of one page or more.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Self { start, len: layout.size() },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(len: usize) -> Layout {
        assert!(len > 0, "there are no empty pages");
        Layout::from_size_align(len, PAGE as usize).expect("a page is a power of two, and lengths are checked before")
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: allocated with this length and initialised by `zeroed`; borrowed like any box.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with this very layout.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) };
    }
}

// SAFETY: it owns its memory, like a box of bytes.
unsafe impl Send for Pages {}
