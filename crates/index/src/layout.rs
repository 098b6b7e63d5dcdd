//! [`Layout`]: what lies where in an index's memory.

use crate::MemoryError;
use crate::entry::Entry;
use crate::memory::Memory;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Arena bytes for each entry.
const ARENA_PER_ENTRY: u64 = 4096;

/// The smallest index has this many entries.
const LEAST_ENTRIES: usize = 1024;

/// Words in a bucket: a cache line.
pub(crate) const WORDS: usize = 8;

const HEADER: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"chariotX");

/// One bucket: words that name entries, 0 for none.
pub(crate) type Bucket = [AtomicU64; WORDS];

/// The first page.
#[repr(C)]
pub(crate) struct Header {
    magic: AtomicU64,
    entries: AtomicU64,
    pub(crate) seed: AtomicU64,
    /// When the index was made, in nanoseconds of the monotonic clock.
    pub(crate) epoch: AtomicU64,
    /// Published blocks that are not listed.
    pub(crate) unlisted: AtomicU64,
    /// 1 while a grant is refused for want of room.
    pub(crate) room_wanted: AtomicU32,
}

/// An index's memory, cut into its parts.
#[derive(Debug)]
pub(crate) struct Layout {
    memory: Memory,
    entries: usize,
}

impl Layout {
    /// How many entries the index of an arena of `arena` bytes has.
    pub(crate) fn entries_for(arena: u64) -> usize {
        usize::try_from(arena / ARENA_PER_ENTRY).unwrap_or(usize::MAX >> 8).max(LEAST_ENTRIES).next_multiple_of(4)
    }

    /// Bytes of an index with `entries` entries.
    pub(crate) fn len_for(entries: usize) -> usize {
        HEADER + buckets_for(entries) * size_of::<Bucket>() + entries * size_of::<Entry>()
    }

    /// Makes fresh memory an index.
    pub(crate) fn begin(memory: Memory, entries: usize) -> Self {
        let layout = Self { memory, entries };
        layout.header().entries.store(entries as u64, Ordering::Relaxed);
        layout.header().magic.store(MAGIC, Ordering::Release);
        layout
    }

    /// Reads memory that a worker made an index.
    pub(crate) fn read(memory: Memory) -> Result<Self, MemoryError> {
        let len = memory.len();
        if len < HEADER {
            return Err(MemoryError::Unknown { len });
        }
        let mut layout = Self { memory, entries: 0 };
        let header = layout.header();
        let is_known = header.magic.load(Ordering::Acquire) == MAGIC;
        let entries = usize::try_from(header.entries.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        if !is_known || entries == 0 || entries > len / size_of::<Entry>() || Self::len_for(entries) != len {
            return Err(MemoryError::Unknown { len });
        }
        layout.entries = entries;
        Ok(layout)
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the header is atomics; only `Index`, whose mapping is writable, stores to it.
        unsafe { &self.memory.slice(0, 1)[0] }
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        // SAFETY: buckets are atomics; only `Index`, whose mapping is writable, stores to them.
        unsafe { self.memory.slice(HEADER, buckets_for(self.entries)) }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        let offset = HEADER + buckets_for(self.entries) * size_of::<Bucket>();
        // SAFETY: entries are atomics; only `Index`, whose mapping is writable, stores to them.
        unsafe { self.memory.slice(offset, self.entries) }
    }
}

/// Twice as many words as entries.
fn buckets_for(entries: usize) -> usize {
    entries * 2 / WORDS
}
