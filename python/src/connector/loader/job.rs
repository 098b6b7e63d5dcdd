//! [`Job`]: one load, and what is known of its blocks so far.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

pub(super) struct Job {
    name: String,
    pub(super) pages: Arc<Pages>,
    /// Of each group in the order of the sequence.
    pub(super) blocks: Vec<WantedBlock>,
    began: Instant,
    pub(super) deadline: Instant,
    /// Pieces that have not ended.
    pieces: AtomicUsize,
    /// Locked when something fails and for the report.
    failures: Mutex<Failures>,
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
        let (pieces, failures) = (AtomicUsize::new(0), Mutex::default());
        Ok(Self { name, pages, blocks, began: Instant::now(), deadline, pieces, failures })
    }

    /// Says into how many pieces the job was cut, before any of them is copied.
    pub(super) fn cut_into(&self, pieces: usize) {
        self.pieces.store(pieces, Ordering::Relaxed);
    }

    /// Counts a piece as ended; whether it was the last.
    pub(super) fn piece_ended(&self) -> bool {
        self.pieces.fetch_sub(1, Ordering::AcqRel) == 1
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

    pub(super) fn fail_all(&self, error: String) {
        let mut failures = self.failures.lock();
        for (index, block) in self.blocks.iter().enumerate().rev() {
            failures.first.insert(block.group, index);
        }
        failures.error = Some(error);
    }

    pub(super) fn report(&self) -> LoadReport {
        let failures = self.failures.lock();
        let has_failed =
            |index: usize, block: &WantedBlock| failures.first.get(&block.group).is_some_and(|first| index >= *first);
        let (failed, loaded): (Vec<_>, Vec<_>) =
            self.blocks.iter().enumerate().partition(|(index, block)| has_failed(*index, block));
        let bytes = |block: &WantedBlock| self.pages.cache.group(block.group).map_or(0, |group| group.block_bytes());
        LoadReport {
            name: self.name.clone(),
            failed: failed.iter().map(|(_, block)| (block.group, block.block)).collect(),
            loaded: loaded.len(),
            bytes: loaded.iter().map(|(_, block)| bytes(block)).sum(),
            seconds: self.began.elapsed().as_secs_f64(),
            error: failures.error.clone(),
        }
    }
}
