//! [`GroupLayout`] and [`PartLayout`]: where the pages of a KV cache lie, in plain numbers, and what makes such a
//! description unusable.

/// The pages of the layers that share one block table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupLayout {
    /// How many blocks the cache has: block ids are less than this.
    pub blocks: usize,
    /// The parts of each layer, in the order in which a block holds them.
    pub layers: Vec<Vec<PartLayout>>,
}

/// One contiguous part of every page of a layer: the whole page, its K or V half, or one head of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartLayout {
    /// Where the part of block 0 begins.
    pub address: usize,
    /// From one block's part to the next one's, in bytes.
    pub block_stride: usize,
    /// Bytes of the part.
    pub page_bytes: usize,
}

/// Why a layout cannot be used, or a block of it not be copied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// A group without blocks, layers or parts has nothing to copy.
    #[error("group `{group}` has no blocks, or a layer of it has no pages")]
    Empty {
        /// The group's index.
        group: usize,
    },
    /// A part that is null, empty, overlaps the next block's, or reaches past the end of the address space.
    #[error("the pages of group `{group}`, layer `{layer}` are impossible: {part:?} for `{blocks}` blocks")]
    Impossible {
        /// The group's index.
        group: usize,
        /// The layer's index within the group.
        layer: usize,
        /// The part as it was given.
        part: PartLayout,
        /// How many blocks the group has.
        blocks: usize,
    },
    /// A group, layer or block that the cache does not have.
    #[error("the cache has no {what} `{index}`: there are `{count}`")]
    OutOfRange {
        /// What was asked for: `group`, `layer` or `block`.
        what: &'static str,
        /// Which one.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The block's bytes are not as many as the group's blocks have.
    #[error("a block of `{given}` bytes was given where the cache's blocks have `{expected}`")]
    WrongLength {
        /// Bytes of the given block.
        given: usize,
        /// Bytes of a block of the group.
        expected: usize,
    },
}

impl PartLayout {
    /// Whether the parts of `blocks` blocks are apart from each other and within the address space.
    pub(crate) fn is_possible(&self, blocks: usize) -> bool {
        let last = blocks.saturating_sub(1).checked_mul(self.block_stride);
        let end = last.and_then(|last| self.address.checked_add(last)?.checked_add(self.page_bytes));
        self.address != 0
            && self.page_bytes != 0
            && (blocks == 1 || self.block_stride >= self.page_bytes)
            && end.is_some_and(|end| isize::try_from(end).is_ok())
    }

    /// Whether, in every block, `next` begins where this part ends.
    pub(crate) fn continues_in(&self, next: &PartLayout) -> bool {
        self.address + self.page_bytes == next.address && self.block_stride == next.block_stride
    }
}
