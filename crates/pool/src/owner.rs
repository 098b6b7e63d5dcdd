//! [`Owner`]: what one connection of a client holds, and loses when it ends.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use crate::grants::Grants;
use crate::{BlockId, Misuse, SlotId, Terms};

/// What one connection of a client holds.
#[derive(Default, Debug)]
pub(crate) struct Owner {
    pub(crate) terms: Terms,
    pub(crate) grants: Grants,
    /// The blocks it is writing.
    pub(crate) slots: BTreeMap<SlotId, BlockId>,
    pins: HashMap<BlockId, u64, RandomState>,
}

impl Owner {
    pub(crate) fn pin(&mut self, block: BlockId) {
        *self.pins.entry(block).or_default() += 1;
    }

    pub(crate) fn unpin(&mut self, block: BlockId) -> Result<(), Misuse> {
        match self.pins.get_mut(&block) {
            None => return Err(Misuse::NotPinned { block }),
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                self.pins.remove(&block);
            }
        }
        Ok(())
    }

    /// Pins a block so many times more.
    pub(crate) fn pin_times(&mut self, block: BlockId, times: u64) {
        *self.pins.entry(block).or_default() += times;
    }

    /// Every block that it has pinned, and how often.
    pub(crate) fn pins(&self) -> impl Iterator<Item = (BlockId, u64)> {
        self.pins.iter().map(|(block, times)| (*block, *times))
    }

    /// Every block that it has pinned, and how often, in an order that does not change from run to run.
    pub(crate) fn take_pins(&mut self) -> Vec<(BlockId, u64)> {
        let mut pins: Vec<_> = self.pins.drain().collect();
        pins.sort_unstable();
        pins
    }
}
