//! Soft pins: blocks that go last.

use std::time::{Duration, Instant};

use chariot_types::Key;

use crate::block::Block;
use crate::{BlockId, Pool, SoftPinOutcome};

/// What soft-pinned blocks may take of the pool: a quarter. Those who put more must still find room that turns over.
const SHARE: u64 = 4;

impl Pool {
    /// Keeps the block under `key`, with all that leads up to it in its chain, until all that is not soft-pinned has been
    /// evicted: for some time from now on, or until it is [unpinned](Pool::soft_unpin). Once more: for the time that is
    /// said then. A soft pin goes with its block, and does not keep that from being deleted or from expiring. It is nobody's: whoever wants
    /// may end it.
    pub fn soft_pin(&mut self, key: Key, time: Option<Duration>, now: Instant) -> SoftPinOutcome {
        self.expire(now);
        let Some(id) = self.index.find(&key) else { return SoftPinOutcome::Absent };
        let more = self.not_yet_soft_pinned(key);
        let (share, held) = (self.room.capacity() / SHARE, self.soft_pins.held().bytes);
        if more > 0 && held.saturating_add(more) > share {
            return SoftPinOutcome::NoShare { share, held, more };
        }
        // A time beyond all clocks is for ever.
        let until = time.and_then(|time| now.checked_add(time));
        if self.soft_pins.name(key, until) {
            if let Some(standing) = self.blocks.standing_mut(id) {
                self.evictor.soft_pin(id, standing);
            }
            self.raise_soft_pins(key);
        }
        SoftPinOutcome::Pinned
    }

    /// Ends the soft pin that names `key`. Whether there was one.
    pub fn soft_unpin(&mut self, key: &Key) -> bool {
        if !self.soft_pins.unname(key) {
            return false;
        }
        if let Some(id) = self.index.find(key)
            && let Some(standing) = self.blocks.standing_mut(id)
        {
            self.evictor.soft_unpin(id, standing);
        }
        self.lower_soft_pins(*key);
        true
    }

    /// Ends the soft pins whose time is over.
    pub(super) fn end_soft_pins(&mut self, now: Instant) {
        while let Some(key) = self.soft_pins.due(now) {
            self.soft_unpin(&key);
        }
    }

    /// A block was published that may lead up to soft-pinned ones.
    pub(super) fn count_in_soft_pins(&mut self, key: &Key, parent: Option<Key>, bytes: u64) {
        if self.soft_pins.counts(key) {
            self.soft_pins.hold(bytes);
            if let Some(parent) = parent {
                self.raise_soft_pins(parent);
            }
        }
    }

    /// A block was withdrawn, and a soft pin that named it goes with it.
    pub(super) fn discount_in_soft_pins(&mut self, key: &Key, parent: Option<Key>, bytes: u64) {
        if self.soft_pins.counts(key) {
            self.soft_pins.let_go(bytes);
            if let Some(parent) = parent {
                self.lower_soft_pins(parent);
            }
            if self.soft_pins.unname(key) {
                self.soft_pins.lower(key);
            }
        }
    }

    /// Bytes of the published blocks from `key` upwards that do not count yet.
    fn not_yet_soft_pinned(&self, key: Key) -> u64 {
        let (mut next, mut bytes) = (Some(key), 0u64);
        while let Some((_, block)) = next.filter(|key| !self.soft_pins.counts(key)).and_then(|key| self.published(&key))
        {
            bytes = bytes.saturating_add(block.extent.len);
            next = block.parent;
        }
        bytes
    }

    pub(super) fn raise_soft_pins(&mut self, key: Key) {
        let mut next = Some(key);
        while let Some(key) = next.take_if(|key| self.soft_pins.raise(*key)) {
            let Some((_, &Block { extent, parent, .. })) = self.published(&key) else { break };
            self.soft_pins.hold(extent.len);
            next = parent;
        }
    }

    fn lower_soft_pins(&mut self, key: Key) {
        let mut next = Some(key);
        while let Some(key) = next.take_if(|key| self.soft_pins.lower(key)) {
            let Some((_, &Block { extent, parent, .. })) = self.published(&key) else { break };
            self.soft_pins.let_go(extent.len);
            next = parent;
        }
    }

    fn published(&self, key: &Key) -> Option<(BlockId, &Block)> {
        let id = self.index.find(key)?;
        self.blocks.get(id).map(|block| (id, block))
    }
}
