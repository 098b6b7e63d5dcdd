//! [`Copies`]: the best plain copies into the worker's own mapping, which no put can beat.

use std::time::Instant;

use anyhow::Result;
use chariot_client::{Client, GrowingBlock, Reserve, Room, copy_into_shared_memory};
use chariot_types::Key;

/// A part of the worker's arena to copy into, of which nobody else knows.
pub(crate) struct Copies {
    block: GrowingBlock,
    next: usize,
}

/// How fast the two kinds of copies were, in GB/s.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    plain: f64,
    past_cache: f64,
}

impl Rates {
    /// The better kind's rate over two measurements, taken before and after what is compared with them: what disturbs
    /// the machine meanwhile then disturbs both sides alike.
    pub(crate) fn best_around(before: Self, after: Self) -> f64 {
        let plain = f64::midpoint(before.plain, after.plain);
        plain.max(f64::midpoint(before.past_cache, after.past_cache))
    }
}

impl Copies {
    /// Reserves `len` bytes.
    pub(crate) fn reserve(client: &Client, len: u64) -> Result<Self> {
        let reserve = Reserve { key: Key::of_name(b"reference copies"), parent: None, len, time_to_live: None };
        Ok(Self { block: client.reserve(&[reserve], Room::Now)?.remove(0), next: 0 })
    }

    /// The rates of ordinary and of past-the-cache stores, copying each of `sources` in turn, `times` times over, to
    /// other places each time as puts do.
    pub(crate) fn rates(&mut self, sources: &[Vec<u8>], times: usize) -> Rates {
        let mut plain = |target: *mut u8, source: &[u8]| {
            // SAFETY: `rate` hands out room for the source within the block.
            unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) };
        };
        let mut past_cache = |target: *mut u8, source: &[u8]| {
            // SAFETY: as above.
            unsafe { copy_into_shared_memory(target, source) };
        };
        Rates { plain: self.rate(sources, times, &mut plain), past_cache: self.rate(sources, times, &mut past_cache) }
    }

    fn rate(&mut self, sources: &[Vec<u8>], times: usize, copy: &mut dyn FnMut(*mut u8, &[u8])) -> f64 {
        // As many places as the puts of a round use, which get theirs back from the round before.
        let round = times * sources.iter().map(|source| source.len().next_multiple_of(4096)).sum::<usize>();
        let (first, len) = (self.block.as_mut_ptr(), self.block.len().min(round));
        let mut copied = 0;
        let begin = Instant::now();
        for source in std::iter::repeat_n(sources, times).flatten() {
            if self.next + source.len() > len {
                self.next = 0;
            }
            // SAFETY: `next + source.len()` is within the block.
            copy(unsafe { first.add(self.next) }, source);
            self.next += source.len().next_multiple_of(4096);
            copied += source.len();
        }
        copied as f64 / begin.elapsed().as_secs_f64() / 1e9
    }
}
