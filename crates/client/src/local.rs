//! [`Local`]: what a client on the worker's host shares with it: the arena, the index, and its own pins.

use std::io;
use std::os::fd::OwnedFd;

use chariot_index::{Found, Held, Pinning, Pins, View};
use chariot_pool::Mapping;
use chariot_types::Key;

use crate::fork::forks;

/// What a client on the worker's host shares with it.
#[derive(Debug)]
pub(crate) struct Local {
    arena: Mapping,
    index: View,
    pins: Pins,
    /// How many forks there were when this process got it. A forked child has the same memory, but the pins in it are
    /// its parent's.
    forks: u64,
}

impl Local {
    /// Maps what came with a welcome: the arena of `arena_len` bytes, the index, the pins.
    pub(crate) fn map(files: &[OwnedFd], arena_len: u64) -> io::Result<Self> {
        let [arena, index, pins] = files else {
            return Err(io::Error::other("the worker did not send its arena, its index and our pins"));
        };
        Ok(Self {
            arena: Mapping::of(arena, arena_len).map_err(io::Error::other)?,
            index: View::map(index).map_err(io::Error::other)?,
            pins: Pins::map(pins).map_err(io::Error::other)?,
            forks: forks(),
        })
    }

    pub(crate) fn arena(&self) -> &Mapping {
        &self.arena
    }

    /// Looks for a block.
    pub(crate) fn find(&self, key: &Key) -> Found {
        if self.is_own() { self.index.find(key) } else { Found::Unsure }
    }

    /// Pins a whole block.
    pub(crate) fn pin(&self, key: &Key) -> Pinning {
        if self.is_own() { self.pins.pin(&self.index, key) } else { Pinning::Unsure }
    }

    /// Ends a pin. Whether the worker wants to be told.
    pub(crate) fn release(&self, held: Held) -> bool {
        if !self.is_own() {
            return false;
        }
        self.pins.release(held);
        self.index.is_room_wanted()
    }

    /// Whether a pin was never taken away.
    pub(crate) fn still_holds(&self, held: &Held) -> bool {
        self.is_own() && self.pins.still_holds(held)
    }

    /// Whether the worker still knows what this client has pinned by message.
    pub(crate) fn is_known(&self) -> bool {
        self.is_own() && !self.pins.are_closed()
    }

    pub(crate) fn count_misses(&self, misses: usize) {
        if misses > 0 {
            self.pins.count_misses(misses as u64);
        }
    }

    fn is_own(&self) -> bool {
        self.forks == forks()
    }
}
