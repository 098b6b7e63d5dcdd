//! [`Shown`]: what clients see of a pool by themselves, and what they read of it.
//!
//! An adapter: the pool says what it does in its own terms, whether anyone looks or not.

use std::collections::HashSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use chariot_index::{HeldBlocks, Index, Listing, MemoryError, ReadersTally};
use chariot_types::{Extent, Key};

use crate::block::Block;
use crate::{BlockId, OwnerId};

/// What clients see of a pool by themselves: everything published, or in a pool that is not shared nothing.
#[derive(Default, Debug)]
pub(crate) struct Shown {
    index: Option<Index>,
}

impl Shown {
    pub(crate) fn on(index: Index) -> Self {
        Self { index: Some(index) }
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.index.is_some()
    }

    /// The block was published.
    pub(crate) fn list(&mut self, id: BlockId, block: &Block) {
        if let Some(index) = &mut self.index {
            let listing = listing(index, id, block);
            index.list(id.place(), &listing);
        }
    }

    /// The block, if it is published, has grown, was sealed, or has another deadline.
    pub(crate) fn update(&mut self, id: BlockId, block: &Block) {
        if let Some(index) = self.index.as_mut().filter(|_| block.is_published()) {
            let listing = listing(index, id, block);
            index.update(id.place(), &listing);
        }
    }

    /// A block is about to grow at `offset`, of which its writer says nothing to readers.
    pub(crate) fn begin_unsaid(&self, offset: u64) {
        if let Some(index) = &self.index {
            index.begin_unsaid(offset);
        }
    }

    /// The block grew, and will never be whole.
    pub(crate) fn lose(&self, key: &Key, extent: Extent) {
        if let Some(index) = &self.index {
            index.lose(key, extent.offset);
        }
    }

    /// The block was withdrawn.
    pub(crate) fn delist(&mut self, id: BlockId) {
        if let Some(index) = &mut self.index {
            index.delist(id.place());
        }
    }

    /// What readers hold; of what was delisted before, all that they will ever hold.
    pub(crate) fn held(&self) -> Held {
        Held(self.index.as_ref().map_or_else(HashSet::default, |index| index.readers().held()))
    }

    /// The blocks that readers have used since the last call.
    pub(crate) fn take_uses(&mut self) -> Vec<BlockId> {
        let mut uses = Vec::new();
        if let Some(index) = &mut self.index {
            index.readers_mut().drain_uses(|block| uses.push(BlockId::from_u64(block)));
        }
        uses
    }

    /// Tells readers whether to say when they let go.
    pub(crate) fn want_room(&self, is_wanted: bool) {
        if let Some(index) = &self.index {
            index.want_room(is_wanted);
        }
    }

    pub(crate) fn leave_absence_open(&mut self) {
        if let Some(index) = &mut self.index {
            index.leave_absence_open();
        }
    }

    pub(crate) fn settle_absence(&mut self) {
        if let Some(index) = &mut self.index {
            index.settle_absence();
        }
    }

    /// Goes on with what a reader has pinned in another pool's index.
    pub(crate) fn take_over(&mut self, owner: OwnerId, pins: OwnedFd) -> Result<(), MemoryError> {
        self.index.as_mut().map_or(Ok(()), |index| index.readers_mut().take_over(owner.0, pins))
    }

    /// All readers, each with its pins.
    pub(crate) fn readers(&self) -> impl Iterator<Item = (OwnerId, BorrowedFd<'_>)> {
        let readers = self.index.iter().flat_map(|index| index.readers().files());
        readers.map(|(reader, pins)| (OwnerId(reader), pins))
    }

    pub(crate) fn admit(&mut self, owner: OwnerId) -> Option<Result<OwnedFd, MemoryError>> {
        self.index.as_mut().map(|index| index.readers_mut().enter(owner.0))
    }

    /// Forgets a reader and what it holds; whether there was one.
    pub(crate) fn forget(&mut self, owner: OwnerId) -> bool {
        self.index.as_mut().is_some_and(|index| index.readers_mut().leave(owner.0))
    }

    pub(crate) fn revoke_long_held(&mut self, now: Instant, patience: Duration) -> usize {
        self.index.as_mut().map_or(0, |index| index.readers_mut().revoke_long_held(now, patience))
    }

    pub(crate) fn forgive(&mut self) {
        if let Some(index) = &mut self.index {
            index.readers_mut().forgive();
        }
    }

    pub(crate) fn tally(&self) -> ReadersTally {
        self.index.as_ref().map_or_else(ReadersTally::default, |index| index.readers().tally())
    }
}

/// What readers held at one moment. Any number may be among it.
#[derive(Debug)]
pub(crate) struct Held(HeldBlocks);

impl Held {
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        !self.0.is_empty() && self.0.contains(&id.as_u64())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = BlockId> {
        self.0.iter().map(|block| BlockId::from_u64(*block))
    }
}

fn listing(index: &Index, id: BlockId, block: &Block) -> Listing {
    Listing {
        key: block.key,
        block: id.as_u64(),
        offset: block.extent.offset,
        len: block.len,
        readable: block.readable(),
        sealed: !block.is_growing(),
        deadline: index.deadline(block.expires_at),
    }
}
