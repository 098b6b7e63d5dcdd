//! [`Naive`]: what a pool must do, written as plainly as can be: lists that are searched, and an arena whose bytes
//! are really written.

use std::collections::BTreeMap;

use chariot_pool::{BlockId, Origin, OwnerId, PoolStats, SlotId, Tally};
use chariot_types::{Extent, Key};

use crate::turns::Namespace;

/// Seconds since the start of the test.
pub(crate) type Time = u64;

/// The number of a block, in the order of their making.
pub(crate) type Serial = u64;

#[derive(Default)]
pub(crate) struct Naive {
    pub(crate) capacity: u64,
    /// The arena.
    pub(crate) bytes: Vec<u8>,
    pub(crate) owners: BTreeMap<OwnerId, Holding>,
    /// Those that still have room.
    pub(crate) blocks: BTreeMap<Serial, Block>,
    /// The keys that are soft-pinned, and until when.
    pub(crate) soft_pins: BTreeMap<Key, Option<Time>>,
    /// What the pool should have told by now, and has not been asked for.
    pub(crate) told: Vec<(Told, Serial, Key)>,
    next: Serial,
}

#[derive(Default)]
pub(crate) struct Holding {
    pub(crate) regions: Vec<Extent>,
    pub(crate) slots: BTreeMap<SlotId, Serial>,
    pub(crate) pins: Vec<(Serial, BlockId)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) key: Key,
    pub(crate) parent: Option<Key>,
    pub(crate) extent: Extent,
    pub(crate) len: u64,
    pub(crate) bytes: Bytes,
    pub(crate) named: Named,
    pub(crate) pins: u64,
    pub(crate) time_to_live: Option<Time>,
    pub(crate) expires_at: Option<Time>,
    pub(crate) origin: Origin,
    pub(crate) namespace: Namespace,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bytes {
    Growing { readable: u64 },
    Sealed,
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Named {
    NotYet,
    Yes,
    NoMore,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Readable,
    Sealed,
    Lost,
}

impl Block {
    pub(crate) fn readable(&self) -> u64 {
        match self.bytes {
            Bytes::Growing { readable } => readable,
            Bytes::Sealed => self.len,
            Bytes::Lost => 0,
        }
    }

    pub(crate) fn is_growing(&self) -> bool {
        matches!(self.bytes, Bytes::Growing { .. })
    }

    fn is_found(&self, key: &Key, now: Time) -> bool {
        self.named == Named::Yes && self.key == *key && self.expires_at.is_none_or(|at| at > now)
    }

    fn is_needed(&self) -> bool {
        self.named == Named::Yes || self.pins > 0 || self.is_growing()
    }
}

/// The byte at `at` of the block called `serial`: no two blocks look alike for long.
fn pattern(serial: Serial, at: u64) -> u8 {
    (serial.wrapping_mul(37) ^ at.wrapping_mul(11) ^ (at >> 8)) as u8
}

impl Naive {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, bytes: vec![0; capacity as usize], ..Self::default() }
    }

    pub(crate) fn holding(&mut self, owner: OwnerId) -> &mut Holding {
        self.owners.entry(owner).or_default()
    }

    // What clients do with the arena.

    /// Fills a region with garbage, as its owner may.
    pub(crate) fn scribble(&mut self, region: Extent) {
        self.bytes[region.offset as usize..][..region.len as usize].fill(0xee);
    }

    pub(crate) fn write(&mut self, serial: Serial, up_to: u64) {
        let Extent { offset, .. } = self.blocks[&serial].extent;
        for at in 0..up_to {
            self.bytes[(offset + at) as usize] = pattern(serial, at);
        }
    }

    /// Whether every byte that someone may read is what its writer wrote.
    pub(crate) fn assert_bytes(&self) {
        for (&serial, block) in &self.blocks {
            let bytes = &self.bytes[block.extent.offset as usize..][..block.readable() as usize];
            assert!(
                bytes.iter().zip(0..).all(|(&byte, at)| byte == pattern(serial, at)),
                "bytes of block {serial} were overwritten: {block:?}"
            );
        }
    }

    // Room.

    /// Everything that has an owner, in order.
    pub(crate) fn held(&self) -> Vec<Extent> {
        let regions = self.owners.values().flat_map(|holding| holding.regions.iter().copied());
        let mut held: Vec<Extent> = regions.chain(self.blocks.values().map(|block| block.extent)).collect();
        held.sort_unstable();
        held
    }

    /// Whether a free run has room for `min` bytes.
    pub(crate) fn fits(&self, min: u64) -> bool {
        let align = if min >= Extent::PAGE { Extent::PAGE } else { 1 };
        let mut start = 0;
        let end = Extent { offset: self.capacity, len: 0 };
        self.held().into_iter().chain([end]).any(|next| {
            let fits = u64::next_multiple_of(start, align) + min <= next.offset;
            start = next.offset + next.len;
            fits
        })
    }

    /// Takes the room of a new block out of the region it lies in.
    pub(crate) fn cut(&mut self, owner: OwnerId, extent: Extent) {
        let regions = &mut self.holding(owner).regions;
        let at = regions.iter().position(|region| region.contains(extent)).expect("clients cut what they were granted");
        let region = regions.swap_remove(at);
        let after = extent.offset + extent.len;
        let pieces = [
            Extent { offset: region.offset, len: extent.offset - region.offset },
            Extent { offset: after, len: region.offset + region.len - after },
        ];
        regions.extend(pieces.into_iter().filter(|piece| piece.len > 0));
    }

    // Blocks.

    pub(crate) fn found(&self, key: &Key, now: Time) -> Option<Serial> {
        self.blocks.iter().find(|(_, block)| block.is_found(key, now)).map(|(&serial, _)| serial)
    }

    pub(crate) fn add(&mut self, block: Block) -> Serial {
        self.next += 1;
        self.blocks.insert(self.next, block);
        self.next
    }

    pub(crate) fn block(&mut self, serial: Serial) -> &mut Block {
        self.blocks.get_mut(&serial).expect("the test asks for live blocks")
    }

    pub(crate) fn tell(&mut self, told: Told, serial: Serial) {
        self.told.push((told, serial, self.blocks[&serial].key));
    }

    pub(crate) fn publish(&mut self, serial: Serial, told: Told) {
        // One whose time is over may be in the way: nobody finds it.
        let key = self.blocks[&serial].key;
        let before = self.named(&key);
        self.block(serial).named = Named::Yes;
        before.into_iter().for_each(|before| self.withdraw(before));
        self.tell(told, serial);
    }

    pub(crate) fn withdraw(&mut self, serial: Serial) {
        let key = self.block(serial).key;
        self.block(serial).named = Named::NoMore;
        self.soft_pins.remove(&key);
        self.forget_unneeded();
    }

    /// A sealed block wants its key: whether it gets it. If not, the one that has it counts as used and lives on.
    pub(crate) fn claim(&mut self, key: &Key, until: Option<Time>, now: Time) -> bool {
        let Some(present) = self.found(key, now).filter(|serial| !self.blocks[serial].is_growing()) else {
            return true;
        };
        let block = self.block(present);
        block.expires_at = block.expires_at.zip(until).map(|(at, until)| at.max(until));
        false
    }

    pub(crate) fn seal(&mut self, serial: Serial, now: Time) {
        let block = self.block(serial);
        block.bytes = Bytes::Sealed;
        let (key, named, until) = (block.key, block.named, block.time_to_live.map(|time| now + time));
        match named {
            Named::Yes => {
                self.block(serial).expires_at = until;
                self.tell(Told::Sealed, serial);
            }
            Named::NotYet => {
                if self.claim(&key, until, now) {
                    self.block(serial).expires_at = until;
                    self.publish(serial, Told::Sealed);
                }
            }
            Named::NoMore => self.tell(Told::Sealed, serial),
        }
        self.forget_unneeded();
    }

    pub(crate) fn lose(&mut self, serial: Serial) {
        self.tell(Told::Lost, serial);
        self.block(serial).bytes = Bytes::Lost;
        match self.blocks[&serial].named {
            Named::Yes => self.withdraw(serial),
            Named::NotYet | Named::NoMore => self.block(serial).named = Named::NoMore,
        }
        self.forget_unneeded();
    }

    pub(crate) fn expire(&mut self, now: Time) -> usize {
        let over: Vec<Serial> = self
            .blocks
            .iter()
            .filter(|(_, block)| block.named == Named::Yes && block.expires_at.is_some_and(|at| at <= now))
            .map(|(&serial, _)| serial)
            .collect();
        over.iter().for_each(|&serial| self.withdraw(serial));
        self.soft_pins.retain(|_, until| until.is_none_or(|until| until > now));
        over.len()
    }

    pub(crate) fn drop_owner(&mut self, owner: OwnerId) {
        let Some(holding) = self.owners.remove(&owner) else { return };
        for serial in holding.slots.into_values() {
            self.lose(serial);
        }
        for (serial, _) in holding.pins {
            self.block(serial).pins -= 1;
        }
        self.forget_unneeded();
    }

    /// The block that has the name `key`, whether its time is over or not.
    pub(crate) fn named(&self, key: &Key) -> Option<Serial> {
        let named = |block: &Block| block.named == Named::Yes && block.key == *key;
        self.blocks.iter().find(|(_, block)| named(block)).map(|(&serial, _)| serial)
    }

    /// Whether a block is sealed, found, and not pinned.
    pub(crate) fn is_idle(&self, serial: Serial) -> bool {
        let block = &self.blocks[&serial];
        block.named == Named::Yes && block.bytes == Bytes::Sealed && block.pins == 0
    }

    /// The blocks that may be evicted: idle, and no child's parent.
    pub(crate) fn evictable(&self) -> impl Iterator<Item = Serial> {
        let has_child =
            |key: Key| self.blocks.values().any(|child| child.named == Named::Yes && child.parent == Some(key));
        self.blocks.keys().copied().filter(move |serial| self.is_idle(*serial) && !has_child(self.blocks[serial].key))
    }

    pub(crate) fn idle_bytes(&self) -> u64 {
        let idle = self.blocks.iter().filter(|(serial, _)| self.is_idle(**serial));
        idle.map(|(_, block)| block.extent.len).sum()
    }

    pub(crate) fn forget_unneeded(&mut self) {
        self.blocks.retain(|_, block| block.is_needed());
    }

    /// The state part of the statistics; the counters are left at zero.
    pub(crate) fn stats(&self) -> PoolStats {
        let mut stats = PoolStats { capacity: self.capacity, ..PoolStats::default() };
        let count = |tally: &mut Tally, block: &Block| {
            tally.blocks += 1;
            tally.bytes += block.extent.len;
        };
        for block in self.blocks.values() {
            match (block.named, block.is_growing()) {
                (Named::Yes, true) => count(&mut stats.growing, block),
                (Named::Yes, false) => count(&mut stats.sealed, block),
                _ => count(&mut stats.detached, block),
            }
            if block.pins > 0 {
                count(&mut stats.pinned, block);
            }
        }
        stats.granted = self.owners.values().flat_map(|holding| &holding.regions).map(|region| region.len).sum();
        stats.free = self.capacity - self.held().iter().map(|extent| extent.len).sum::<u64>();
        stats
    }
}
