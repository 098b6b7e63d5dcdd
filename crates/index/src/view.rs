//! [`View`]: an index as a client sees it.

use std::os::fd::AsFd;

use chariot_types::Key;

use crate::MemoryError;
use crate::entry::{Entry, EntryRead, Listing};
use crate::hash::{Places, TAG_BITS};
use crate::layout::Layout;
use crate::memory::Memory;
use crate::pin_table::is_room_wanted;
use crate::sync::Ordering;

/// An index as a client sees it: for reading only.
#[derive(Debug)]
pub struct View {
    layout: Layout,
    seed: u64,
    epoch: u64,
}

/// What a look for a key came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// This block was published under the key at some moment during the look.
    Listed(Listing),
    /// No block was, at some moment during the look; or a growing one was giving its name to a whole one.
    Absent,
    /// Only the worker knows.
    Unsure,
}

/// What a look came to, with the entry where the block is listed.
pub(crate) enum Spotted<'a> {
    Listed(Listing, &'a Entry),
    Absent,
    Unsure,
}

impl View {
    /// The index that a worker handed over as `file`, which can be closed after.
    pub fn map(file: impl AsFd) -> Result<Self, MemoryError> {
        Layout::read(Memory::map_to_read(file)?).map(Self::of)
    }

    pub(crate) fn of(layout: Layout) -> Self {
        let header = layout.header();
        let (seed, epoch) = (header.seed.load(Ordering::Relaxed), header.epoch.load(Ordering::Relaxed));
        Self { layout, seed, epoch }
    }

    /// Looks for the block called `key`.
    pub fn find(&self, key: &Key) -> Found {
        match self.spot(key) {
            Spotted::Listed(listing, _) => Found::Listed(listing),
            Spotted::Absent => Found::Absent,
            Spotted::Unsure => Found::Unsure,
        }
    }

    /// Whether the worker has refused someone for want of room: whoever has just let go of a block tells it.
    pub fn is_room_wanted(&self) -> bool {
        is_room_wanted(&self.layout.header().room_wanted)
    }

    pub(crate) fn spot(&self, key: &Key) -> Spotted<'_> {
        let (buckets, entries) = (self.layout.buckets(), self.layout.entries());
        let places = Places::of(key, self.seed, buckets.len());
        for bucket in places.buckets {
            for word in &buckets[bucket] {
                let word = word.load(Ordering::Acquire);
                if word == 0 || word >> (u64::BITS - TAG_BITS) != places.tag {
                    continue;
                }
                let number = (word << TAG_BITS >> TAG_BITS) as usize - 1;
                let Some(entry) = entries.get(number) else { continue };
                match entry.read() {
                    EntryRead::Listed(listing) if listing.key == *key => {
                        let is_sure = !listing.deadline.may_be_over(self.epoch);
                        return if is_sure { Spotted::Listed(listing, entry) } else { Spotted::Unsure };
                    }
                    EntryRead::Listed(_) | EntryRead::Empty => {}
                    EntryRead::Torn => return Spotted::Unsure,
                }
            }
        }
        if self.layout.header().unlisted.load(Ordering::Acquire) == 0 { Spotted::Absent } else { Spotted::Unsure }
    }
}
