//! [`State`]: what callers and the spill's thread share.

use std::collections::{HashMap, VecDeque};
use std::time::{Instant, SystemTime};

use chariot_types::Key;
use foldhash::fast::RandomState;

use crate::index::{Entry, Index};
use crate::layout::Place;
use crate::log::Log;
use crate::memory::Memory;
use crate::record::{Record, micros_of};
use crate::{Block, Held, Loaded, Refusal, SpillStats, Stored};

/// What callers and the spill's thread share, under one lock that is held for moments: never while bytes are touched,
/// and never while anyone is called.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) log: Log,
    pub(crate) stores: VecDeque<Store>,
    /// Bytes that they take in the file.
    pub(crate) queued: u64,
    /// Blocks that wait to be written or are being written.
    pub(crate) coming: HashMap<Key, Coming, RandomState>,
    pub(crate) loads: VecDeque<Load>,
    pub(crate) removals: VecDeque<Removal>,
    pub(crate) health: Health,
    pub(crate) phase: Phase,
    pub(crate) stats: SpillStats,
    queue: u64,
    longest: u32,
    next_ticket: u64,
}

/// A block on its way into the file. What was removed meanwhile is no longer listed, or under another ticket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coming {
    pub(crate) ticket: u64,
    len: u64,
    /// As a record has it.
    expires_at: u64,
}

/// A block that waits to be written.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) block: Block,
    pub(crate) memory: Memory,
    pub(crate) since: Instant,
    pub(crate) pages: u32,
    pub(crate) ticket: u64,
}

/// A block that is wanted.
pub(crate) struct Load {
    pub(crate) key: Key,
    pub(crate) memory: Memory,
    pub(crate) until: Instant,
    pub(crate) answer: Answer,
}

/// Whom to tell what became of a load.
pub(crate) type Answer = Box<dyn FnOnce(Loaded) + Send>;

/// A record whose block is not to be found again, after a restart either.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removal {
    pub(crate) place: Place,
    pub(crate) filling: u64,
    pub(crate) key: Key,
    pub(crate) len: u64,
}

/// How the disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    /// It does what is asked.
    Well,
    /// A write failed: nothing is written until then.
    Resting { until: Instant },
    /// It has not answered for too long.
    Stalled,
}

/// Whether the spill takes work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// It does.
    Open,
    /// It does what it has until then, and takes no more.
    Closing { until: Instant },
    /// Its thread has ended.
    Closed,
}

impl State {
    /// Of a file with this content, whose queue takes `queue` bytes and whose records have at most `longest` pages.
    pub(crate) fn new(index: Index, log: Log, queue: u64, longest: u32) -> Self {
        Self {
            index,
            log,
            stores: VecDeque::new(),
            queued: 0,
            coming: HashMap::default(),
            loads: VecDeque::new(),
            removals: VecDeque::new(),
            health: Health::Well,
            phase: Phase::Open,
            stats: SpillStats::default(),
            queue,
            longest,
            next_ticket: 0,
        }
    }

    pub(crate) fn find(&self, key: &Key, now: u64) -> Option<(Place, Entry)> {
        self.index.find(key).filter(|(_, entry)| !entry.has_expired(now)).map(|(place, entry)| (place, *entry))
    }

    /// The block called `key`, in the file or on its way there.
    pub(crate) fn held(&self, key: &Key, now: u64) -> Option<Held> {
        let coming = self.coming.get(key).filter(|coming| coming.expires_at == 0 || coming.expires_at > now);
        let in_file = || self.find(key, now).map(|(_, entry)| Held { len: u64::from(entry.len) });
        coming.map(|coming| Held { len: coming.len }).or_else(in_file)
    }

    /// Takes a block into the queue, or says why not.
    pub(crate) fn store(&mut self, block: Block, memory: Memory) -> Stored {
        let now = SystemTime::now();
        if self.phase == Phase::Open && self.is_there_for_long(&block.key, now) {
            self.stats.kept += 1;
            return Stored::Kept { memory };
        }
        match self.check(&block, now) {
            Err(why) => {
                self.stats.dropped += 1;
                Stored::Dropped { why, memory }
            }
            Ok(pages) => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                let expires_at = block.expires_at.map_or(0, micros_of);
                self.coming.insert(block.key, Coming { ticket, len: block.len, expires_at });
                self.queued += block.len;
                self.stores.push_back(Store { block, memory, since: Instant::now(), pages, ticket });
                Stored::Accepted
            }
        }
    }

    /// How much room there is in the queue of a disk that is well.
    pub(crate) fn room(&self) -> u64 {
        let is_well = self.phase == Phase::Open && self.health == Health::Well;
        if is_well { self.queue.saturating_sub(self.queued) } else { 0 }
    }

    /// The pages that a block will take, or why it is not written.
    fn check(&self, block: &Block, now: SystemTime) -> Result<u32, Refusal> {
        if self.phase != Phase::Open {
            return Err(Refusal::Closing);
        }
        let pages = Record::pages(block.len).filter(|pages| *pages <= self.longest).ok_or(Refusal::TooLong)?;
        if block.expires_at.is_some_and(|at| at <= now) {
            return Err(Refusal::Expired);
        }
        if self.health != Health::Well {
            return Err(Refusal::Unwell);
        }
        // However long the block is: what is left of the queue would else be too little for some for ever.
        if self.queued >= self.queue {
            return Err(Refusal::Busy);
        }
        Ok(pages)
    }

    /// Whether a block is in the file, or on its way there, and not among those that go next.
    fn is_there_for_long(&self, key: &Key, now: SystemTime) -> bool {
        self.coming.contains_key(key)
            || self.find(key, micros_of(now)).is_some_and(|(place, _)| !self.log.goes_soon(place.segment))
    }

    /// Takes the oldest block out of the queue, to be written or dropped.
    pub(crate) fn take_store(&mut self) -> Option<Store> {
        let store = self.stores.pop_front()?;
        self.queued -= store.block.len;
        Some(store)
    }

    /// Takes the oldest block out of the queue to drop it; the memory that it lay in, and its key if it can be found no
    /// more because of that.
    pub(crate) fn drop_store(&mut self) -> Option<(Memory, Option<Key>)> {
        let Store { block: Block { key, .. }, memory, .. } = self.take_store()?;
        self.coming.remove(&key);
        self.stats.dropped += 1;
        Some((memory, self.index.find(&key).is_none().then_some(key)))
    }

    /// Whether nothing waits to be begun.
    pub(crate) fn is_quiet(&self) -> bool {
        self.stores.is_empty() && self.loads.is_empty() && self.removals.is_empty()
    }

    /// Forgets a block, whether it is in the file or on its way there; whether it was, and the memory that it lay in
    /// while it waited.
    pub(crate) fn remove(&mut self, key: &Key) -> (bool, Option<Memory>) {
        let was_there = self.forget(key);
        let coming = self.coming.remove(key);
        let waiting = coming.and_then(|coming| self.stores.iter().position(|store| store.ticket == coming.ticket));
        let store = waiting.and_then(|at| self.stores.remove(at));
        self.queued -= store.as_ref().map_or(0, |store| store.block.len);
        let removed = was_there || coming.is_some();
        self.stats.removed += u64::from(removed);
        (removed, store.map(|store| store.memory))
    }

    /// Takes a block out of the index, and has its record say so; whether it was there.
    pub(crate) fn forget(&mut self, key: &Key) -> bool {
        let len = self.index.find(key).map(|(_, entry)| u64::from(entry.len));
        match (self.index.remove(key), len) {
            (Some(place), Some(len)) => {
                self.strike(place, *key, len);
                true
            }
            _ => false,
        }
    }

    /// A record that is no longer its block's is to say so.
    pub(crate) fn strike(&mut self, place: Place, key: Key, len: u64) {
        let filling = self.log.filling(place.segment);
        self.removals.push_back(Removal { place, filling, key, len });
    }

    pub(crate) fn stats(&self, capacity: u64) -> SpillStats {
        SpillStats {
            capacity,
            blocks: self.index.len() as u64,
            bytes: self.index.bytes(),
            coming: self.coming.len() as u64,
            queued: self.queued,
            ..self.stats
        }
    }
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").field("key", &self.key).field("until", &self.until).finish_non_exhaustive()
    }
}
