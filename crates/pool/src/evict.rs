//! [`Evictor`]: which block goes next when room is needed.
//!
//! This module is the whole policy. The pool says when a block came, was used, became idle and went, and asks for
//! victims; which blocks may go at all ([`Block::is_idle`], no children) is not the policy's to decide. It goes by, one
//! after another:
//!
//! - whether it is soft-pinned: those go after all others;
//! - its [`Lane`]: who holds more than its quota goes first, as [`Namespaces`](crate::namespaces::Namespaces) says;
//! - whether it has just been used: what was within the last part of the pool's turnover goes after everything else,
//!   because those who will read it are on their way;
//! - its [`Rank`]: copies of others' blocks go first;
//! - how many hits it promises for the room it takes, by its [`Class`] and its [`Age`](class::Age) and what
//!   [`History`] has learned of these: see [`Order`];
//! - which of them was used longest ago.
//!
//! `docs/design/eviction.md` says how this was chosen, and what others were measured.
//!
//! Time is counted in ticks, one for each use of a block. Reading a block costs a mark; a victim, a look at a few ordered
//! sets.
//!
//! [`Block::is_idle`]: crate::block::Block::is_idle

mod class;
mod departed;
mod history;
mod lanes;
mod lines;
mod order;

use chariot_types::Key;
use serde::{Deserialize, Serialize};

use crate::blocks::Blocks;
use crate::lineage::Lineage;
use crate::{BlockId, Origin};
use class::Class;
use departed::Departed;
use history::History;
pub(crate) use lanes::Lane;
use lanes::{Lanes, Rank, Spot};
use lines::Line;
use order::Order;

/// What was used within this part of a turnover has just been used. A turnover is as many ticks as there are blocks.
const FRESH: u64 = 16;

/// Uses within this part of a turnover are one: a prompt that is put by one instance and read by another comes once.
const ECHO: u64 = 32;

/// What has grown old within this part of a turnover may be overlooked, so that not every victim takes a search of all.
const SEARCH: u64 = 64;

/// How many turnovers back the history reaches.
const HORIZON: u64 = 32;

/// The order is made anew after half a turnover, and not more often than after so many ticks; until then it is that of
/// last use.
const LEAST_TICKS: u64 = 1024;

/// What may be evicted, and what is known of how blocks are used.
#[derive(Debug)]
pub(crate) struct Evictor {
    clock: u64,
    /// Blocks that came and did not go.
    here: u64,
    lanes: Lanes,
    history: History,
    departed: Departed,
    order: Order,
    /// When the order is made anew.
    order_until: u64,
}

/// What the policy keeps in each block's record.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Standing {
    origin: Origin,
    lane: Lane,
    is_soft_pinned: bool,
    uses: u8,
    has_led: bool,
    last_use: u64,
    spot: Option<Spot>,
}

/// How a block was used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub(crate) struct Past {
    uses: u8,
    has_led: bool,
    last_use: u64,
}

impl Standing {
    pub(crate) fn of(origin: Origin, lane: Lane) -> Self {
        Self { origin, lane, ..Self::default() }
    }

    /// Of a block that had a past in another pool.
    pub(crate) fn with_past(origin: Origin, lane: Lane, past: Past) -> Self {
        let Past { uses, has_led, last_use } = past;
        Self { uses, has_led, last_use, ..Self::of(origin, lane) }
    }

    pub(crate) fn past(&self) -> Past {
        Past { uses: self.uses, has_led: self.has_led, last_use: self.last_use }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    fn rank(&self) -> Rank {
        match self.origin {
            _ if self.is_soft_pinned => Rank::SoftPinned,
            Origin::Copied => Rank::Copy,
            Origin::Computed => Rank::Normal,
        }
    }

    fn class(&self) -> Class {
        Class::of(self.uses, self.has_led)
    }

    /// Where it would stand now.
    fn place(&self) -> Spot {
        let line = Line { class: self.class(), last_use: self.last_use };
        Spot { lane: self.lane, rank: self.rank(), line }
    }
}

impl Default for Evictor {
    fn default() -> Self {
        Self {
            clock: 0,
            here: 0,
            lanes: Lanes::default(),
            history: History::default(),
            departed: Departed::default(),
            order: Order::default(),
            order_until: LEAST_TICKS,
        }
    }
}

impl Evictor {
    /// The time of the pasts of blocks.
    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// Goes on where another was at `clock`. What that had learned of classes and ages is learned anew.
    pub(crate) fn resume(&mut self, clock: u64) {
        self.clock = clock;
        self.order_until = clock.saturating_add(LEAST_TICKS);
    }

    /// A block was published that has a past; whether it can be one.
    pub(crate) fn came_back(&mut self, standing: &Standing) -> bool {
        self.here += 1;
        standing.last_use <= self.clock
    }

    /// The block was published.
    pub(crate) fn came(&mut self, key: &Key, standing: &mut Standing) {
        self.here += 1;
        if let Some((uses, last_use)) = self.departed.recall(key) {
            let turnovers = self.clock.saturating_sub(last_use) / (4 * self.here);
            standing.uses = uses.checked_shr(turnovers as u32).unwrap_or(0);
        }
        self.count_use(key, standing);
    }

    /// The block was written or read.
    pub(crate) fn used(&mut self, key: &Key, standing: &mut Standing) {
        if self.clock - standing.last_use >= self.here / ECHO {
            self.count_use(key, standing);
        } else {
            self.clock += 1;
            standing.last_use = self.clock;
            self.history.note_echo(key, self.clock);
        }
    }

    /// The block has a child.
    pub(crate) fn led(&mut self, key: &Key, standing: &mut Standing) {
        standing.has_led = true;
        self.history.note_class(key, standing.class());
    }

    /// A child of the block's went. Who used the child needed the block, though it may not have read it here.
    pub(crate) fn outlived(&mut self, standing: &mut Standing, child: &Standing) {
        standing.last_use = standing.last_use.max(child.last_use);
        standing.uses = standing.uses.max(child.uses);
    }

    /// The block became idle, or childless while idle.
    pub(crate) fn offer(&mut self, id: BlockId, standing: &mut Standing) {
        if standing.spot.is_none() {
            let spot = standing.place();
            standing.spot = Some(spot);
            self.lanes.add(id, spot, &self.order, self.clock);
        }
    }

    /// From now on the block goes after all that is not soft-pinned.
    pub(crate) fn soft_pin(&mut self, id: BlockId, standing: &mut Standing) {
        self.change(id, standing, |standing| standing.is_soft_pinned = true);
    }

    /// No longer.
    pub(crate) fn soft_unpin(&mut self, id: BlockId, standing: &mut Standing) {
        self.change(id, standing, |standing| standing.is_soft_pinned = false);
    }

    /// The block was withdrawn.
    pub(crate) fn forget(&mut self, id: BlockId, key: &Key, standing: &mut Standing) {
        self.here -= 1;
        self.departed.remember(key, standing.uses, standing.last_use);
        if let Some(spot) = standing.spot.take() {
            self.lanes.remove(id, spot);
        }
    }

    /// The idle, childless block that goes next, of the first of `lanes` that has one. It no longer stands in line.
    pub(crate) fn victim(&mut self, lanes: &[Lane], blocks: &mut Blocks, lineage: &Lineage) -> Option<BlockId> {
        if self.clock >= self.order_until {
            self.learn();
        }
        let fresh = self.here / FRESH;
        let passes = [(Rank::Copy, fresh), (Rank::Normal, fresh), (Rank::Copy, 0), (Rank::Normal, 0)];
        let in_lane = |lane: &Lane| passes.map(|(rank, youngest)| ((*lane, rank), youngest));
        let soft_pinned = lanes.iter().map(|lane| ((*lane, Rank::SoftPinned), 0));
        let mut all = lanes.iter().flat_map(in_lane).chain(soft_pinned);
        all.find_map(|(lines, youngest)| self.victim_of(lines, youngest, blocks, lineage))
    }

    fn victim_of(
        &mut self,
        (lane, rank): (Lane, Rank),
        youngest: u64,
        blocks: &mut Blocks,
        lineage: &Lineage,
    ) -> Option<BlockId> {
        loop {
            let lines = self.lanes.lines(lane, rank);
            let (id, line) = lines.take(&self.order, youngest, self.here / SEARCH, self.clock)?;
            let evictable = blocks.get(id).is_some_and(|block| block.is_idle() && !lineage.has_children(&block.key));
            let Some(standing) = blocks.standing_mut(id) else { continue };
            standing.spot = None;
            if !evictable {
                continue;
            }
            if line == standing.place().line {
                return Some(id);
            }
            self.offer(id, standing);
        }
    }

    /// Changes what makes a block stand in another lane or rank.
    fn change(&mut self, id: BlockId, standing: &mut Standing, change: impl FnOnce(&mut Standing)) {
        let spot = standing.spot.take();
        change(standing);
        if let Some(spot) = spot {
            self.lanes.remove(id, spot);
            self.offer(id, standing);
        }
    }

    fn count_use(&mut self, key: &Key, standing: &mut Standing) {
        self.clock += 1;
        standing.last_use = self.clock;
        standing.uses = standing.uses.saturating_add(1);
        self.history.note_use(key, standing.class(), self.clock);
    }

    fn learn(&mut self) {
        self.departed.fit(self.here as usize);
        self.order = Order::by(&self.history.look_back(self.clock, HORIZON * self.here));
        self.order_until = self.clock + (self.here / 2).max(LEAST_TICKS);
        self.lanes.search_anew();
    }
}
