//! [`Pool`]: who holds which bytes of the arena, and what can be found in it.
//!
//! The calls are in `pool/`: `grant` (room), `write` (putting and growing blocks), `read` (finding and pinning),
//! `life` (how blocks come and go), `soft_pin` (which go last), `evict` (because someone asks), `sweep` (freeing what nobody
//! reads any more), `inherit` (going on in another process).

mod evict;
mod grant;
mod inherit;
mod life;
mod read;
mod soft_pin;
mod sweep;
mod write;

use std::collections::HashMap;
use std::fmt;

use chariot_index::Index as SharedIndex;
use chariot_types::NamespaceName;
use foldhash::fast::RandomState;

use crate::blocks::Blocks;
use crate::deadlines::Deadlines;
use crate::evict::Evictor;
use crate::index::Index;
use crate::lineage::Lineage;
use crate::namespaces::Namespaces;
use crate::owner::Owner;
use crate::room::Room;
use crate::shown::Shown;
use crate::soft_pins::SoftPins;
use crate::{BlockId, Event, NamespaceId, NamespaceStats, OwnerId, PoolStats, Terms};

pub use evict::Whose;

/// Who holds which bytes of the arena, and what can be found in it.
///
/// Every byte is free, granted to an owner, or a block's. A block's bytes are freed when nobody can reach them any
/// more: it has no name in the index, no pin, and no writer. An owner comes into being with its first call and goes
/// with [`Pool::drop_owner`].
///
/// No call panics or overflows, whatever a client sends; a call that answers [`Misuse`](crate::Misuse) changed
/// nothing. How much of anything one owner may hold is the worker's to limit.
pub struct Pool {
    room: Room,
    granted: u64,
    owners: HashMap<OwnerId, Owner, RandomState>,
    blocks: Blocks,
    index: Index,
    lineage: Lineage,
    namespaces: Namespaces,
    soft_pins: SoftPins,
    evictor: Evictor,
    deadlines: Deadlines,
    events: Vec<Event>,
    /// Events come also for names that are given and taken away.
    tells_of_names: bool,
    /// The most bytes that a grant had to have.
    largest_ask: u64,
    /// A grant was refused, and no [`Event::RoomFreed`] followed yet.
    refused: bool,
    counts: Counts,
    /// What clients see of it by themselves.
    shown: Shown,
    /// Blocks of a shared pool that nobody can reach, unless someone has pinned them without asking.
    unswept: Vec<BlockId>,
    /// Such blocks that someone was seen to have pinned.
    limbo: Vec<BlockId>,
}

/// What was done since the pool was made.
#[derive(Default, Debug)]
struct Counts {
    evictions: u64,
    expired: u64,
    hits: u64,
    hit_bytes: u64,
    misses: u64,
    puts: u64,
    put_bytes: u64,
    duplicates: u64,
}

impl Pool {
    /// An empty pool over an arena of `capacity` bytes, of which it uses whole [`Extent::ALIGN`]s.
    ///
    /// [`Extent::ALIGN`]: chariot_types::Extent::ALIGN
    pub fn new(capacity: u64) -> Self {
        Self {
            room: Room::new(capacity),
            granted: 0,
            owners: HashMap::default(),
            blocks: Blocks::default(),
            index: Index::default(),
            lineage: Lineage::default(),
            namespaces: Namespaces::default(),
            soft_pins: SoftPins::default(),
            evictor: Evictor::default(),
            deadlines: Deadlines::default(),
            events: Vec::new(),
            tells_of_names: false,
            largest_ask: 0,
            refused: false,
            counts: Counts::default(),
            shown: Shown::default(),
            unswept: Vec::new(),
            limbo: Vec::new(),
        }
    }

    /// An empty pool that lists its blocks in `index`, so that clients find and pin them without a call. Bytes of
    /// blocks that went are free after a [`Pool::sweep`] that finds nobody reading them.
    pub fn shared(capacity: u64, index: SharedIndex) -> Self {
        Self { shown: Shown::on(index), ..Self::new(capacity) }
    }

    /// From now on there are events when a block can be found under its key, and when it no longer can.
    pub fn tell_of_names(&mut self) {
        self.tells_of_names = true;
    }

    /// The namespace called `name`, for [`Terms`]. It comes into being if there is none.
    pub fn namespace(&mut self, name: &NamespaceName) -> NamespaceId {
        self.namespaces.id(name)
    }

    /// The namespace called `name`, if anybody ever named it.
    pub fn find_namespace(&self, name: &NamespaceName) -> Option<NamespaceId> {
        self.namespaces.find(name)
    }

    /// What a namespace is called.
    pub fn namespace_name(&self, namespace: NamespaceId) -> &NamespaceName {
        self.namespaces.name(namespace)
    }

    /// Gives a namespace a quota: while it holds more bytes than that, its blocks go before others', and while it holds
    /// less, others' go before its own, when room is needed. It may hold more for as long as nobody needs room. For
    /// blocks that it puts from now on.
    pub fn set_quota(&mut self, namespace: NamespaceId, bytes: u64) {
        self.namespaces.set_quota(namespace, bytes);
    }

    /// How the namespaces are that hold blocks or have a quota.
    pub fn namespaces(&self) -> Vec<NamespaceStats> {
        self.namespaces.stats()
    }

    /// From now on this is so of all blocks that the owner puts and creates. Without, [`Terms::default`] is.
    pub fn agree(&mut self, owner: OwnerId, terms: Terms) {
        self.owners.entry(owner).or_default().terms = terms;
    }

    /// From now on clients that do not find a block by themselves ask: others may hold it.
    pub fn leave_absence_open(&mut self) {
        self.shown.leave_absence_open();
    }

    /// What happened since the last call, in order. Call it after every batch: what is not taken piles up.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Bytes that are nobody's.
    pub fn free_room(&self) -> u64 {
        self.room.free()
    }

    /// The longest run of free bytes.
    pub fn largest_free_run(&self) -> u64 {
        self.room.largest_run()
    }

    /// The most bytes that a grant had to have so far.
    pub fn largest_ask(&self) -> u64 {
        self.largest_ask
    }

    /// What the pool holds and has done; costs next to nothing, or in a shared pool one look at what readers hold.
    pub fn stats(&self) -> PoolStats {
        let census = self.blocks.census();
        let readers = self.shown.tally();
        PoolStats {
            capacity: self.room.capacity(),
            free: self.room.free(),
            largest_free_run: self.room.largest_run(),
            granted: self.granted,
            sealed: census.sealed,
            growing: census.growing,
            detached: census.detached,
            pinned: self.pinned(),
            soft_pinned: self.soft_pins.held(),
            evictions: self.counts.evictions,
            expired: self.counts.expired,
            hits: self.counts.hits.saturating_add(readers.hits),
            hit_bytes: self.counts.hit_bytes.saturating_add(readers.hit_bytes),
            misses: self.counts.misses.saturating_add(readers.misses),
            puts: self.counts.puts,
            put_bytes: self.counts.put_bytes,
            duplicates: self.counts.duplicates,
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
