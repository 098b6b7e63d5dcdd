//! [`Job`]: one load, and what is known of its blocks so far.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chariot_device::LayoutError;
use chariot_types::Key;
use parking_lot::Mutex;

use super::LoadReport;
use crate::connector::pages::Pages;

/// A block and the pages it belongs in.
pub(super) struct WantedBlock {
    pub(super) group: usize,
    pub(super) block: usize,
    pub(super) key: Key,
}

/// The worker is asked for about as many bytes at once. It has a second to bring what is on its disk or at other
/// workers, so this is also what must come in a second, at the least.
const STEP_BYTES: usize = 64 << 20;

pub(super) struct Job {
    name: String,
    pub(super) pages: Arc<Pages>,
    /// Of each group in the order of the sequence.
    pub(super) blocks: Vec<WantedBlock>,
    began: Instant,
    pub(super) deadline: Instant,
    /// Locked when pieces are found, taken up and ended.
    parts: Mutex<Parts>,
    /// Locked when something fails and for the report.
    failures: Mutex<Failures>,
}

/// What has not ended.
struct Parts {
    /// How many: pieces, and the search for blocks.
    left: usize,
    /// Pieces that no thread has taken up.
    fresh: usize,
    search: Search,
}

/// How the search for blocks goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// It does, or is over.
    Now,
    /// From this block on, when no more than so many pieces are fresh.
    WhenFewAreFresh(usize, usize),
    /// From this block on, when all pieces have ended: their pins may be what left no room for it.
    WhenAllEnded(usize),
}

/// What follows from the end of a part.
pub(super) enum Then {
    /// Others go on.
    Wait,
    /// The search goes on, from this block on.
    Search(usize),
    /// The load has ended.
    Report,
}

#[derive(Default)]
struct Failures {
    /// By group, the first of `blocks` that failed.
    first: HashMap<usize, usize>,
    error: Option<String>,
}

impl Job {
    /// A load of `blocks`; refused when one is not among the pages.
    pub(super) fn new(
        name: String,
        pages: Arc<Pages>,
        blocks: Vec<WantedBlock>,
        deadline: Instant,
    ) -> Result<Self, LayoutError> {
        for block in &blocks {
            pages.cache.group(block.group)?.check_block(block.block)?;
        }
        let parts = Mutex::new(Parts { left: 1, fresh: 0, search: Search::Now });
        Ok(Self { name, pages, blocks, began: Instant::now(), deadline, parts, failures: Mutex::default() })
    }

    /// Where what is asked for at once ends, when it starts with the block `from`.
    pub(super) fn step_from(&self, from: usize) -> usize {
        let mut left = STEP_BYTES;
        let fits = |block: &&WantedBlock| {
            let is_first = left == STEP_BYTES;
            let rest = left.checked_sub(self.bytes_of(block));
            left = rest.unwrap_or(0);
            is_first || rest.is_some()
        };
        from + self.blocks[from..].iter().take_while(fits).count()
    }

    /// Whether there is nothing but the search.
    pub(super) fn has_no_pieces(&self) -> bool {
        self.parts.lock().left == 1
    }

    /// Counts pieces that are about to be copied, and says how the search goes on. `false`: it can go on now.
    pub(super) fn begin(&self, pieces: usize, search: Search) -> bool {
        let mut parts = self.parts.lock();
        parts.left += pieces;
        parts.fresh += pieces;
        let waits = match search {
            Search::Now => true,
            Search::WhenFewAreFresh(_, few) => parts.fresh > few,
            Search::WhenAllEnded(_) => parts.left > 1,
        };
        parts.search = if waits { search } else { Search::Now };
        waits
    }

    /// A thread takes up a piece for the first time; from where on blocks are to be looked for now, if they are.
    pub(super) fn taken_up(&self) -> Option<usize> {
        let mut parts = self.parts.lock();
        parts.fresh -= 1;
        match parts.search {
            Search::WhenFewAreFresh(from, few) if parts.fresh <= few => {
                parts.search = Search::Now;
                Some(from)
            }
            _ => None,
        }
    }

    /// A part has ended.
    pub(super) fn end_part(&self) -> Then {
        let mut parts = self.parts.lock();
        parts.left -= 1;
        match (parts.left, parts.search) {
            (0, _) => Then::Report,
            (1, Search::WhenAllEnded(from)) => {
                parts.search = Search::Now;
                Then::Search(from)
            }
            _ => Then::Wait,
        }
    }

    fn bytes_of(&self, block: &WantedBlock) -> usize {
        self.pages.cache.group(block.group).map_or(0, |group| group.block_bytes())
    }

    /// The block `index` could not be loaded. What follows it in its group is of no use either.
    pub(super) fn fail(&self, index: usize, error: &str) {
        let mut failures = self.failures.lock();
        let first = failures.first.entry(self.blocks[index].group).or_insert(index);
        *first = index.min(*first);
        failures.error.get_or_insert_with(|| error.to_owned());
    }

    /// Whether the block `index`, or one before it in its group, could not be loaded.
    pub(super) fn has_failed(&self, index: usize) -> bool {
        self.failures.lock().first.get(&self.blocks[index].group).is_some_and(|first| *first <= index)
    }

    /// Whether none of the blocks from `index` on can be loaded.
    pub(super) fn has_failed_from(&self, index: usize) -> bool {
        (index..self.blocks.len()).all(|index| self.has_failed(index))
    }

    /// No block from `index` on could be loaded.
    pub(super) fn fail_from(&self, index: usize, error: &str) {
        for index in index..self.blocks.len() {
            self.fail(index, error);
        }
    }

    pub(super) fn report(&self) -> LoadReport {
        let failures = self.failures.lock();
        let has_failed =
            |index: usize, block: &WantedBlock| failures.first.get(&block.group).is_some_and(|first| index >= *first);
        let (failed, loaded): (Vec<_>, Vec<_>) =
            self.blocks.iter().enumerate().partition(|(index, block)| has_failed(*index, block));
        LoadReport {
            name: self.name.clone(),
            failed: failed.iter().map(|(_, block)| (block.group, block.block)).collect(),
            loaded: loaded.len(),
            bytes: loaded.iter().map(|(_, block)| self.bytes_of(block)).sum(),
            seconds: self.began.elapsed().as_secs_f64(),
            error: failures.error.clone(),
        }
    }
}
