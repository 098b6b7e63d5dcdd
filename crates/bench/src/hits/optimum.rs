//! What no policy can exceed: one that knows all requests to come (Belady's MIN, with the choice not to keep a block at
//! all, which pools do not have).
//!
//! Of the blocks at hand, the one goes that is needed again last. A parent is needed again no later than its children,
//! and of blocks needed at the same time the one deeper in its chain goes: so children go before their parents by
//! themselves, and every block kept can be found.

use std::collections::BTreeSet;

use super::trace::Trace;

/// When a block is next used, for one that is not.
const NEVER: usize = usize::MAX;

/// How many blocks of prompts can be found at best in a cache of `room` blocks.
pub(crate) fn hits(trace: &Trace, room: usize) -> u64 {
    let next_uses = next_uses(trace);
    // (next use, depth in its chain, block), and for each block the first of these while it is kept.
    let mut kept = BTreeSet::new();
    let mut kept_for = vec![NEVER; trace.blocks()];
    let mut hits = 0;
    for (chain, next_uses) in trace.requests.iter().zip(&next_uses) {
        for (depth, (&block, &next_use)) in chain.iter().zip(next_uses).enumerate() {
            let this_use = std::mem::replace(&mut kept_for[block.index()], NEVER);
            if this_use != NEVER {
                hits += 1;
                kept.remove(&(this_use, depth, block));
            }
            if next_use == NEVER {
                continue;
            }
            kept.insert((next_use, depth, block));
            kept_for[block.index()] = next_use;
            if kept.len() > room
                && let Some((_, _, victim)) = kept.pop_last()
            {
                kept_for[victim.index()] = NEVER;
            }
        }
    }
    hits
}

/// For each block of each request, the request that uses it next.
fn next_uses(trace: &Trace) -> Vec<Vec<usize>> {
    let mut next_use = vec![NEVER; trace.blocks()];
    let mut all: Vec<Vec<usize>> = trace
        .requests
        .iter()
        .enumerate()
        .rev()
        .map(|(number, chain)| {
            chain.iter().map(|block| std::mem::replace(&mut next_use[block.index()], number)).collect()
        })
        .collect();
    all.reverse();
    all
}
