//! A trace against the pool that workers have, and nothing in its place but the bytes.

use std::time::Instant;

use anyhow::{Context, Result};
use chariot_pool::{GrantAsk, NoRoom, OwnerId, PinWhat, Pool, PutRecord};
use chariot_types::{Extent, Key};

use super::trace::{Numbered, Readers, Trace};

const CLIENT: OwnerId = OwnerId(1);

/// The smallest blocks that a pool can hold: what is counted is blocks.
const LEN: u64 = Extent::ALIGN;

/// How many blocks of prompts were found in a pool with room for `room` blocks.
///
/// Requests come one after another, each as the connector does it: the longest prefix is looked up and read, and what is
/// missing is put, each block with the one before it as its parent.
pub(crate) fn hits(trace: &Trace, room: usize) -> Result<u64> {
    let mut replay = Replay { pool: Pool::new(room as u64 * LEN), now: Instant::now() };
    let keys: Vec<Key> = (0..trace.blocks()).map(|number| Key::of_name(&number.to_le_bytes())).collect();
    let key = |block: &Numbered| keys[block.index()];
    let mut hits = 0;
    for chain in &trace.requests {
        let chain: Vec<Key> = chain.iter().map(key).collect();
        let found = replay.pool.longest_prefix(&chain, replay.now).sealed;
        hits += found as u64;
        let pinned = replay.pin(&chain[..found]);
        replay.put(&chain, found)?;
        replay.unpin(pinned)?;
        if trace.readers == Readers::Decode {
            let there = replay.pool.longest_prefix(&chain, replay.now).sealed;
            let pinned = replay.pin(&chain[..there]);
            replay.unpin(pinned)?;
        }
        replay.pool.take_events();
    }
    Ok(hits)
}

struct Replay {
    pool: Pool,
    now: Instant,
}

impl Replay {
    fn pin(&mut self, keys: &[Key]) -> Vec<chariot_pool::Pinned> {
        keys.iter().filter_map(|key| self.pool.pin(CLIENT, key, PinWhat::Sealed, self.now)).collect()
    }

    fn unpin(&mut self, pinned: Vec<chariot_pool::Pinned>) -> Result<()> {
        pinned.into_iter().try_for_each(|pinned| Ok(self.pool.unpin(CLIENT, pinned.block)?))
    }

    /// Puts what of `chain` follows its first `found` blocks, while there is room.
    fn put(&mut self, chain: &[Key], found: usize) -> Result<()> {
        for at in found..chain.len() {
            let extent = match self.pool.grant(CLIENT, GrantAsk { min: LEN, want: LEN }, self.now) {
                Ok(extent) => extent,
                Err(NoRoom::Full) => return Ok(()),
                Err(no_room) => return Err(no_room).context("the pool is too small"),
            };
            let parent = at.checked_sub(1).map(|before| chain[before]);
            let record = PutRecord { key: chain[at], parent, extent, len: LEN, time_to_live: None };
            self.pool.put(CLIENT, record, self.now)?;
        }
        Ok(())
    }
}
