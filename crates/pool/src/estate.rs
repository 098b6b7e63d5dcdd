//! [`Estate`]: all that a pool knows, as it leaves it to the pool that goes on with the same arena.
//!
//! Plain data, to be sent to another process and checked there ([`Pool::inherit`](crate::Pool::inherit)). Blocks come with
//! their ids, because those who have pinned them in shared memory go by these.

use std::time::Duration;

use chariot_types::Key;
use serde::{Deserialize, Serialize};

use crate::block::{Naming, State};
use crate::evict::Past;
use crate::{Origin, OwnerId};

/// All that a pool knows, as it leaves it to the pool that goes on with the same arena.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Estate {
    pub(crate) capacity: u64,
    /// In the order of their numbers.
    pub(crate) namespaces: Vec<String>,
    /// The time of all pasts.
    pub(crate) clock: u64,
    pub(crate) blocks: Vec<LeftBlock>,
    pub(crate) owners: Vec<LeftOwner>,
    /// Named keys, and for how long.
    pub(crate) soft_pins: Vec<([u8; Key::LEN], Option<Duration>)>,
}

/// A block that is left.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LeftBlock {
    pub(crate) id: u64,
    pub(crate) key: [u8; Key::LEN],
    pub(crate) parent: Option<[u8; Key::LEN]>,
    /// Where its room begins, which its length tells.
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) state: State,
    pub(crate) naming: Naming,
    pub(crate) namespace: u16,
    pub(crate) expires_in: Option<Duration>,
    pub(crate) origin: Origin,
    pub(crate) past: Past,
}

/// What an owner holds that goes on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LeftOwner {
    pub(crate) id: u64,
    pub(crate) namespace: u16,
    pub(crate) origin: Origin,
    /// Offsets and lengths.
    pub(crate) grants: Vec<(u64, u64)>,
    /// Slots, and the blocks in them.
    pub(crate) slots: Vec<(u64, u64)>,
    /// Blocks, and how often each is pinned.
    pub(crate) pins: Vec<(u64, u32)>,
}

/// Why what is left cannot be gone on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("what the other pool leaves does not fit together: {what}")]
pub struct Unfit {
    pub(crate) what: &'static str,
}

impl Estate {
    /// Bytes of the arena that the pool used.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Everyone who holds something.
    pub fn owners(&self) -> impl Iterator<Item = OwnerId> {
        self.owners.iter().map(|owner| OwnerId(owner.id))
    }
}
