//! [`Batches`]: blocks with fresh keys, put on one node and looked for on another.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use chariot_client::{Block, Put, Room, Wait};
use chariot_types::Key;

use super::{Node, PATIENCE};

/// Calls of equal shape: `calls` times `count` blocks of `len` bytes.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) len: usize,
    pub(super) count: usize,
    pub(super) calls: usize,
}

impl Shape {
    pub(super) fn bytes(self) -> usize {
        self.len * self.count * self.calls
    }
}

/// Keys that were not used before, by any run.
pub(super) struct Names {
    salt: [u8; 16],
    next: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        let mut salt = [0; 16];
        salt[..4].copy_from_slice(&std::process::id().to_le_bytes());
        Self { salt, next: 0 }
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<Key> {
        let from = self.next;
        self.next += count as u64;
        (from..self.next).map(|number| Key::of_name(&[&self.salt[..], &number.to_le_bytes()].concat())).collect()
    }
}

/// The blocks of one round.
pub(super) struct Batches {
    shape: Shape,
    pub(super) keys: Vec<Vec<Key>>,
    bytes: Vec<Vec<u8>>,
}

impl Batches {
    pub(super) fn new(shape: Shape, names: &mut Names) -> Self {
        let keys = (0..shape.calls).map(|_| names.take(shape.count)).collect();
        let bytes = (0..shape.count).map(|number| (0..shape.len).map(|at| (at ^ number) as u8).collect()).collect();
        Self { shape, keys, bytes }
    }

    /// Puts all of them on `node`; they can be found there when this returns.
    pub(super) fn put(&self, node: &Node) -> Result<()> {
        for keys in &self.keys {
            let puts: Vec<_> = keys
                .iter()
                .zip(&self.bytes)
                .map(|(key, bytes)| Put { key: *key, parent: None, bytes, time_to_live: None })
                .collect();
            node.client.put(&puts, Room::Until(Instant::now() + PATIENCE))?;
        }
        Ok(node.client.flush()?)
    }

    /// Waits until `node` has heard where all of them are.
    pub(super) fn wait_until_known(&self, node: &Node) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for keys in &self.keys {
            while !node.client.exists(keys)?.iter().all(|is_there| *is_there) {
                ensure!(Instant::now() < deadline, "`{}` does not hear of blocks that were put", node.worker());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// The blocks of one call, from wherever they are.
    pub(super) fn get(node: &Node, keys: &[Key]) -> Result<Vec<Block>> {
        let found = node.client.get(keys, Wait::Until(Instant::now() + PATIENCE))?;
        let blocks: Vec<Block> = found.into_iter().flatten().collect();
        ensure!(blocks.len() == keys.len(), "{} of {} blocks did not come", keys.len() - blocks.len(), keys.len());
        Ok(blocks)
    }

    /// Whether all bytes of all blocks are on `node`, and right.
    pub(super) fn check(&self, node: &Node) -> Result<()> {
        for keys in &self.keys {
            for (block, bytes) in Self::get(node, keys)?.iter().zip(&self.bytes) {
                ensure!(block.bytes() == bytes, "a block of {} bytes has come wrong", self.shape.len);
            }
        }
        Ok(())
    }

    /// Withdraws them everywhere, `first` from where they were carried to.
    pub(super) fn delete(&self, first: &Node, then: &Node) -> Result<()> {
        for keys in &self.keys {
            first.client.delete(keys)?;
            then.client.delete(keys)?;
        }
        Ok(())
    }
}

/// Waits until `node` has `count` whole blocks; asking for them by key would fetch them.
pub(super) fn wait_for_count(node: &Node, count: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let there = node.client.status()?.sealed_blocks;
        if there >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("only {there} of {count} blocks came to `{}`", node.worker());
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}
