//! [`Lanes`]: the blocks that may be evicted, by what makes one go before another whatever else is known of them.

use super::lines::{Line, Lines};
use super::order::Order;
use crate::BlockId;

/// Blocks that compete for room among themselves before others come to be considered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Lane(u16);

impl Lane {
    /// Of all whose namespace has no quota.
    pub(crate) const COMMON: Self = Self(0);

    /// Of the `number`th namespace with a quota, from 1 on.
    pub(crate) fn own(number: usize) -> Self {
        Self(number as u16)
    }
}

/// How dear a block is; of one lane, the less dear go first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    Copy,
    Normal,
    SoftPinned,
}

impl Rank {
    const COUNT: usize = 3;
}

/// Where a block stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spot {
    pub(super) lane: Lane,
    pub(super) rank: Rank,
    pub(super) line: Line,
}

/// The blocks that may be evicted.
#[derive(Default, Debug)]
pub(super) struct Lanes {
    lanes: Vec<[Lines; Rank::COUNT]>,
}

impl Lanes {
    /// The blocks of one lane and rank.
    pub(super) fn lines(&mut self, lane: Lane, rank: Rank) -> &mut Lines {
        let lane = usize::from(lane.0);
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, Default::default);
        }
        &mut self.lanes[lane][rank as usize]
    }

    /// Adds a block at `now`.
    pub(super) fn add(&mut self, id: BlockId, spot: Spot, order: &Order, now: u64) {
        self.lines(spot.lane, spot.rank).add(id, spot.line, order, now);
    }

    pub(super) fn remove(&mut self, id: BlockId, spot: Spot) {
        self.lines(spot.lane, spot.rank).remove(id, spot.line);
    }

    /// There is another order.
    pub(super) fn search_anew(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Lines::search_anew);
    }
}
