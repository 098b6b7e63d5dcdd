//! The KV cache of one prompt, carried while it is computed, against all of it carried afterwards.
//!
//! A prompt of 1,500 tokens as Qwen2.5-7B keeps it: 28 layers of 2 KiB a token, in blocks of 16 tokens that hold all
//! layers, 84 MB. The first node writes it layer by layer, as prefill computes it, and pushes it to the second, where it
//! is followed and copied out as it comes. What counts is the time from the end of the last layer's computation to the
//! last byte copied out. For comparison, the same bytes are put whole, and then fetched and copied out.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chariot_client::{Block, GrowingBlock, Progress, Reserve, Room, Wait};
use chariot_types::Key;

use super::blocks::{Batches, Names, Shape};
use super::{Node, NodesConfig, PATIENCE};
use crate::Row;
use crate::sample::{Round, compared};

const LAYERS: usize = 28;
const BYTES_A_TOKEN_AND_LAYER: usize = 2048;
const BLOCK_TOKENS: usize = 16;
const BLOCKS: usize = 1500_usize.div_ceil(BLOCK_TOKENS);
/// Bytes of one layer in one block.
const SLICE: usize = BLOCK_TOKENS * BYTES_A_TOKEN_AND_LAYER;
const BLOCK: usize = LAYERS * SLICE;

/// How long a layer is computed: 112 ms for the prompt, as an accelerator does 13,000 tokens of that model a second.
const LAYER_TIME: Duration = Duration::from_millis(4);

const WHOLE: Shape = Shape { name: "whole", len: BLOCK, count: BLOCKS, calls: 1 };

const REFERENCE: &str = "fetching and copying out all of it, whole, after the last layer";

pub(super) fn measure(nodes: &[Node], config: &NodesConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let (prefill, decode) = (&nodes[0], &nodes[1]);
    let mut names = Names::new();
    let mut cache = Cache::new();
    let mut rounds = Vec::new();
    for round in 0..config.rounds {
        progress(&format!("handoff, round {} of {}", round + 1, config.rounds));
        let reference = afterwards(prefill, decode, &mut names, &mut cache)?;
        let value = layer_by_layer(prefill, decode, &mut names, &mut cache)?;
        rounds.push(Round { value: milliseconds(value), reference: milliseconds(reference) });
    }
    Ok(vec![compared("handoff", "ms", REFERENCE, &rounds)])
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn afterwards(prefill: &Node, decode: &Node, names: &mut Names, cache: &mut Cache) -> Result<Duration> {
    let batches = Batches::new(WHOLE, names);
    batches.put(prefill)?;
    batches.wait_until_known(decode)?;
    let begin = Instant::now();
    for (at, block) in Batches::get(decode, &batches.keys[0])?.iter().enumerate() {
        cache.take(at, block);
    }
    let time = begin.elapsed();
    cache.empty();
    batches.delete(decode, prefill)?;
    Ok(time)
}

fn layer_by_layer(prefill: &Node, decode: &Node, names: &mut Names, cache: &mut Cache) -> Result<Duration> {
    let keys = names.take(BLOCKS);
    let computed_at = std::thread::scope(|scope| {
        let computing = scope.spawn(|| compute(prefill, decode, &keys));
        let followed = follow(decode, &keys, cache);
        let computed_at = computing.join().expect("no panic while layers are written")?;
        followed?;
        anyhow::Ok(computed_at)
    })?;
    let time = cache.filled_at.context("nothing was copied out")?.duration_since(computed_at);
    cache.check()?;
    cache.empty();
    decode.client.delete(&keys)?;
    prefill.client.delete(&keys)?;
    Ok(time)
}

/// What prefill does; returns when the last layer was computed, before a byte of it was written.
fn compute(prefill: &Node, decode: &Node, keys: &[Key]) -> Result<Instant> {
    let reserves: Vec<_> =
        keys.iter().map(|key| Reserve { key: *key, parent: None, len: BLOCK as u64, time_to_live: None }).collect();
    let mut blocks = prefill.client.reserve(&reserves, Room::Until(Instant::now() + PATIENCE))?;
    prefill.client.forward(decode.worker(), keys)?;
    let layers: Vec<Vec<u8>> = (0..LAYERS).map(|layer| vec![layer as u8 + 1; SLICE]).collect();
    let mut computed_at = Instant::now();
    for (layer, bytes) in layers.iter().enumerate() {
        std::thread::sleep((computed_at + LAYER_TIME).saturating_duration_since(Instant::now()));
        computed_at = Instant::now();
        blocks.iter_mut().for_each(|block| block.write_at(layer * SLICE, bytes));
        GrowingBlock::advance_all(&mut blocks, (layer + 1) * SLICE)?;
    }
    GrowingBlock::seal_all(blocks)?;
    Ok(computed_at)
}

/// What decode does: copies out what has come, layer after layer.
fn follow(decode: &Node, keys: &[Key], cache: &mut Cache) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let found = decode.client.follow(keys, Wait::Until(deadline))?;
    let blocks: Vec<Block> = found.into_iter().flatten().collect();
    ensure!(blocks.len() == keys.len(), "only {} of {} blocks were found", blocks.len(), keys.len());
    for layer in 0..LAYERS {
        for (at, block) in blocks.iter().enumerate() {
            while cache.copied(at) <= layer * SLICE {
                match block.wait_beyond(cache.copied(at), deadline)? {
                    Progress::Readable(_) | Progress::Sealed => cache.take(at, block),
                    other => anyhow::bail!("a block that was followed ended as {other:?}"),
                }
            }
        }
    }
    Ok(())
}

/// Decode's memory: a room for each block, and how much of it is filled.
struct Cache {
    rooms: Vec<Vec<u8>>,
    filled: Vec<usize>,
    filled_at: Option<Instant>,
}

impl Cache {
    fn new() -> Self {
        Self { rooms: vec![vec![0xFF; BLOCK]; BLOCKS], filled: vec![0; BLOCKS], filled_at: None }
    }

    fn copied(&self, at: usize) -> usize {
        self.filled[at]
    }

    /// Copies what of a block is readable and was not copied before.
    fn take(&mut self, at: usize, block: &Block) {
        let (from, bytes) = (self.filled[at], block.bytes());
        self.rooms[at][from..bytes.len()].copy_from_slice(&bytes[from..]);
        self.filled[at] = bytes.len();
        self.filled_at = Some(Instant::now());
    }

    fn check(&self) -> Result<()> {
        let is_right = |room: &Vec<u8>| {
            room.chunks(SLICE).enumerate().all(|(layer, slice)| slice.iter().all(|byte| *byte == layer as u8 + 1))
        };
        ensure!(self.filled.iter().all(|filled| *filled == BLOCK), "not all bytes were copied out");
        ensure!(self.rooms.iter().all(is_right), "a layer has come wrong");
        Ok(())
    }

    fn empty(&mut self) {
        self.rooms.iter_mut().for_each(|room| room.fill(0xFF));
        self.filled.fill(0);
        self.filled_at = None;
    }
}
