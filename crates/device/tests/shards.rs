//! Pages cut by heads: the bytes of a shard are those that an engine with its heads alone keeps, and together they are the page.

#![allow(clippy::unwrap_used)] // helpers of tests

use chariot_device::{GroupLayout, PagedCache, PartLayout};
use proptest::prelude::*;

/// A cache whose page of a layer and block has `heads` heads of `tokens` tokens of `width` bytes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    layers: usize,
    blocks: usize,
    heads: usize,
    tokens: usize,
    width: usize,
    order: Order,
}

/// What is outermost in a page.
#[derive(Clone, Copy, Debug)]
enum Order {
    Heads,
    Tokens,
}

impl Shape {
    fn page(&self) -> usize {
        self.heads * self.tokens * self.width
    }

    fn bytes(&self) -> usize {
        self.layers * self.blocks * self.page()
    }

    /// Where a head of a token lies in its page.
    fn place(&self, head: usize, token: usize) -> usize {
        match self.order {
            Order::Heads => (head * self.tokens + token) * self.width,
            Order::Tokens => (token * self.heads + head) * self.width,
        }
    }

    /// The cache in `memory`, each shard of `heads` heads as a group of its own.
    fn cut(&self, memory: &mut [u8], heads: usize) -> PagedCache {
        let base = memory.as_mut_ptr().expose_provenance();
        let group = |shard: usize| {
            let parts = |layer: usize| {
                let page = base + layer * self.blocks * self.page();
                let part = |token, page_bytes| PartLayout {
                    address: page + self.place(shard * heads, token),
                    block_stride: self.page(),
                    page_bytes,
                };
                match self.order {
                    Order::Heads => vec![part(0, heads * self.tokens * self.width)],
                    Order::Tokens => (0..self.tokens).map(|token| part(token, heads * self.width)).collect(),
                }
            };
            GroupLayout { blocks: self.blocks, layers: (0..self.layers).map(parts).collect() }
        };
        // SAFETY: the test keeps the memory longer than the cache and touches it from one thread.
        unsafe { PagedCache::new((0..self.heads / heads).map(group).collect()) }.unwrap()
    }
}

/// Carries a block of one group to another.
fn carry(from: (&PagedCache, usize), to: (&PagedCache, usize), block: usize) {
    let (from, to) = (from.0.group(from.1).unwrap(), to.0.group(to.1).unwrap());
    let mut bytes = vec![0; from.block_bytes()];
    // SAFETY: `bytes` has `block_bytes` bytes; one thread.
    unsafe { from.copy_out(0..from.layers(), block, bytes.as_mut_ptr()) }.unwrap();
    // SAFETY: one thread.
    unsafe { to.copy_in(0..to.layers(), block, &bytes) }.unwrap();
}

proptest! {
    #[test]
    fn what_is_carried_in_shards_is_what_was_there(
        (layers, blocks, tokens, width) in (1usize..4, 1usize..4, 1usize..5, 1usize..6),
        (shards, heads) in (1usize..5, 1usize..4),
        order in prop_oneof![Just(Order::Heads), Just(Order::Tokens)],
        seed in any::<u8>(),
    ) {
        let whole = Shape { layers, blocks, heads: shards * heads, tokens, width, order };
        let alone = Shape { heads, ..whole };
        let mut source: Vec<u8> = (0..whole.bytes()).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let (mut ranks, mut target) = (vec![vec![0u8; alone.bytes()]; shards], vec![0u8; whole.bytes()]);
        let (from, to) = (whole.cut(&mut source, heads), whole.cut(&mut target, heads));
        for (shard, memory) in ranks.iter_mut().enumerate() {
            let rank = alone.cut(memory, heads);
            for block in 0..blocks {
                carry((&from, shard), (&rank, 0), block);
                carry((&rank, 0), (&to, shard), block);
            }
        }
        prop_assert_eq!(&target, &source);
        for (shard, rank) in ranks.iter().enumerate() {
            for page in 0..layers * blocks {
                for (head, token) in (0..heads).flat_map(|head| (0..tokens).map(move |token| (head, token))) {
                    let ours = page * alone.page() + alone.place(head, token);
                    let theirs = page * whole.page() + whole.place(shard * heads + head, token);
                    prop_assert_eq!(&rank[ours..ours + width], &source[theirs..theirs + width]);
                }
            }
        }
    }
}
