//! [`SoftPins`]: which blocks are soft-pinned, with the chains that lead up to them.
//!
//! Only the block that a soft pin names has to stand in another line: its ancestors have a child, and are not evicted
//! for as long as it is there. They are counted all the same, because that is the room that a soft pin takes. A key
//! counts once for its own soft pin, and once for each published child that counts: counted by key, not by block, as
//! in [`Lineage`](crate::lineage::Lineage).

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use chariot_types::Key;
use foldhash::fast::RandomState;

use crate::Tally;

/// Which blocks are soft-pinned.
#[derive(Default, Debug)]
pub(crate) struct SoftPins {
    /// The named blocks, and until when.
    named: HashMap<Key, Option<Instant>, RandomState>,
    ends: BTreeSet<(Instant, Key)>,
    counts: HashMap<Key, u64, RandomState>,
    /// The published blocks that count.
    held: Tally,
}

impl SoftPins {
    pub(crate) fn held(&self) -> Tally {
        self.held
    }

    /// The named blocks, and until when.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Key, Option<Instant>)> {
        self.named.iter().map(|(key, until)| (*key, *until))
    }

    /// Whether `key` is named, or leads up to one that is.
    pub(crate) fn counts(&self, key: &Key) -> bool {
        self.counts.contains_key(key)
    }

    /// Names `key`, until then. Whether it was not named before.
    pub(crate) fn name(&mut self, key: Key, until: Option<Instant>) -> bool {
        let before = self.named.insert(key, until);
        if let Some(Some(until)) = before {
            self.ends.remove(&(until, key));
        }
        self.ends.extend(until.map(|until| (until, key)));
        before.is_none()
    }

    /// Names `key` no longer. Whether it was named.
    pub(crate) fn unname(&mut self, key: &Key) -> bool {
        let Some(until) = self.named.remove(key) else { return false };
        if let Some(until) = until {
            self.ends.remove(&(until, *key));
        }
        true
    }

    /// A key whose time is over at `now`; it is still named.
    pub(crate) fn due(&self, now: Instant) -> Option<Key> {
        self.ends.first().filter(|(until, _)| *until <= now).map(|(_, key)| *key)
    }

    /// Counts `key` once more. Whether it did not count before.
    pub(crate) fn raise(&mut self, key: Key) -> bool {
        let count = self.counts.entry(key).or_default();
        *count += 1;
        *count == 1
    }

    /// Counts `key` once less. Whether it does not count any more.
    pub(crate) fn lower(&mut self, key: &Key) -> bool {
        match self.counts.get_mut(key) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => self.counts.remove(key).is_some(),
        }
    }

    /// A published block counts from now on.
    pub(crate) fn hold(&mut self, bytes: u64) {
        self.held.blocks += 1;
        self.held.bytes += bytes;
    }

    /// It counts, or is published, no longer.
    pub(crate) fn let_go(&mut self, bytes: u64) {
        self.held.blocks -= 1;
        self.held.bytes -= bytes;
    }
}
