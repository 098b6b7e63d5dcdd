//! [`Lines`]: the blocks that may be evicted, by class, each line in the order of last use.
//!
//! The lines are lazy: a use only marks the block, and a block that is pinned, or gets children, stays where it stands.
//! All that is found out when it is taken. No block stands later than its last use.

use std::collections::BTreeSet;

use super::class::{Age, Class};
use super::order::{Order, Place};
use crate::BlockId;

/// The blocks of one lane and rank that may be evicted.
#[derive(Default, Debug)]
pub(super) struct Lines {
    lines: [BTreeSet<(u64, BlockId)>; Class::COUNT],
    search: Search,
}

/// Which line a block stands in, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) class: Class,
    /// Its last use, when it came to stand there.
    pub(super) last_use: u64,
}

/// How far the search has come: places before this one were seen to be empty. Blocks grow older and come to stand
/// there without a word, so that holds only for a while.
#[derive(Default, Debug)]
struct Search {
    from: usize,
    until: u64,
}

impl Lines {
    /// Adds a block at `now`.
    pub(super) fn add(&mut self, id: BlockId, at: Line, order: &Order, now: u64) {
        self.lines[at.class.index()].insert((at.last_use, id));
        let position = order.position(Place { class: at.class, age: Age::of(now - at.last_use) });
        self.search.from = self.search.from.min(position);
    }

    pub(super) fn remove(&mut self, id: BlockId, at: Line) {
        self.lines[at.class.index()].remove(&(at.last_use, id));
    }

    /// There is another order.
    pub(super) fn search_anew(&mut self) {
        self.search = Search::default();
    }

    /// Takes the block that goes first of those that were not used for `youngest` ticks. What has come to stand further in
    /// front within the last `patience` ticks may be missed.
    pub(super) fn take(&mut self, order: &Order, youngest: u64, patience: u64, now: u64) -> Option<(BlockId, Line)> {
        let mut oldest = self.lines.iter().filter_map(BTreeSet::first);
        oldest.find(|(last_use, _)| now - last_use >= youngest)?;
        if now >= self.search.until {
            self.search = Search { from: 0, until: now + patience };
        }
        let found = self.find(order, self.search.from, youngest, now);
        let (position, at, id) = found.or_else(|| self.find(order, 0, youngest, now))?;
        self.search.from = position;
        self.remove(id, at);
        Some((id, at))
    }

    fn find(&self, order: &Order, from: usize, youngest: u64, now: u64) -> Option<(usize, Line, BlockId)> {
        order.places().iter().enumerate().skip(from).find_map(|(position, place)| {
            let Place { class, age } = *place;
            let line = &self.lines[class.index()];
            let is_old = |last_use: u64| now - last_use >= age.least().max(youngest);
            // Most places are empty, and most of these because all blocks are younger.
            line.first().filter(|(last_use, _)| is_old(*last_use))?;
            let from = now.saturating_sub(age.most());
            let (last_use, id) = *line.range((from, BlockId::LEAST)..).next()?;
            is_old(last_use).then_some((position, Line { class, last_use }, id))
        })
    }
}
