//! [`Touched`]: which parts of the arena this process has made ready to write.
//!
//! The worker makes the arena's pages present, but each process has a page table of its own: a first write through it
//! faults once a page, which takes longer than the copy. So a region's pages are entered in one go when it is granted
//! for the first time.

use std::sync::atomic::{AtomicU64, Ordering};

use chariot_pool::Mapping;
use chariot_types::Extent;

/// Which pieces of [`Mapping::TOUCH`] bytes this process has touched: a bit each.
#[derive(Debug)]
pub(crate) struct Touched {
    pieces: Vec<AtomicU64>,
}

impl Touched {
    /// Nothing of an arena of `len` bytes.
    pub(crate) fn nothing_of(len: u64) -> Self {
        let pieces = len.div_ceil(Mapping::TOUCH).div_ceil(u64::from(u64::BITS));
        Self { pieces: (0..pieces).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Touches what of `extent` has not been.
    pub(crate) fn touch(&self, mapping: &Mapping, extent: Extent) {
        let Some(end) = extent.end().map(|end| end.min(mapping.len())) else { return };
        for piece in extent.offset / Mapping::TOUCH..end.div_ceil(Mapping::TOUCH) {
            let Some(word) = self.pieces.get((piece / u64::from(u64::BITS)) as usize) else { return };
            let bit = 1 << (piece % u64::from(u64::BITS));
            if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                let offset = piece * Mapping::TOUCH;
                let len = Mapping::TOUCH.min(mapping.len().saturating_sub(offset));
                // Best effort: pages that are not entered now are entered by the first write.
                let _ = mapping.touch(Extent { offset, len });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chariot_pool::Arena;

    #[test]
    fn every_extent_of_an_arena_can_be_touched_and_beyond_is_ignored() {
        let arena = Arena::create(300 << 20).unwrap();
        let touched = Touched::nothing_of(arena.len());
        for (offset, len) in [(0, 0), (5, 10), (arena.len() - 1, 1), (3 << 20, 9 << 20), (arena.len(), 4096)] {
            touched.touch(&arena, Extent { offset, len });
            touched.touch(&arena, Extent { offset, len });
        }
        touched.touch(&arena, Extent { offset: u64::MAX - 5, len: 10 });
        let count = touched.pieces.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum::<u32>();
        assert_eq!(count, 1 + 1 + 5);
    }
}
