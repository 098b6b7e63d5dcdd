//! [`PagedCache`]: the registered pages of a KV cache, and copies from and to them.

use std::ops::Range;

use crate::{GroupLayout, LayoutError, PartLayout};

/// The pages of a KV cache, checked once when they are registered.
///
/// Copies take `&self`, and threads may copy at the same time. What keeps two copies, or a copy and the engine, from
/// meeting in one page is the engine's own rule about who owns a block when.
#[derive(Debug)]
pub struct PagedCache {
    groups: Vec<Group>,
}

/// The pages of the layers that share one block table.
#[derive(Debug)]
pub struct Group {
    blocks: usize,
    block_bytes: usize,
    parts: Vec<Part>,
    /// The parts of each layer, as indices into `parts`.
    layers: Vec<Range<usize>>,
}

#[derive(Debug)]
struct Part {
    layout: PartLayout,
    /// Where the part lies within a block's bytes.
    offset: usize,
}

/// Bytes that lie together both in the cache and in the block.
struct Span {
    page: *mut u8,
    offset: usize,
    len: usize,
}

impl PagedCache {
    /// Registers the pages that `groups` describe.
    ///
    /// # Safety
    /// Every page must be readable and writable memory for as long as the value or a clone of its owner lives. Whoever
    /// calls the copies answers for nobody else writing to the same pages meanwhile.
    pub unsafe fn new(groups: Vec<GroupLayout>) -> Result<Self, LayoutError> {
        let groups =
            groups.into_iter().enumerate().map(|(index, group)| Group::new(index, group)).collect::<Result<_, _>>()?;
        Ok(Self { groups })
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The group with that index.
    pub fn group(&self, index: usize) -> Result<&Group, LayoutError> {
        self.groups.get(index).ok_or(LayoutError::OutOfRange { what: "group", index, count: self.groups.len() })
    }
}

impl Group {
    fn new(index: usize, layout: GroupLayout) -> Result<Self, LayoutError> {
        let GroupLayout { blocks, layers } = layout;
        if blocks == 0 || layers.is_empty() || layers.iter().any(Vec::is_empty) {
            return Err(LayoutError::Empty { group: index });
        }
        let mut group = Self { blocks, block_bytes: 0, parts: Vec::new(), layers: Vec::with_capacity(layers.len()) };
        for (layer, parts) in layers.into_iter().enumerate() {
            let first = group.parts.len();
            for part in parts {
                let impossible = LayoutError::Impossible { group: index, layer, part, blocks };
                if !part.is_possible(blocks) {
                    return Err(impossible);
                }
                let offset = group.block_bytes;
                group.block_bytes = offset.checked_add(part.page_bytes).ok_or(impossible)?;
                group.parts.push(Part { layout: part, offset });
            }
            group.layers.push(first..group.parts.len());
        }
        Ok(group)
    }

    /// How many blocks the group has.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// How many layers the group has.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Bytes of one block: the pages of all layers together.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Where the bytes of the first `layers` layers end within a block.
    pub fn end_of_layers(&self, layers: usize) -> usize {
        match layers.checked_sub(1).map(|last| self.layers[last.min(self.layers.len() - 1)].end) {
            None => 0,
            Some(end) => self.parts.get(end).map_or(self.block_bytes, |next| next.offset),
        }
    }

    /// How many layers lie whole within the first `readable` bytes of a block.
    pub fn layers_within(&self, readable: usize) -> usize {
        self.layers.partition_point(|parts| {
            let last = &self.parts[parts.end - 1];
            last.offset + last.layout.page_bytes <= readable
        })
    }

    /// Whether the cache has a block of that id.
    pub fn check_block(&self, block: usize) -> Result<(), LayoutError> {
        if block < self.blocks {
            return Ok(());
        }
        Err(LayoutError::OutOfRange { what: "block", index: block, count: self.blocks })
    }

    /// Copies the pages that `layers` have of block `block` to their places in a block's bytes, which begin at `to`.
    ///
    /// # Safety
    /// `to` must point to [`Group::block_bytes`] writable bytes, of which nobody else touches those of these layers
    /// meanwhile; and the engine must not write to the pages meanwhile.
    pub unsafe fn copy_out(&self, layers: Range<usize>, block: usize, to: *mut u8) -> Result<(), LayoutError> {
        for span in self.spans(layers, block)? {
            // SAFETY: the page is readable by the contract of `PagedCache::new`; the caller owns the bytes at `to`,
            // and `offset + len` is within `block_bytes` because the offsets were summed up from the parts' lengths.
            unsafe { std::ptr::copy_nonoverlapping(span.page.cast_const(), to.add(span.offset), span.len) };
        }
        Ok(())
    }

    /// Copies the bytes of `layers` from a block's bytes, which begin with `from`, to their pages of block `block`.
    ///
    /// `from` may be a prefix of the block, long enough to hold the layers.
    ///
    /// # Safety
    /// Nobody else may read or write these pages meanwhile.
    pub unsafe fn copy_in(&self, layers: Range<usize>, block: usize, from: &[u8]) -> Result<(), LayoutError> {
        let expected = self.end_of_layers(layers.end);
        if from.len() < expected {
            return Err(LayoutError::WrongLength { given: from.len(), expected });
        }
        for span in self.spans(layers, block)? {
            let bytes = &from[span.offset..span.offset + span.len];
            // SAFETY: the page is writable by the contract of `PagedCache::new`, and ours alone by this one's.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), span.page, span.len) };
        }
        Ok(())
    }

    /// The spans of block `block` in `layers`; neighbours that lie together in both places are one span.
    fn spans(&self, layers: Range<usize>, block: usize) -> Result<impl Iterator<Item = Span>, LayoutError> {
        self.check_block(block)?;
        if layers.end > self.layers.len() {
            return Err(LayoutError::OutOfRange { what: "layer", index: layers.end - 1, count: self.layers.len() });
        }
        let parts = match (self.layers.get(layers.start), layers.is_empty()) {
            (Some(first), false) => &self.parts[first.start..self.layers[layers.end - 1].end],
            _ => &[],
        };
        let runs = parts.chunk_by(|part, next| part.layout.continues_in(&next.layout));
        Ok(runs.map(move |run| {
            let first = &run[0];
            Span {
                page: (first.layout.address + block * first.layout.block_stride) as *mut u8,
                offset: first.offset,
                len: run.iter().map(|part| part.layout.page_bytes).sum(),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A cache of two layers in memory of its own: K and V apart in the first, together in the second.
    fn cache_of(memory: &mut [u8], blocks: usize) -> PagedCache {
        let address = memory.as_mut_ptr().expose_provenance();
        let part = |at: usize, block_stride, page_bytes| PartLayout { address: address + at, block_stride, page_bytes };
        let layers = vec![vec![part(0, 8, 8), part(8 * blocks, 8, 8)], vec![part(16 * blocks, 24, 20)]];
        // SAFETY: the tests keep `memory` longer than the cache and touch it from one thread.
        unsafe { PagedCache::new(vec![GroupLayout { blocks, layers }]) }.unwrap()
    }

    const BLOCKS: usize = 5;

    fn memory() -> Vec<u8> {
        (0..BLOCKS * 40).map(|byte| byte as u8).collect()
    }

    #[test]
    fn a_block_is_its_pages_layer_after_layer() {
        let mut memory = memory();
        let cache = cache_of(&mut memory, BLOCKS);
        let group = cache.group(0).unwrap();
        assert_eq!((group.block_bytes(), group.end_of_layers(0), group.end_of_layers(1)), (36, 0, 16));
        let mut block = vec![0; 36];
        // SAFETY: `block` has `block_bytes` bytes.
        unsafe { group.copy_out(0..2, 3, block.as_mut_ptr()) }.unwrap();
        let pages = [&memory[24..32], &memory[64..72], &memory[152..172]].concat();
        assert_eq!(block, pages);
    }

    #[test]
    fn layers_copied_in_one_by_one_make_the_same_pages_and_touch_no_others() {
        let mut memory = memory();
        let before = memory.clone();
        let cache = cache_of(&mut memory, BLOCKS);
        let group = cache.group(0).unwrap();
        let block = vec![0xee; 36];
        // SAFETY: one thread.
        unsafe { group.copy_in(0..1, 1, &block[..16]) }.unwrap();
        // SAFETY: one thread.
        unsafe { group.copy_in(1..2, 1, &block) }.unwrap();
        let ours = |at: usize| (8..16).contains(&at) || (48..56).contains(&at) || (104..124).contains(&at);
        for (at, byte) in memory.iter().enumerate() {
            assert_eq!(*byte, if ours(at) { 0xee } else { before[at] }, "at {at}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let mut memory = memory();
        let cache = cache_of(&mut memory, BLOCKS);
        assert!(matches!(cache.group(1), Err(LayoutError::OutOfRange { what: "group", .. })));
        let group = cache.group(0).unwrap();
        // SAFETY: refused before anything is touched.
        let refused = |layers, block| unsafe { group.copy_in(layers, block, &[0; 36]) }.unwrap_err();
        assert!(matches!(refused(0..2, BLOCKS), LayoutError::OutOfRange { what: "block", .. }));
        assert!(matches!(refused(0..3, 0), LayoutError::OutOfRange { what: "layer", .. }));
        // SAFETY: refused before anything is touched.
        let short = unsafe { group.copy_in(0..2, 0, &[0; 35]) };
        assert_eq!(short, Err(LayoutError::WrongLength { given: 35, expected: 36 }));
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let part = PartLayout { address: 4096, block_stride: 8, page_bytes: 8 };
        let of = |part: PartLayout, blocks| {
            // SAFETY: refused, or dropped without a copy.
            unsafe { PagedCache::new(vec![GroupLayout { blocks, layers: vec![vec![part]] }]) }.map(|_| ())
        };
        assert_eq!(of(part, 4), Ok(()));
        for wrong in [
            PartLayout { address: 0, ..part },
            PartLayout { page_bytes: 0, ..part },
            PartLayout { page_bytes: 9, ..part },
            PartLayout { block_stride: usize::MAX, ..part },
        ] {
            assert!(matches!(of(wrong, 4), Err(LayoutError::Impossible { .. })), "{wrong:?}");
        }
        assert_eq!(of(part, 0), Err(LayoutError::Empty { group: 0 }));
    }

    #[test]
    fn a_readable_prefix_counts_whole_layers_only() {
        let mut memory = memory();
        let cache = cache_of(&mut memory, BLOCKS);
        let group = cache.group(0).unwrap();
        let within: Vec<usize> = [0, 15, 16, 35, 36, 99].map(|readable| group.layers_within(readable)).into();
        assert_eq!(within, [0, 0, 1, 1, 2, 2]);
    }

    proptest! {
        #[test]
        fn a_block_carried_to_another_cache_is_the_same_there(
            parts in proptest::collection::vec((1usize..40, 0usize..16), 1..6),
            blocks in 1usize..5,
            together in any::<bool>(),
            seed in any::<u8>(),
        ) {
            let layout = |memory: &mut [u8]| {
                let base = memory.as_mut_ptr().expose_provenance();
                // All parts of a block side by side, or each part's blocks side by side.
                let packed: usize = parts.iter().map(|(page, gap)| page + gap).sum();
                let mut at = base;
                let layers = parts.iter().map(|&(page_bytes, gap)| {
                    let address = at;
                    let block_stride = if together { packed } else { page_bytes + gap };
                    at += if together { page_bytes + gap } else { block_stride * blocks };
                    vec![PartLayout { address, block_stride, page_bytes }]
                });
                GroupLayout { blocks, layers: layers.collect() }
            };
            let bytes = parts.iter().map(|(page, gap)| page + gap).sum::<usize>() * blocks;
            let mut source: Vec<u8> = (0..bytes).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let mut target = vec![0u8; bytes];
            let (from, to) = (layout(&mut source), layout(&mut target));
            // SAFETY: both vectors outlive the caches; one thread.
            let (from, to) = unsafe { (PagedCache::new(vec![from]).unwrap(), PagedCache::new(vec![to]).unwrap()) };
            let (from, to) = (from.group(0).unwrap(), to.group(0).unwrap());
            for block in 0..blocks {
                let mut carried = vec![0; from.block_bytes()];
                // SAFETY: `carried` has `block_bytes` bytes; one thread.
                unsafe { from.copy_out(0..from.layers(), block, carried.as_mut_ptr()) }.unwrap();
                // SAFETY: one thread.
                unsafe { to.copy_in(0..to.layers(), block, &carried) }.unwrap();
                let mut back = vec![0; to.block_bytes()];
                // SAFETY: `back` has `block_bytes` bytes; one thread.
                unsafe { to.copy_out(0..to.layers(), block, back.as_mut_ptr()) }.unwrap();
                prop_assert_eq!(carried, back);
            }
        }
    }
}
