//! [`SpeedHost`]: serves blocks that lie in its arena, and takes what it pulls into its arena.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Result, bail};
use chariot_fabric::{Asker, Fabric, Growth, Host, Look, PullEnd, Sink, Source};
use chariot_pool::Arena;
use chariot_types::{Extent, Key, RunId};
use chariot_wire::{InlineRecord, PeerBlock, Pull, Reach};

/// Places for blocks of 1 MiB.
pub(crate) const BLOCKS: usize = 64;

pub(crate) struct SpeedHost {
    arena: Arc<Arena>,
    ended: Mutex<Vec<PullEnd>>,
    ends: Condvar,
}

impl SpeedHost {
    pub(crate) fn new(arena: Arc<Arena>) -> Self {
        Self { arena, ended: Mutex::default(), ends: Condvar::new() }
    }

    /// Pulls so many blocks of `len` bytes, and waits until they are whole.
    pub(crate) fn pull(&self, fabric: &Fabric, from: RunId, count: usize, len: usize) -> Result<()> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for place in 0..count {
            fabric.pull(from, Pull { key: key(place, len), reach: Reach::Holder, but: None, wait: 0 })?;
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while ended.len() < count {
            ended = self.ends.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
        if ended.iter().any(|end| *end != PullEnd::Whole) {
            bail!("pulls ended as {ended:?}");
        }
        Ok(())
    }
}

/// A key that says where its block lies, and how long it is.
fn key(place: usize, len: usize) -> Key {
    let mut bytes = [0; Key::LEN];
    bytes[..8].copy_from_slice(&(place << 20).to_le_bytes());
    bytes[8..16].copy_from_slice(&len.to_le_bytes());
    Key::from_bytes(bytes)
}

fn extent(key: &Key) -> Extent {
    let number = |at: usize| key.as_bytes()[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Extent { offset: number(0), len: number(8) }
}

impl Host for SpeedHost {
    fn pull(&self, asker: Asker, pull: Pull) {
        let extent = extent(&pull.key);
        let source = Lying { arena: self.arena.clone(), extent };
        asker.open(&InlineRecord::new(pull.key, None, extent.len, None).into(), Box::new(source));
    }

    fn opened(&self, _from: RunId, block: &PeerBlock<'_>) -> Option<Box<dyn Sink>> {
        Some(Box::new(Lying { arena: self.arena.clone(), extent: extent(&block.block.key) }))
    }

    fn ended(&self, _from: RunId, _key: Key, end: PullEnd) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(end);
        self.ends.notify_one();
    }

    fn offered(&self, _from: RunId, _block: &PeerBlock<'_>) -> Option<Box<dyn Sink>> {
        None
    }

    fn announced(&self, _from: RunId, _keys: &[Key]) {}

    fn withdrawn(&self, _from: RunId, _keys: &[Key]) {}

    fn forget(&self, _from: RunId) {}

    fn reached(&self, _to: RunId) {}

    fn holders(&self, keys: &[Key]) -> Vec<Option<RunId>> {
        vec![None; keys.len()]
    }

    fn delete(&self, keys: &[Key]) -> Vec<bool> {
        vec![false; keys.len()]
    }
}

/// A block in the arena.
struct Lying {
    arena: Arc<Arena>,
    extent: Extent,
}

impl Lying {
    fn part(&self, offset: u64, len: u64) -> Extent {
        Extent { offset: self.extent.offset + offset, len }
    }
}

impl Source for Lying {
    fn look(&mut self, sent: u64, _growth: &Growth) -> Look {
        match self.extent.len - sent {
            0 => Look::Whole,
            more => Look::More(more),
        }
    }

    fn bytes(&self, offset: u64, len: u64) -> &[u8] {
        // SAFETY: nobody writes to the arena of whoever serves.
        unsafe { self.arena.bytes(self.part(offset, len)) }.expect("the blocks lie in the arena")
    }
}

impl Sink for Lying {
    fn len(&self) -> u64 {
        self.extent.len
    }

    fn room(&mut self, offset: u64, len: u64) -> &mut [u8] {
        // SAFETY: each block has a place of its own, and nothing else is received meanwhile.
        unsafe { self.arena.bytes_mut(self.part(offset, len)) }.expect("the blocks lie in the arena")
    }

    fn advance(&mut self, _readable: u64) {}

    fn seal(self: Box<Self>) {}
}
