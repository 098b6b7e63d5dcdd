//! [`Local`]: what a client on the worker's host shares with it: the arena, the index, the board, and its own pins.

use std::io;
use std::os::fd::OwnedFd;

use chariot_index::{Board, Found, Grown, Held, Listing, Pinning, Pins, View, Want};
use chariot_pool::Mapping;
use chariot_types::Key;

use crate::fork::forks;

/// How often a block is looked for that changes with every look.
const ATTEMPTS: usize = 4;

/// What a client on the worker's host shares with it.
#[derive(Debug)]
pub(crate) struct Local {
    arena: Mapping,
    index: View,
    board: Board,
    pins: Pins,
    /// How many forks there were when this process got it. A forked child has the same memory, but the pins in it are
    /// its parent's.
    forks: u64,
}

impl Local {
    /// Maps what came with a welcome: the arena of `arena_len` bytes, the index, the pins.
    pub(crate) fn map(files: &[OwnedFd], arena_len: u64) -> io::Result<Self> {
        let [arena, index, board, pins] = files else {
            return Err(io::Error::other("the worker did not send its arena, its index, its board and our pins"));
        };
        Ok(Self {
            arena: Mapping::of(arena, arena_len).map_err(io::Error::other)?,
            index: View::map(index).map_err(io::Error::other)?,
            board: Board::map(board).map_err(io::Error::other)?,
            pins: Pins::map(pins).map_err(io::Error::other)?,
            forks: forks(),
        })
    }

    pub(crate) fn arena(&self) -> &Mapping {
        &self.arena
    }

    /// Looks for a block. One that its writer says is whole is, also while the worker has not heard of that yet: who has
    /// been told by the writer does not find less than that.
    pub(crate) fn find(&self, key: &Key) -> Found {
        if !self.is_own() {
            return Found::Unsure;
        }
        let mut said_whole = None;
        for _ in 0..ATTEMPTS {
            match self.index.find(key) {
                Found::Listed(listing) if listing.sealed => return Found::Listed(listing),
                // It was there before its writer's word was read, and is now: the word is about it.
                Found::Listed(listing) if said_whole == Some(listing.block) => return Found::Listed(whole(listing)),
                Found::Listed(listing) if self.is_said_whole(&listing) => said_whole = Some(listing.block),
                found => return found,
            }
        }
        Found::Unsure
    }

    /// What writers tell readers directly; `None` in a forked child, which has nothing to say there.
    pub(crate) fn board(&self) -> Option<&Board> {
        self.is_own().then_some(&self.board)
    }

    /// Pins a block, of which the same holds.
    pub(crate) fn pin(&self, key: &Key, want: Want) -> Pinning {
        if !self.is_own() {
            return Pinning::Unsure;
        }
        let pinning = match self.pins.pin(&self.index, key, want) {
            Pinning::Growing(listing) if self.is_said_whole(&listing) => {
                self.pins.pin(&self.index, key, Want::Readable)
            }
            pinning => pinning,
        };
        let Pinning::Pinned(listing, held) = pinning else { return pinning };
        if listing.sealed {
            return Pinning::Pinned(listing, held);
        }
        // It is pinned, so its writer's word is about it.
        match self.board.grown(listing.offset) {
            Some(Grown::Whole) => Pinning::Pinned(whole(listing), held),
            Some(Grown::Lost) => {
                self.pins.release(held);
                Pinning::Absent
            }
            _ if want == Want::Whole => {
                self.pins.release(held);
                Pinning::Growing(listing)
            }
            Some(Grown::To(bytes)) if bytes <= listing.len => {
                Pinning::Pinned(Listing { readable: listing.readable.max(bytes), ..listing }, held)
            }
            _ => Pinning::Pinned(listing, held),
        }
    }

    /// Whether what a writer said last of a block at this place is that it is whole.
    fn is_said_whole(&self, listing: &Listing) -> bool {
        self.board.grown(listing.offset) == Some(Grown::Whole)
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

/// A block of which its writer said that it is whole.
fn whole(listing: Listing) -> Listing {
    Listing { readable: listing.len, sealed: true, ..listing }
}
