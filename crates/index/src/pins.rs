//! [`Pins`]: what a client has pinned, as the client has it.

use std::os::fd::AsFd;

use chariot_types::Key;
use parking_lot::Mutex;

use crate::entry::Listing;
use crate::pin_table::{PinTable, RING, SLOTS};
use crate::sync::Ordering;
use crate::view::Spotted;
use crate::{MemoryError, View};

/// How often a block is looked for that goes just as it is pinned.
const ATTEMPTS: usize = 8;

/// What a client has pinned.
#[derive(Debug)]
pub struct Pins {
    table: PinTable,
    // Which slots are free is this process's alone to know.
    slots: Mutex<FreeSlots>,
}

/// A pin: while the slot holds the id, the worker leaves the block's bytes alone. To be given to [`Pins::release`].
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a pin that is forgotten lasts as long as the connection"]
pub struct Held {
    slot: u32,
    block: u64,
}

impl Held {
    /// The id of the block that is pinned.
    pub fn block(&self) -> u64 {
        self.block
    }
}

/// Which blocks a reader can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Whole ones only.
    Whole,
    /// Growing ones as well.
    Readable,
}

/// What an attempt to pin came to.
#[derive(PartialEq, Eq, Debug)]
pub enum Pinning {
    /// The block is what is wanted, and stays where it is.
    Pinned(Listing, Held),
    /// The block is not whole yet, and that is wanted.
    Growing(Listing),
    /// There is no such block.
    Absent,
    /// Only the worker knows, or only the worker can pin it.
    Unsure,
}

/// Slots that are free: some that were in use, and all from `next` on.
#[derive(Default, Debug)]
struct FreeSlots {
    returned: Vec<u32>,
    next: u32,
}

impl Pins {
    /// The pins that a worker handed over as `file`, which can be closed after.
    pub fn map(file: impl AsFd) -> Result<Self, MemoryError> {
        Ok(Self { table: PinTable::map(file)?, slots: Mutex::default() })
    }

    /// Pins the block called `key`.
    pub fn pin(&self, view: &View, key: &Key, want: Want) -> Pinning {
        for _ in 0..ATTEMPTS {
            let (listing, entry) = match view.spot(key) {
                Spotted::Listed(listing, entry) if listing.sealed || want == Want::Readable => (listing, entry),
                Spotted::Listed(listing, _) => return Pinning::Growing(listing),
                Spotted::Absent => return Pinning::Absent,
                Spotted::Unsure => return Pinning::Unsure,
            };
            let Some(slot) = self.take_slot() else { return Pinning::Unsure };
            if let Some(now) = self.table.slots()[slot as usize].pin(entry, &listing) {
                self.note_use(&now);
                return Pinning::Pinned(now, Held { slot, block: now.block });
            }
            self.return_slot(slot);
        }
        Pinning::Unsure
    }

    /// Ends a pin. Nothing of the block is read any more.
    pub fn release(&self, held: Held) {
        self.table.slots()[held.slot as usize].release();
        self.return_slot(held.slot);
    }

    /// Whether a pin was never taken away: all bytes read so far were the block's.
    pub fn still_holds(&self, held: &Held) -> bool {
        self.table.slots()[held.slot as usize].still_holds(held.block) && !self.are_closed()
    }

    /// Whether the worker has forgotten these pins.
    pub fn are_closed(&self) -> bool {
        self.table.header().is_closed.load(Ordering::Acquire) != 0
    }

    /// Counts keys that were not found.
    pub fn count_misses(&self, misses: u64) {
        self.table.header().misses.fetch_add(misses, Ordering::Relaxed);
    }

    fn note_use(&self, listing: &Listing) {
        let header = self.table.header();
        header.hits.fetch_add(1, Ordering::Relaxed);
        header.hit_bytes.fetch_add(listing.len, Ordering::Relaxed);
        let at = header.uses.fetch_add(1, Ordering::Relaxed) as usize % RING;
        self.table.ring()[at].store(listing.block, Ordering::Relaxed);
    }

    fn take_slot(&self) -> Option<u32> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.returned.pop() {
            return Some(slot);
        }
        let slot = slots.next;
        if slot as usize >= SLOTS {
            return None;
        }
        slots.next += 1;
        // Before the fence of the pin that is to come, so that whoever sees that sees this.
        self.table.header().used.store(slots.next, Ordering::Relaxed);
        Some(slot)
    }

    fn return_slot(&self, slot: u32) {
        let mut slots = self.slots.lock();
        slots.returned.push(slot);
        if slots.returned.len() == slots.next as usize {
            // None is in use: the worker need not look at those that once were.
            *slots = FreeSlots { returned: std::mem::take(&mut slots.returned), next: 0 };
            slots.returned.clear();
            self.table.header().used.store(0, Ordering::Relaxed);
        }
    }
}
