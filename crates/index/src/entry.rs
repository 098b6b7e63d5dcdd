//! [`Entry`]: one block of the index, in one cache line that its worker rewrites while others read it.
//!
//! A sequence lock: the version is odd while the rest is being written, and readers that saw two versions throw away
//! what they read.

use chariot_types::{Extent, Key};

use crate::deadline::Deadline;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// How often a reader tries an entry that changes under it.
const ATTEMPTS: usize = if cfg!(loom) { 2 } else { 64 };

/// What the index says of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listing {
    /// The block's key.
    pub key: Key,
    /// The block's id, not 0, which no other block ever has.
    pub block: u64,
    /// Where its bytes are; begins at a multiple of [`Extent::ALIGN`].
    pub offset: u64,
    /// Bytes of the whole block, fewer than [`Listing::MAX_LEN`].
    pub len: u64,
    /// How many of them can be read.
    pub readable: u64,
    /// Whether that is all, and for good.
    pub sealed: bool,
    /// From when on the block may not be found any more.
    pub deadline: Deadline,
}

impl Listing {
    /// Blocks of this length and longer are not listed.
    pub const MAX_LEN: u64 = 1 << 32;

    /// Where the readable and the unreadable bytes are.
    pub fn extent(&self) -> Extent {
        Extent { offset: self.offset, len: self.len }
    }
}

/// What reading an entry came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntryRead {
    /// This, at some moment during the read.
    Listed(Listing),
    /// No block, at some moment during the read.
    Empty,
    /// It changed too often, or its writer died while writing.
    Torn,
}

/// One block of the index. Zeros are an empty one.
#[repr(C, align(64))]
pub(crate) struct Entry {
    version: AtomicU32,
    len: AtomicU32,
    key: [AtomicU64; 4],
    block: AtomicU64,
    /// The offset; as that is aligned, its lowest bit says whether the block is sealed.
    place: AtomicU64,
    readable: AtomicU32,
    deadline: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == 64);

const SEALED: u64 = 1;

impl Entry {
    #[cfg(all(test, loom))]
    pub(crate) fn empty() -> Self {
        Self {
            version: AtomicU32::new(0),
            len: AtomicU32::new(0),
            key: [0; 4].map(AtomicU64::new),
            block: AtomicU64::new(0),
            place: AtomicU64::new(0),
            readable: AtomicU32::new(0),
            deadline: AtomicU32::new(0),
        }
    }

    /// Lists a block, or what is new about it. For the one writer.
    pub(crate) fn write(&self, listing: &Listing) {
        self.rewrite(|| {
            self.len.store(listing.len as u32, Ordering::Relaxed);
            for (word, value) in self.key.iter().zip(words(&listing.key)) {
                word.store(value, Ordering::Relaxed);
            }
            self.block.store(listing.block, Ordering::Relaxed);
            self.place.store(listing.offset | if listing.sealed { SEALED } else { 0 }, Ordering::Relaxed);
            self.readable.store(listing.readable as u32, Ordering::Relaxed);
            self.deadline.store(listing.deadline.0, Ordering::Relaxed);
        });
    }

    /// Lists nothing. For the one writer.
    pub(crate) fn clear(&self) {
        self.rewrite(|| self.block.store(0, Ordering::Relaxed));
    }

    fn rewrite(&self, write: impl FnOnce()) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // Whoever reads a field of the new writing also sees that the version is odd, or later.
        fence(Ordering::Release);
        write();
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// What is listed. For any reader.
    pub(crate) fn read(&self) -> EntryRead {
        for _ in 0..ATTEMPTS {
            if let Some(read) = self.try_read() {
                return read;
            }
            std::hint::spin_loop();
        }
        EntryRead::Torn
    }

    /// What is listed, if it does not change meanwhile.
    pub(crate) fn try_read(&self) -> Option<EntryRead> {
        let before = self.version.load(Ordering::Acquire);
        if before % 2 == 1 {
            return None;
        }
        let key = [0, 1, 2, 3].map(|word: usize| self.key[word].load(Ordering::Relaxed));
        let block = self.block.load(Ordering::Relaxed);
        let place = self.place.load(Ordering::Relaxed);
        let len = self.len.load(Ordering::Relaxed);
        let readable = self.readable.load(Ordering::Relaxed);
        let deadline = Deadline(self.deadline.load(Ordering::Relaxed));
        // If any of these came from a later writing, the version below is a later one as well.
        fence(Ordering::Acquire);
        if self.version.load(Ordering::Relaxed) != before {
            return None;
        }
        if block == 0 {
            return Some(EntryRead::Empty);
        }
        Some(EntryRead::Listed(Listing {
            key: key_of(key),
            block,
            offset: place & !SEALED,
            len: len.into(),
            readable: readable.into(),
            sealed: place & SEALED != 0,
            deadline,
        }))
    }
}

/// A key as four numbers.
pub(crate) fn words(key: &Key) -> [u64; 4] {
    let (words, _) = key.as_bytes().as_chunks::<8>();
    [0, 1, 2, 3].map(|word: usize| u64::from_ne_bytes(words[word]))
}

fn key_of(words: [u64; 4]) -> Key {
    let mut bytes = [0; Key::LEN];
    for (eight, word) in bytes.chunks_exact_mut(8).zip(words) {
        eight.copy_from_slice(&word.to_ne_bytes());
    }
    Key::from_bytes(bytes)
}
