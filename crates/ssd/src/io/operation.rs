//! [`Operation`]: one read or write, and the buffers that it owns until it is done.

use std::io;
use std::ptr::NonNull;

use crate::memory::Memory;
use crate::pages::Pages;

/// One read or write of adjacent bytes of the file.
#[derive(Debug)]
pub(crate) struct Operation {
    /// What its starter knows it by.
    pub(crate) id: u64,
    pub(crate) way: Way,
    /// Where in the file.
    pub(crate) offset: u64,
    /// One after the other, what is written, or read into. Whole pages each.
    pub(crate) buffers: Vec<Buffer>,
}

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Read,
    Write,
}

/// Bytes that an operation owns.
#[derive(Debug)]
pub(crate) enum Buffer {
    /// Of this crate.
    Own(Pages),
    /// The first `len` bytes of what is someone else's.
    Lent { memory: Memory, len: usize },
}

/// An operation that has ended, and how. A read or write that was done in part only is an error.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) operation: Operation,
    pub(crate) result: io::Result<()>,
}

impl Buffer {
    pub(crate) fn range(&mut self) -> NonNull<[u8]> {
        match self {
            Self::Own(pages) => NonNull::from(&mut **pages),
            Self::Lent { memory, len } => {
                debug_assert!(*len <= memory.bytes().len());
                NonNull::slice_from_raw_parts(memory.bytes().cast(), (*len).min(memory.bytes().len()))
            }
        }
    }
}

/// An operation on its way, and how much of it is done: the kernel may do a part at a time.
#[derive(Debug)]
pub(crate) struct Transfer {
    operation: Operation,
    vectors: Vec<libc::iovec>,
    done: usize,
    len: usize,
}

/// What came of one step of a transfer.
pub(crate) enum Step {
    /// There is more to do.
    Unfinished(Transfer),
    /// It has ended.
    Ended(Done),
}

impl Transfer {
    /// The most buffers that the kernel takes at once.
    pub(crate) const MOST_BUFFERS: usize = 1024;

    pub(crate) fn new(operation: Operation) -> Self {
        let mut transfer = Self { operation, vectors: Vec::new(), done: 0, len: 0 };
        transfer.vectors.reserve(transfer.operation.buffers.len());
        transfer.list();
        transfer.len = transfer.vectors.iter().map(|vector| vector.iov_len).sum();
        transfer
    }

    pub(crate) fn way(&self) -> Way {
        self.operation.way
    }

    /// Where in the file the rest begins.
    pub(crate) fn offset(&self) -> u64 {
        self.operation.offset + self.done as u64
    }

    /// The memory of the rest. Valid for as long as the transfer is neither advanced nor dropped.
    pub(crate) fn vectors(&self) -> &[libc::iovec] {
        &self.vectors
    }

    /// The kernel's answer: how many bytes it did, or why it did none.
    pub(crate) fn advance(mut self, result: io::Result<usize>) -> Step {
        let ended = |operation, result| Step::Ended(Done { operation, result });
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Step::Unfinished(self),
            Err(error) => ended(self.operation, Err(error)),
            // Nothing more to read, or no room to write: a disk that is full says so on the next attempt at the latest.
            Ok(0) => ended(self.operation, Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => {
                self.done += bytes;
                if self.done >= self.len {
                    return ended(self.operation, Ok(()));
                }
                self.list();
                Step::Unfinished(self)
            }
        }
    }

    fn list(&mut self) {
        let mut skip = self.done;
        self.vectors.clear();
        for buffer in &mut self.operation.buffers {
            let range = buffer.range();
            let (start, len) = (range.cast::<u8>(), range.len());
            let skipped = skip.min(len);
            skip -= skipped;
            if skipped < len {
                // SAFETY: `skipped` is less than the length of the range.
                let rest = unsafe { start.add(skipped) };
                self.vectors.push(libc::iovec { iov_base: rest.as_ptr().cast(), iov_len: len - skipped });
            }
        }
        debug_assert!(self.vectors.len() <= Self::MOST_BUFFERS);
    }
}

// SAFETY: the vectors point into buffers that the operation owns and that can be sent.
unsafe impl Send for Transfer {}
