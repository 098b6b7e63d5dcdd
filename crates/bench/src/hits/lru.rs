//! What the pool's policy is compared with: the least recently used block goes first, children before their parents.

use std::collections::BTreeSet;

use super::trace::{Numbered, Readers, Trace};

/// How many blocks of prompts are found in a cache of `room` blocks that evicts the least recently used.
pub(crate) fn hits(trace: &Trace, room: usize) -> u64 {
    let mut cache = Cache::new(trace, room);
    let mut hits = 0;
    for chain in &trace.requests {
        let found = chain.iter().take_while(|block| cache.has(**block)).count();
        hits += found as u64;
        cache.in_use = chain[..found].to_vec();
        chain[..found].iter().for_each(|block| cache.use_block(*block));
        let there = found + chain[found..].iter().take_while(|block| cache.put(**block)).count();
        cache.in_use.clear();
        if trace.readers == Readers::Decode {
            let there = chain[..there].iter().take_while(|block| cache.has(**block)).count();
            chain[..there].iter().for_each(|block| cache.use_block(*block));
        }
    }
    hits
}

struct Cache<'a> {
    trace: &'a Trace,
    room: usize,
    clock: u64,
    /// One entry a block of the trace.
    blocks: Vec<Block>,
    held: usize,
    /// The blocks without children, least recently used first.
    leaves: BTreeSet<(u64, Numbered)>,
    /// Blocks that the request being served reads.
    in_use: Vec<Numbered>,
}

#[derive(Clone, Copy, Default)]
struct Block {
    is_held: bool,
    last_use: u64,
    children: u32,
}

impl<'a> Cache<'a> {
    fn new(trace: &'a Trace, room: usize) -> Self {
        let blocks = vec![Block::default(); trace.blocks()];
        Self { trace, room, clock: 0, blocks, held: 0, leaves: BTreeSet::new(), in_use: Vec::new() }
    }

    fn has(&self, block: Numbered) -> bool {
        self.blocks[block.index()].is_held
    }

    fn use_block(&mut self, block: Numbered) {
        self.clock += 1;
        let entry = &mut self.blocks[block.index()];
        let before = std::mem::replace(&mut entry.last_use, self.clock);
        if self.leaves.remove(&(before, block)) {
            self.leaves.insert((self.clock, block));
        }
    }

    /// Whether there was room for a block that is not there.
    fn put(&mut self, block: Numbered) -> bool {
        if self.held == self.room && !self.evict_one() {
            return false;
        }
        self.held += 1;
        self.blocks[block.index()].is_held = true;
        self.leaves.insert((self.blocks[block.index()].last_use, block));
        self.use_block(block);
        if let Some(parent) = self.trace.parents[block.index()] {
            let entry = &mut self.blocks[parent.index()];
            entry.children += 1;
            self.leaves.remove(&(entry.last_use, parent));
        }
        true
    }

    fn evict_one(&mut self) -> bool {
        let mut leaves = self.leaves.iter();
        let Some(&(last_use, victim)) = leaves.find(|(_, block)| !self.in_use.contains(block)) else { return false };
        self.leaves.remove(&(last_use, victim));
        self.held -= 1;
        self.blocks[victim.index()].is_held = false;
        if let Some(parent) = self.trace.parents[victim.index()] {
            let entry = &mut self.blocks[parent.index()];
            entry.children -= 1;
            if entry.children == 0 && entry.is_held {
                self.leaves.insert((entry.last_use, parent));
            }
        }
        true
    }
}
