//! [`Turn`]: who goes before whom when room is needed, as far as that is promised; and who asks for it.

use std::collections::BTreeSet;
use std::time::Duration;

use chariot_pool::{NamespaceStats, Origin, OwnerId, SoftPinOutcome, Tally, Whose};
use chariot_types::{Key, NamespaceName};

use crate::Run;
use crate::naive::{Block, Naive, Named, Serial, Time};
use crate::step::Parents;

/// One of the model's namespaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Namespace {
    Default,
    Guarded,
    Small,
}

/// Less goes first.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub(crate) struct Turn {
    is_soft_pinned: bool,
    namespace: NamespacesTurn,
    is_original: bool,
}

#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
enum NamespacesTurn {
    Over { left: f64 },
    WithoutQuota,
    Within { left: f64 },
}

impl Namespace {
    pub(crate) const ALL: [Self; 3] = [Self::Default, Self::Guarded, Self::Small];

    pub(crate) fn name(self) -> NamespaceName {
        match self {
            Self::Default => NamespaceName::default(),
            Self::Guarded => "guarded".parse().unwrap(),
            Self::Small => "small".parse().unwrap(),
        }
    }

    /// Bytes that it may hold in a pool of `capacity`.
    pub(crate) fn quota(self, capacity: u64) -> Option<u64> {
        match self {
            Self::Default => None,
            Self::Guarded => Some(capacity / 2),
            Self::Small => Some(capacity / 8),
        }
    }
}

impl Naive {
    /// The blocks of a namespace that can be found.
    pub(crate) fn held_by(&self, namespace: Namespace) -> Tally {
        self.tally(|block| block.namespace == namespace)
    }

    /// The blocks that are named by soft pins, and those that lead up to them.
    pub(crate) fn soft_pinned(&self) -> BTreeSet<Serial> {
        let mut soft_pinned = BTreeSet::new();
        for key in self.soft_pins.keys() {
            let mut next = self.named(key);
            while let Some(serial) = next.filter(|serial| soft_pinned.insert(*serial)) {
                next = self.blocks[&serial].parent.and_then(|parent| self.named(&parent));
            }
        }
        soft_pinned
    }

    fn turn(&self, serial: Serial) -> Turn {
        let block = &self.blocks[&serial];
        let held = self.held_by(block.namespace).bytes as f64;
        let namespace = match block.namespace.quota(self.capacity).map(|quota| quota as f64) {
            None => NamespacesTurn::WithoutQuota,
            Some(quota) if held > quota => NamespacesTurn::Over { left: -held / quota },
            Some(quota) => NamespacesTurn::Within { left: -held / quota },
        };
        let is_soft_pinned = self.soft_pins.contains_key(&block.key);
        Turn { is_soft_pinned, namespace, is_original: !is_soft_pinned && block.origin == Origin::Computed }
    }

    /// Whether a block that is evicted next is one that may go, and none had to go before it.
    pub(crate) fn assert_turn(&self, victim: Serial) {
        assert!(self.evictable().any(|serial| serial == victim), "children go before their parents");
        let turn = self.turn(victim);
        for other in self.evictable() {
            assert!(turn <= self.turn(other), "{turn:?} is not before {:?}", self.turn(other));
        }
    }

    fn tally(&self, counts: impl Fn(&Block) -> bool) -> Tally {
        let mut tally = Tally::default();
        for block in self.blocks.values().filter(|block| block.named == Named::Yes && counts(block)) {
            tally.blocks += 1;
            tally.bytes += block.extent.len;
        }
        tally
    }

    fn bytes_of(&self, serials: &BTreeSet<Serial>) -> u64 {
        serials.iter().map(|serial| self.blocks[serial].extent.len).sum()
    }
}

impl Run {
    pub(crate) fn soft_pin(&mut self, key: Key, seconds: Option<Time>) {
        let outcome = self.pool.soft_pin(key, seconds.map(Duration::from_secs), self.instant());
        self.naive.expire(self.now);
        if self.naive.named(&key).is_none() {
            assert_eq!(outcome, SoftPinOutcome::Absent);
            return;
        }
        // A pool takes a block whose parent would close a circle for one without.
        if self.parents == Parents::Hostile {
            if outcome == SoftPinOutcome::Pinned {
                self.naive.soft_pins.insert(key, seconds.map(|seconds| self.now + seconds));
            }
            return;
        }
        let held = self.naive.bytes_of(&self.naive.soft_pinned());
        let before = self.naive.soft_pins.insert(key, seconds.map(|seconds| self.now + seconds));
        let more = self.naive.bytes_of(&self.naive.soft_pinned()) - held;
        let share = self.naive.capacity / 4;
        if more > 0 && held + more > share {
            assert_eq!(outcome, SoftPinOutcome::NoShare { share, held, more });
            assert_eq!(before, None);
            self.naive.soft_pins.remove(&key);
        } else {
            assert_eq!(outcome, SoftPinOutcome::Pinned);
        }
    }

    pub(crate) fn soft_unpin(&mut self, key: Key) {
        assert_eq!(self.pool.soft_unpin(&key), self.naive.soft_pins.remove(&key).is_some());
    }

    pub(crate) fn evict_until_free(&mut self, free: u64, most: u64) {
        let before = self.pool.stats();
        let evicted = self.pool.evict_until_free(free, most, self.instant());
        let after = self.pool.stats();
        assert_eq!(after.evictions - before.evictions, evicted);
        assert_eq!(after.expired - before.expired, self.naive.expire(self.now) as u64);
        self.evict(evicted as usize, |naive| naive.stats().free < free);
        let is_enough = evicted == most || self.naive.stats().free >= free;
        assert!(is_enough || self.parents == Parents::Hostile || self.naive.evictable().next().is_none());
    }

    pub(crate) fn evict_to(&mut self, owner: OwnerId, bytes: u64, most: usize) {
        let before = self.pool.stats();
        let leaving = self.pool.evict_to(owner, bytes, most, self.instant());
        let after = self.pool.stats();
        assert_eq!(after.evictions - before.evictions, leaving.len() as u64);
        assert_eq!(after.expired - before.expired, self.naive.expire(self.now) as u64);
        let (serials, mut taken) = (self.evicted(leaving.len()), 0);
        for (leaving, serial) in leaving.iter().zip(serials) {
            assert!(self.naive.is_idle(serial) && taken < bytes);
            if self.parents == Parents::Honest {
                self.naive.assert_turn(serial);
            }
            assert_eq!(self.ids.get(&serial), Some(&leaving.id));
            let block = self.naive.block(serial);
            assert_eq!((leaving.extent, leaving.origin), (block.extent, block.origin));
            assert_eq!((leaving.block.key, leaving.block.len), (block.key, block.len));
            block.pins += 1;
            taken += leaving.extent.len;
            self.naive.holding(owner).pins.push((serial, leaving.id));
            self.naive.withdraw(serial);
        }
        let is_enough = taken >= bytes || leaving.len() == most;
        assert!(is_enough || self.parents == Parents::Hostile || self.naive.evictable().next().is_none());
    }

    pub(crate) fn evict_all(&mut self, namespace: Option<Namespace>) {
        let whose = match namespace {
            None => Whose::Everybody,
            Some(namespace) => Whose::Namespace(self.pool.namespace(&namespace.name())),
        };
        let is_whose = |block: &Block| namespace.is_none_or(|namespace| namespace == block.namespace);
        let mut from = Some(0);
        while let Some(place) = from {
            let before = self.pool.stats().evictions;
            let (evicted, next) = self.pool.evict_all(whose, place, 3);
            assert_eq!(self.pool.stats().evictions - before, evicted);
            for victim in self.evicted(evicted as usize) {
                assert!(self.naive.is_idle(victim) && is_whose(&self.naive.blocks[&victim]));
                if self.parents == Parents::Honest {
                    assert!(self.naive.evictable().any(|serial| serial == victim), "children go before their parents");
                }
                self.naive.withdraw(victim);
            }
            from = next;
        }
        let is_left = |serial: &Serial| is_whose(&self.naive.blocks[serial]);
        assert!(self.parents == Parents::Hostile || !self.naive.evictable().any(|serial| is_left(&serial)));
    }

    /// What namespaces hold, and what is soft-pinned.
    pub(crate) fn compare_shares(&self) {
        let stats = self.pool.namespaces();
        for namespace in Namespace::ALL {
            let (name, held, quota) =
                (namespace.name(), self.naive.held_by(namespace), namespace.quota(self.naive.capacity));
            let expected = NamespaceStats { name, held, quota };
            let found = stats.iter().find(|stats| stats.name == expected.name);
            assert!(
                found == Some(&expected) || found.is_none() && expected.held.blocks == 0,
                "{found:?} is not {expected:?}"
            );
        }
        if self.parents == Parents::Honest {
            let soft_pinned = self.naive.soft_pinned();
            let expected = Tally { blocks: soft_pinned.len() as u64, bytes: self.naive.bytes_of(&soft_pinned) };
            assert_eq!(self.pool.stats().soft_pinned, expected);
        }
    }
}
