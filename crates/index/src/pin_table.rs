//! [`PinTable`]: what one client reads, in memory that it shares with its worker.

use std::os::fd::{AsFd, OwnedFd};

use crate::entry::{Entry, EntryRead, Listing};
use crate::memory::{Memory, Writers};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::{HeldBlocks, MemoryError};

/// Blocks that one client can have pinned at a time.
pub(crate) const SLOTS: usize = 16_384;

/// Uses that are remembered between two looks of the worker.
pub(crate) const RING: usize = 1024;

const RING_AT: usize = 4096;
const SLOTS_AT: usize = RING_AT + RING * 8;
const LEN: usize = SLOTS_AT + SLOTS * 8;

/// One pin: the id of the block that is read, 0 for none.
#[repr(transparent)]
pub(crate) struct Slot(AtomicU64);

/// In a slot: its pin was taken away. No block has this id.
const REVOKED: u64 = u64::MAX;

impl Slot {
    #[cfg(all(test, loom))]
    pub(crate) fn free() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A pin as it must not be made, to see that the model finds out.
    #[cfg(all(test, loom))]
    pub(crate) fn pin_without_fence(&self, entry: &Entry, listing: &Listing) -> bool {
        self.0.store(listing.block, Ordering::Relaxed);
        matches!(entry.read(), EntryRead::Listed(now) if now.block == listing.block)
    }

    /// Pins the block that `entry` was seen to list as `listing`; what it lists now that it cannot go any more. `None`,
    /// and the slot is free, if it lists that block no longer.
    pub(crate) fn pin(&self, entry: &Entry, listing: &Listing) -> Option<Listing> {
        self.0.store(listing.block, Ordering::Relaxed);
        // Before the worker's fence after delisting: it sees the slot. After it: we see that the block is delisted.
        fence(Ordering::SeqCst);
        match entry.read() {
            // Ids are not used again, so this is the block that was found, and not one in its place.
            EntryRead::Listed(now) if now.block == listing.block => Some(now),
            _ => {
                self.release();
                None
            }
        }
    }

    /// Ends the pin: all that was read of the block was read before.
    pub(crate) fn release(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Whether it still pins `block`, and has all the time since it did: what was read before was the block's.
    pub(crate) fn still_holds(&self, block: u64) -> bool {
        // If bytes were read that someone wrote after the pin was taken away, this sees that it was.
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == block
    }

    /// For the worker: the block it pins.
    pub(crate) fn block(&self) -> Option<u64> {
        match self.0.load(Ordering::Relaxed) {
            0 | REVOKED => None,
            block => Some(block),
        }
    }

    /// For the worker: takes the pin of `block` away.
    pub(crate) fn revoke(&self, block: u64) {
        let _ = self.0.compare_exchange(block, REVOKED, Ordering::AcqRel, Ordering::Relaxed);
        // Whoever reads what is written to the bytes from now on also sees that the pin was taken away.
        fence(Ordering::Release);
    }
}

/// The blocks that `slots` pin. Of blocks that were delisted before, all that are pinned or will ever be.
pub(crate) fn held_in<'a>(slots: impl Iterator<Item = &'a Slot>) -> HeldBlocks {
    // After delisting, before looking; a reader has one after its pin, before it looks whether that came in time.
    fence(Ordering::SeqCst);
    let held = slots.filter_map(|slot| slot.block()).collect();
    // What readers read before they let go, they read before what happens to the bytes next.
    fence(Ordering::Acquire);
    held
}

/// For a reader that has let go: whether the worker had set `flag` before it looked at the slots.
pub(crate) fn is_room_wanted(flag: &AtomicU32) -> bool {
    // After letting go, before looking; the worker has one after setting the flag, before it looks at the slots.
    fence(Ordering::SeqCst);
    flag.load(Ordering::Relaxed) != 0
}

/// What the client counts, and where it is in its ring.
#[repr(C)]
pub(crate) struct PinHeader {
    /// No slot from this one on is in use.
    pub(crate) used: AtomicU32,
    /// The worker has forgotten this table: 1.
    pub(crate) is_closed: AtomicU32,
    /// How many uses were ever written to the ring.
    pub(crate) uses: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) hit_bytes: AtomicU64,
    pub(crate) misses: AtomicU64,
}

/// What one client reads. Both sides have this.
#[derive(Debug)]
pub(crate) struct PinTable {
    memory: Memory,
}

impl PinTable {
    /// A table without pins, and the file to hand to the client.
    pub(crate) fn create() -> Result<(OwnedFd, Self), MemoryError> {
        let (file, memory) = Memory::create("chariot-pins", LEN, Writers::Holders)?;
        Ok((file, Self { memory }))
    }

    /// The table that the worker handed over as `file`.
    pub(crate) fn map(file: impl AsFd) -> Result<Self, MemoryError> {
        let memory = Memory::map_to_write(file)?;
        if memory.len() != LEN {
            return Err(MemoryError::Unknown { len: memory.len() });
        }
        Ok(Self { memory })
    }

    pub(crate) fn header(&self) -> &PinHeader {
        // SAFETY: the header is atomics, and the mapping is writable.
        unsafe { &self.memory.slice(0, 1)[0] }
    }

    pub(crate) fn ring(&self) -> &[AtomicU64] {
        // SAFETY: the ring is atomics, and the mapping is writable.
        unsafe { self.memory.slice(RING_AT, RING) }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        // SAFETY: slots are atomics, and the mapping is writable.
        unsafe { self.memory.slice(SLOTS_AT, SLOTS) }
    }

    /// The slots that may be in use.
    pub(crate) fn used_slots(&self) -> &[Slot] {
        let used = self.header().used.load(Ordering::Relaxed) as usize;
        &self.slots()[..used.min(SLOTS)]
    }
}
