//! [`Readers`]: all clients' pins, as the worker has them.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::MemoryError;
use crate::pin_table::{PinTable, RING, held_in};
use crate::sync::{Ordering, fence};

/// Ids of blocks that are being read.
pub type HeldBlocks = HashSet<u64, RandomState>;

/// All clients' pins.
#[derive(Default, Debug)]
pub struct Readers {
    tables: HashMap<u64, Reader, RandomState>,
    /// Of those that have left.
    left: ReadersTally,
}

/// One client's pins, and what the worker remembers of them.
#[derive(Debug)]
struct Reader {
    table: PinTable,
    /// The same, for the worker that comes after this one.
    file: OwnedFd,
    /// How many uses were taken from the ring.
    uses: u64,
    /// Since when each pin is known to be held, while that matters.
    held_since: HashMap<u32, (u64, Instant), RandomState>,
}

/// What readers say that they have found without asking.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReadersTally {
    /// Blocks found and pinned.
    pub hits: u64,
    /// Their bytes.
    pub hit_bytes: u64,
    /// Keys not found.
    pub misses: u64,
}

impl Readers {
    /// Lets a client in; what to hand to it for [`Pins::map`](crate::Pins::map).
    pub fn enter(&mut self, client: u64) -> Result<OwnedFd, MemoryError> {
        let (file, table) = PinTable::create()?;
        let copy = file.try_clone().map_err(|source| MemoryError::Map { source })?;
        self.tables.insert(client, Reader { table, file, uses: 0, held_since: HashMap::default() });
        Ok(copy)
    }

    /// Goes on with the pins of a client whom another worker let in.
    pub fn take_over(&mut self, client: u64, file: OwnedFd) -> Result<(), MemoryError> {
        let table = PinTable::map(&file)?;
        // What was used before is known, or is not known any more.
        let uses = table.header().uses.load(Ordering::Relaxed);
        self.tables.insert(client, Reader { table, file, uses, held_since: HashMap::default() });
        Ok(())
    }

    /// All clients, each with what [`take_over`](Self::take_over) wants of it.
    pub fn files(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.tables.iter().map(|(client, reader)| (*client, reader.file.as_fd()))
    }

    /// Forgets a client and its pins; whether it was there.
    pub fn leave(&mut self, client: u64) -> bool {
        let Some(reader) = self.tables.remove(&client) else { return false };
        self.left.add(reader.tally());
        reader.table.header().is_closed.store(1, Ordering::Release);
        // Whoever reads what is written to the bytes from now on also sees that the pins are over.
        fence(Ordering::Release);
        true
    }

    /// The blocks that are being read. Of blocks that were delisted before this call, all that are pinned or will ever
    /// be, because nobody can pin them any more; a block that is not among them is nobody's to read.
    pub fn held(&self) -> HeldBlocks {
        // The announced numbers of used slots are read after the fence, too: the iterator is lazy.
        held_in(self.tables.values().flat_map(|reader| reader.table.used_slots()))
    }

    /// Gives each block that was used since the last call to `use_block`, in each client's order. Some uses are lost
    /// when there were many.
    pub fn drain_uses(&mut self, mut use_block: impl FnMut(u64)) {
        for reader in self.tables.values_mut() {
            let uses = reader.table.header().uses.load(Ordering::Relaxed);
            let count = uses.wrapping_sub(reader.uses).min(RING as u64);
            for at in uses.wrapping_sub(count)..uses {
                use_block(reader.table.ring()[at as usize % RING].load(Ordering::Relaxed));
            }
            reader.uses = uses;
        }
    }

    /// Takes away the pins that were seen by every call of the last `patience`; how many they were. To be called
    /// while pins are in the way of others; [`forgive`](Self::forgive) when they no longer are.
    pub fn revoke_long_held(&mut self, now: Instant, patience: Duration) -> usize {
        let mut revoked = 0;
        for reader in self.tables.values_mut() {
            let mut held_since = HashMap::default();
            for (number, slot) in reader.table.used_slots().iter().enumerate() {
                let Some(block) = slot.block() else { continue };
                let before = reader.held_since.get(&(number as u32)).filter(|(seen, _)| *seen == block);
                let since = before.map_or(now, |(_, since)| *since);
                if now.saturating_duration_since(since) >= patience {
                    slot.revoke(block);
                    revoked += 1;
                } else {
                    held_since.insert(number as u32, (block, since));
                }
            }
            reader.held_since = held_since;
        }
        revoked
    }

    /// Forgets since when pins are held: they are in nobody's way.
    pub fn forgive(&mut self) {
        self.tables.values_mut().for_each(|reader| reader.held_since.clear());
    }

    /// What all readers say that they have found, those that have left included.
    pub fn tally(&self) -> ReadersTally {
        let mut sum = self.left;
        self.tables.values().for_each(|reader| sum.add(reader.tally()));
        sum
    }
}

impl Reader {
    fn tally(&self) -> ReadersTally {
        let header = self.table.header();
        let [hits, hit_bytes, misses] =
            [&header.hits, &header.hit_bytes, &header.misses].map(|count| count.load(Ordering::Relaxed));
        ReadersTally { hits, hit_bytes, misses }
    }
}

impl ReadersTally {
    fn add(&mut self, other: Self) {
        self.hits = self.hits.saturating_add(other.hits);
        self.hit_bytes = self.hit_bytes.saturating_add(other.hit_bytes);
        self.misses = self.misses.saturating_add(other.misses);
    }
}
