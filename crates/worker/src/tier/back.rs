//! How blocks come back: into room of their own, and into the pool when they are whole and their checksums fit.
//!
//! Whoever wants a block that is on its way joins those who wait for it. A block for which no room is free is parked until
//! others have left for the disk: only where none can is it given the room of blocks that are lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use chariot_pool::{GrantAsk, Lookup, NoRoom, OwnerId, PutRecord, Terms};
use chariot_ssd::{Block, Loaded, Memory, Wanted};
use chariot_types::{Extent, Key};

use super::Tier;
use crate::shared::{Shared, State};

/// How long the disk may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The part of the arena that may be filled ahead of those who will want it.
const AHEAD: u64 = 8;

/// What became of a block that was to come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Brought {
    /// It was put into the pool, or was there already.
    Here,
    /// It cannot be read, or there is no room for it.
    Not,
}

/// Whom to tell, on any thread.
pub(crate) type Then = Box<dyn FnOnce(Brought) + Send>;

/// A block on its way back.
#[derive(Default)]
pub(super) struct Loading {
    then: Vec<Then>,
    /// Someone has deleted it meanwhile.
    pub(super) is_removed: bool,
}

/// What is done where no room is free.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scarce {
    /// Others are asked to leave, and blocks wait for their room.
    Ask,
    /// Others were asked.
    Await,
    /// Others give way, and are lost.
    Evict,
}

/// Where a block that is to come back has its place.
enum Place {
    /// It comes.
    Room(Room),
    /// It is in the pool already.
    Here,
    /// Nowhere yet.
    Full,
    /// It is larger than the pool.
    Never,
}

/// Whether room was found for anything that was parked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unparked {
    Some,
    Nothing,
}

/// Room for one block on its way.
#[derive(Clone, Copy)]
struct Room {
    owner: OwnerId,
    extent: Extent,
}

impl Tier {
    /// Brings back what is on the disk, and tells of each what became of it; hands back what is not there.
    pub(crate) fn bring(self: &Arc<Self>, wanted: Vec<(Key, Then)>) -> Vec<(Key, Then)> {
        let Some(shared) = self.shared.upgrade() else { return wanted };
        let (mut absent, mut begun) = (Vec::new(), Vec::new());
        let keys: Vec<Key> = wanted.iter().map(|(key, _)| *key).collect();
        let held = self.spill.find(&keys);
        {
            let mut loading = self.loading.lock();
            for ((key, then), held) in wanted.into_iter().zip(held) {
                match (loading.get_mut(&key), held) {
                    (Some(loading), _) if !loading.is_removed => loading.then.push(then),
                    (None, Some(held)) => {
                        loading.insert(key, Loading { then: vec![then], is_removed: false });
                        begun.push((key, held.len));
                    }
                    _ => absent.push((key, then)),
                }
            }
        }
        self.load(&shared, begun, Scarce::Ask);
        absent
    }

    /// Brings back ahead of those who will want them what is on the disk of `keys`, as far as that is not too much.
    pub(crate) fn bring_ahead(self: &Arc<Self>, keys: &[Key]) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut budget = shared.arena.len() / AHEAD;
        let lengths = keys.iter().zip(self.spill.find(keys)).filter_map(|(key, held)| Some((*key, held?.len)));
        let ahead = lengths.take_while(|(_, len)| {
            let is_within = *len <= budget;
            budget = budget.saturating_sub(*len);
            is_within
        });
        let nobody = |(key, _): (Key, u64)| -> (Key, Then) { (key, Box::new(|_| ())) };
        self.bring(ahead.map(nobody).collect());
    }

    /// Begins to read what there is room for, and parks the rest.
    fn load(self: &Arc<Self>, shared: &Arc<Shared>, blocks: Vec<(Key, u64)>, scarce: Scarce) -> Unparked {
        if blocks.is_empty() {
            return Unparked::Nothing;
        }
        let (mut rooms, mut settled) = (HashMap::new(), Vec::new());
        let must_evict = shared.change(|state| {
            // What could not be made for these, only a change by others makes possible.
            self.is_making_room.store(scarce == Scarce::Await, Ordering::Relaxed);
            let (mut parked, mut awaited) = (Vec::new(), 0);
            for (key, len) in blocks {
                match room_for(shared, state, &key, len, scarce) {
                    Place::Room(room) => drop(rooms.insert(key, room)),
                    Place::Here => settled.push((key, Brought::Here)),
                    Place::Full if scarce != Scarce::Evict => {
                        awaited += len.max(Extent::ALIGN);
                        parked.push((key, len));
                    }
                    Place::Full | Place::Never => settled.push((key, Brought::Not)),
                }
            }
            self.awaited.fetch_add(awaited, Ordering::Relaxed);
            self.parked.lock().extend(parked);
            // Else those who leave look after what is parked.
            awaited > 0 && self.leaving.load(Ordering::Relaxed) == 0
        });
        if must_evict {
            self.room_is_short.notify_one();
        }
        settled.into_iter().for_each(|(key, brought)| self.finish(shared, &key, brought));
        if rooms.is_empty() {
            return Unparked::Nothing;
        }
        let wanted = rooms.iter().map(|(key, room)| Wanted { key: *key, memory: room.lend(shared) }).collect();
        let tier = self.clone();
        self.spill.load(wanted, Instant::now() + PATIENCE, move |key, loaded| {
            let Some(shared) = tier.shared.upgrade() else { return };
            let brought = match loaded {
                Loaded::Hit { block, memory } => take_in(&shared, &block, rooms[&key], memory),
                // Where the disk may still write, the memory stays lent until it has.
                Loaded::Miss { .. } | Loaded::Late => Brought::Not,
            };
            tier.finish(&shared, &key, brought);
        });
        Unparked::Some
    }

    /// Brings what is parked, as far as there is room by now. Where nobody leaves any more who would make some, others
    /// give way for good.
    pub(super) fn unpark(self: &Arc<Self>, shared: &Arc<Shared>) -> Unparked {
        if self.awaited.load(Ordering::Relaxed) == 0 {
            return Unparked::Nothing;
        }
        let (parked, scarce) = {
            let _state = shared.state();
            self.awaited.store(0, Ordering::Relaxed);
            let nobody_leaves = self.leaving.load(Ordering::Relaxed) == 0;
            (std::mem::take(&mut *self.parked.lock()), if nobody_leaves { Scarce::Evict } else { Scarce::Await })
        };
        self.load(shared, parked, scarce)
    }

    fn finish(&self, shared: &Arc<Shared>, key: &Key, brought: Brought) {
        let Some(Loading { then, is_removed }) = self.loading.lock().remove(key) else { return };
        if is_removed {
            shared.change(|state| state.pool.delete(key, Instant::now()));
        }
        let brought = if is_removed { Brought::Not } else { brought };
        then.into_iter().for_each(|then| then(brought));
    }
}

/// Room for a block that is not in the pool.
fn room_for(shared: &Shared, state: &mut State, key: &Key, len: u64, scarce: Scarce) -> Place {
    let now = Instant::now();
    if state.pool.lookup(key, now) != Lookup::Miss {
        return Place::Here;
    }
    let Some(room) = Extent::room_for(len) else { return Place::Never };
    let owner = shared.next_session();
    let ask = GrantAsk { min: room, want: room };
    let granted = match scarce {
        Scarce::Ask | Scarce::Await => state.pool.grant_free(owner, ask, now),
        Scarce::Evict => state.pool.grant(owner, ask, now),
    };
    match granted {
        Ok(extent) => Place::Room(Room { owner, extent }),
        Err(refused) => {
            state.pool.drop_owner(owner);
            if refused == NoRoom::Full { Place::Full } else { Place::Never }
        }
    }
}

/// Puts a block that has come into the pool.
fn take_in(shared: &Shared, block: &Block, room: Room, memory: Memory) -> Brought {
    let left = match block.expires_at.map(|at| at.duration_since(SystemTime::now())) {
        None => None,
        Some(Ok(left)) => Some(left),
        Some(Err(_)) => return Brought::Not,
    };
    let Block { key, parent, len, .. } = *block;
    let record = PutRecord { key, parent, extent: room.extent, len, time_to_live: left };
    let put = shared.change(|state| {
        let namespace = state.pool.namespace(&block.namespace);
        state.pool.agree(room.owner, Terms { namespace, ..Terms::default() });
        state.pool.put(room.owner, record, Instant::now())
    });
    debug_assert!(put.is_ok(), "the room was granted for this block");
    drop(memory);
    if put.is_ok() { Brought::Here } else { Brought::Not }
}

impl Room {
    fn lend(self, shared: &Arc<Shared>) -> Memory {
        let bytes = shared.arena.slice(self.extent).expect("the pool keeps to the arena");
        let lease = Lease { shared: shared.clone(), owner: self.owner };
        // SAFETY: the lease keeps the arena, and the room granted to an owner of its own, so that nobody else uses it.
        unsafe { Memory::new(bytes, lease) }
    }
}

/// Room that is lent to the disk. Dropped, it is free, unless a block has it by then. Not under the pool's lock.
struct Lease {
    shared: Arc<Shared>,
    owner: OwnerId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.change(|state| state.pool.drop_owner(self.owner));
    }
}
