//! [`Memory`]: bytes that belong to someone else, lent for one write or one read.

use std::fmt;
use std::ptr::NonNull;

/// A range of memory and whatever keeps it valid, lent for one write or one read.
///
/// It moves in with the call and comes back with the result; dropped, it lets its owner go. While the kernel may still
/// use the bytes it is neither handed back nor dropped, however long that takes.
pub struct Memory {
    bytes: NonNull<[u8]>,
    _owner: Box<dyn Send>,
}

impl Memory {
    /// Lends `bytes`, which `owner` keeps valid.
    ///
    /// # Safety
    /// Until `owner` is dropped, `bytes` are mapped for reading and writing; nobody writes to them while they are
    /// stored, and nobody else reads or writes them while a block is loaded into them.
    pub unsafe fn new(bytes: NonNull<[u8]>, owner: impl Send + 'static) -> Self {
        Self { bytes, _owner: Box::new(owner) }
    }

    /// The bytes.
    pub fn bytes(&self) -> NonNull<[u8]> {
        self.bytes
    }

    /// The first `len` bytes.
    pub(crate) fn first(&self, len: usize) -> &[u8] {
        assert!(len <= self.bytes.len(), "a block is never longer than its memory");
        // SAFETY: mapped for as long as the owner lives, and unchanged meanwhile, as whoever lent them promised.
        let bytes = unsafe { self.bytes.as_ref() };
        &bytes[..len]
    }

    /// All bytes, to write.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped for as long as the owner lives, and nobody else's meanwhile, as whoever lent them promised.
        unsafe { self.bytes.as_mut() }
    }
}

// SAFETY: the range is valid on every thread for as long as the owner lives, and the owner can be sent.
unsafe impl Send for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
