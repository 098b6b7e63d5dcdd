//! [`Tier`]: a spill, used as a worker uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chariot_ssd::{Block, Loaded, Spill, SpillConfig, Stored, Wanted};
use chariot_types::{Key, NamespaceName};

use super::lent::Rooms;
use super::{BLOCK, BLOCKS, DEPTH, FILE};
use crate::Row;

const PATIENCE: Duration = Duration::from_secs(30);

/// A spill, and room for as many blocks as may be under way.
pub(super) struct Tier {
    path: PathBuf,
    spill: Spill,
    rooms: Rooms,
    /// Blocks stored so far.
    stored: u64,
}

impl Tier {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("spill");
        let (spill, _) = Spill::open(&config(&path), |_| {})?;
        Ok(Self { path, spill, rooms: Rooms::new(DEPTH, BLOCK)?, stored: 0 })
    }

    /// Writes all of the file once.
    pub(super) fn fill(&mut self) -> Result<()> {
        while self.spill.stats().reclaimed == 0 {
            self.store()?;
        }
        Ok(())
    }

    /// GB/s of blocks stored, the last one's end included.
    pub(super) fn store(&mut self) -> Result<f64> {
        let begin = Instant::now();
        for number in self.stored..self.stored + BLOCKS as u64 {
            let block = Block {
                key: key(number),
                parent: None,
                len: BLOCK,
                expires_at: None,
                namespace: NamespaceName::default(),
            };
            let stored = self.spill.store(block, self.rooms.take()?);
            ensure!(matches!(stored, Stored::Accepted), "a block was not accepted: {stored:?}");
        }
        self.rooms.wait_for_all()?;
        let seconds = begin.elapsed().as_secs_f64();
        self.stored += BLOCKS as u64;
        ensure!(self.spill.stats().dropped == 0, "blocks were dropped");
        Ok((BLOCKS as u64 * BLOCK) as f64 / seconds / 1e9)
    }

    /// GB/s of blocks loaded, which were stored just before.
    pub(super) fn load(&mut self) -> Result<f64> {
        let hits = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        for number in self.stored - BLOCKS as u64..self.stored {
            let wanted = Wanted { key: key(number), memory: self.rooms.take()? };
            let hits = hits.clone();
            self.spill.load(vec![wanted], begin + PATIENCE, move |_, loaded| {
                hits.fetch_add(usize::from(matches!(loaded, Loaded::Hit { .. })), Ordering::Relaxed);
            });
        }
        self.rooms.wait_for_all()?;
        let seconds = begin.elapsed().as_secs_f64();
        let hits = hits.load(Ordering::Relaxed);
        ensure!(hits == BLOCKS, "{hits} of {BLOCKS} blocks were loaded");
        Ok((BLOCKS as u64 * BLOCK) as f64 / seconds / 1e9)
    }

    /// How long it takes to find what the file holds.
    pub(super) fn recovery(self) -> Result<[Row; 2]> {
        self.spill.close(PATIENCE);
        let (_spill, recovered) = Spill::open(&config(&self.path), |_| {})?;
        Ok([
            Row::alone("spill_found_blocks", recovered.blocks as f64, "blocks"),
            Row::alone("spill_found_in", recovered.took.as_secs_f64(), "s"),
        ])
    }
}

fn config(path: &Path) -> SpillConfig {
    SpillConfig::new(path, FILE)
}

fn key(number: u64) -> Key {
    Key::of_name(&number.to_le_bytes())
}
