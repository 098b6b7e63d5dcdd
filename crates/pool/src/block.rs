//! [`Block`]: the record of one block, and the states that it goes through.

use std::time::{Duration, Instant};

use chariot_types::{Extent, Key};
use serde::{Deserialize, Serialize};

use crate::evict::Standing;
use crate::{NamespaceId, Progress};

/// The record of one block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) key: Key,
    /// The block before it in its chain; `None` as well where that would have made a circle.
    pub(crate) parent: Option<Key>,
    pub(crate) extent: Extent,
    pub(crate) len: u64,
    pub(crate) state: State,
    pub(crate) naming: Naming,
    pub(crate) namespace: NamespaceId,
    /// By all owners together.
    pub(crate) pins: u64,
    /// From when on it is not found any more.
    pub(crate) expires_at: Option<Instant>,
    pub(crate) standing: Standing,
}

/// How far its bytes are. Only ever goes down this list.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) enum State {
    /// Its writer has a slot for it.
    Growing { readable: u64, time_to_live: Option<Duration> },
    /// Its bytes never change again.
    Sealed,
    /// Its writer gave up or is gone.
    Lost,
}

/// Whether it can be found under its key. Only ever goes down this list.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) enum Naming {
    /// Not yet: another block had the key when it was created.
    Unpublished,
    /// The index names it.
    Published,
    /// No more.
    Withdrawn,
}

impl Block {
    pub(crate) fn readable(&self) -> u64 {
        match self.state {
            State::Growing { readable, .. } => readable,
            State::Sealed => self.len,
            State::Lost => 0,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        match self.state {
            State::Growing { readable, .. } => Progress::Growing { readable },
            State::Sealed => Progress::Sealed,
            State::Lost => Progress::Lost,
        }
    }

    pub(crate) fn is_growing(&self) -> bool {
        matches!(self.state, State::Growing { .. })
    }

    pub(crate) fn is_published(&self) -> bool {
        self.naming == Naming::Published
    }

    /// Whether nothing but its place in a chain keeps it from being evicted.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_published() && self.state == State::Sealed && self.pins == 0
    }

    /// Whether nobody can reach its bytes any more: no name, no reader, no writer.
    pub(crate) fn is_unreachable(&self) -> bool {
        !self.is_published() && self.pins == 0 && !self.is_growing()
    }

    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}
