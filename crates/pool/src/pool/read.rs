//! Finding blocks, and pinning them.

use std::time::Instant;

use chariot_types::Key;

use crate::block::{Block, State};
use crate::{BlockId, Description, Lookup, Misuse, OwnerId, PinWhat, Pinned, Pool, Prefix, Progress};

impl Pool {
    /// What is there under `key`. Neither counts as a use nor as a hit.
    pub fn lookup(&self, key: &Key, now: Instant) -> Lookup {
        match self.find(key, now) {
            None => Lookup::Miss,
            Some((_, block)) if block.is_growing() => Lookup::Growing { readable: block.readable(), len: block.len },
            Some((_, block)) => Lookup::Sealed { len: block.len },
        }
    }

    /// How many leading `keys` are there. Neither counts as a use nor as a hit.
    pub fn longest_prefix(&self, keys: &[Key], now: Instant) -> Prefix {
        let mut prefix = Prefix::default();
        for key in keys {
            let Some((_, block)) = self.find(key, now) else { break };
            if !block.is_growing() && prefix.sealed == prefix.present {
                prefix.sealed += 1;
            }
            prefix.present += 1;
        }
        prefix
    }

    /// Pins what is there under `key`, if it is what the reader can use: its bytes stay where they are, whatever
    /// becomes of its name, until as many unpins as pins, or until the owner is dropped. Counts as a use.
    pub fn pin(&mut self, owner: OwnerId, key: &Key, what: PinWhat, now: Instant) -> Option<Pinned> {
        let usable = |block: &Block| what == PinWhat::Readable || !block.is_growing();
        let Some(id) = self.find(key, now).filter(|(_, block)| usable(block)).map(|(id, _)| id) else {
            self.counts.misses += 1;
            return None;
        };
        self.counts.hits += 1;
        self.owners.entry(owner).or_default().pin(id);
        self.blocks.change(id, |block| {
            block.pins += 1;
            self.counts.hit_bytes += block.len;
            self.evictor.used(key, &mut block.standing);
            Pinned {
                block: id,
                extent: block.extent,
                len: block.len,
                readable: block.readable(),
                sealed: !block.is_growing(),
            }
        })
    }

    /// Ends one pin of the owner's.
    pub fn unpin(&mut self, owner: OwnerId, block: BlockId) -> Result<(), Misuse> {
        self.owners.get_mut(&owner).ok_or(Misuse::NotPinned { block })?.unpin(block)?;
        self.blocks.change(block, |block| block.pins -= 1);
        self.settle(block);
        Ok(())
    }

    /// How far a block is; for as long as someone has it pinned there is an answer.
    pub fn progress(&self, block: BlockId) -> Option<Progress> {
        self.blocks.get(block).map(Block::progress)
    }

    /// What a block is to whoever gets a copy of it.
    pub fn describe(&self, block: BlockId, now: Instant) -> Option<Description> {
        let block = self.blocks.get(block)?;
        let left = block.expires_at.map(|at| at.saturating_duration_since(now));
        let time_to_live = match block.state {
            State::Growing { time_to_live, .. } => time_to_live,
            State::Sealed | State::Lost => left,
        };
        let Block { key, parent, len, namespace, .. } = *block;
        Some(Description { key, parent, len, time_to_live, namespace })
    }

    /// The keys that blocks can be found under, in steps: what is in the `places` first places from `from` on, and where to go on.
    /// Between two steps blocks may come and go; that [is told](Pool::tell_of_names).
    pub fn names(&self, from: usize, places: usize) -> (Vec<Key>, Option<usize>) {
        let (blocks, next) = self.blocks.in_places(from, places);
        (blocks.filter(|block| block.is_published()).map(|block| block.key).collect(), next)
    }

    /// The published block under `key`, unless its time is over.
    fn find(&self, key: &Key, now: Instant) -> Option<(BlockId, &Block)> {
        let id = self.index.find(key)?;
        self.blocks.get(id).filter(|block| !block.has_expired(now)).map(|block| (id, block))
    }
}
