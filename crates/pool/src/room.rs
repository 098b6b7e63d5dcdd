//! [`Room`]: which bytes of the arena are nobody's.
//!
//! Best fit with coalescing, every operation in O(log n) of the number of free runs. Knows nothing of owners or
//! blocks.

use std::collections::{BTreeMap, BTreeSet};

use chariot_types::Extent;

/// The free runs of an arena: none empty, none adjacent to another.
#[derive(Debug)]
pub(crate) struct Room {
    capacity: u64,
    free: u64,
    /// Offset to length.
    runs: BTreeMap<u64, u64>,
    /// (length, offset) of every run.
    by_len: BTreeSet<(u64, u64)>,
    /// (length, offset) of the whole pages within each run, where there are any.
    by_pages: BTreeSet<(u64, u64)>,
}

impl Room {
    /// All of `capacity` bytes, rounded down to whole [`Extent::ALIGN`]s, free.
    pub(crate) fn new(capacity: u64) -> Self {
        let capacity = capacity - capacity % Extent::ALIGN;
        let mut room =
            Self { capacity, free: 0, runs: BTreeMap::new(), by_len: BTreeSet::new(), by_pages: BTreeSet::new() };
        if capacity > 0 {
            room.add(Extent { offset: 0, len: capacity });
        }
        room
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    pub(crate) fn largest_run(&self) -> u64 {
        self.by_len.last().map_or(0, |&(len, _)| len)
    }

    /// Takes between `min` and `want` bytes in one run, beginning at a page if `min` is at least a page: from the
    /// smallest run that has `want`, else all of the largest that has `min`. Both are multiples of
    /// [`Extent::ALIGN`], `0 < min <= want`.
    pub(crate) fn take(&mut self, min: u64, want: u64) -> Option<Extent> {
        debug_assert!(
            0 < min && min <= want && min.is_multiple_of(Extent::ALIGN) && want.is_multiple_of(Extent::ALIGN)
        );
        let paged = min >= Extent::PAGE;
        let sizes = if paged { &self.by_pages } else { &self.by_len };
        let fits = sizes.range((want, 0)..).next().or_else(|| sizes.last().filter(|&&(len, _)| len >= min));
        let &(_, start) = fits?;
        let (&offset, &len) = self.runs.range(..=start).next_back().expect("every size listed is a run's");
        let end = offset + len;
        let taken = Extent { offset: start, len: want.min(end - start) };
        self.cut(Extent { offset, len }, taken);
        Some(taken)
    }

    /// Takes these bytes; false, and nothing changed, if some of them are not free.
    pub(crate) fn take_at(&mut self, taken: Extent) -> bool {
        let Some((&offset, &len)) = self.runs.range(..=taken.offset).next_back() else { return false };
        let run = Extent { offset, len };
        let is_free = taken.len > 0 && run.contains(taken);
        if is_free {
            self.cut(run, taken);
        }
        is_free
    }

    /// Takes `taken` out of the free run that it lies in.
    fn cut(&mut self, run: Extent, taken: Extent) {
        self.remove(run);
        if run.offset < taken.offset {
            self.add(Extent { offset: run.offset, len: taken.offset - run.offset });
        }
        let (after, end) = (taken.offset + taken.len, run.offset + run.len);
        if after < end {
            self.add(Extent { offset: after, len: end - after });
        }
    }

    /// Returns bytes that were taken, in whatever pieces.
    pub(crate) fn put_back(&mut self, extent: Extent) {
        let (mut start, mut end) = (extent.offset, extent.offset + extent.len);
        if let Some((&offset, &len)) = self.runs.range(..start).next_back() {
            debug_assert!(offset + len <= start, "bytes were returned twice");
            if offset + len == start {
                self.remove(Extent { offset, len });
                start = offset;
            }
        }
        if let Some((&offset, &len)) = self.runs.range(extent.offset..).next() {
            debug_assert!(end <= offset, "bytes were returned twice");
            if offset == end {
                self.remove(Extent { offset, len });
                end = offset + len;
            }
        }
        self.add(Extent { offset: start, len: end - start });
    }

    fn add(&mut self, run: Extent) {
        self.free += run.len;
        self.runs.insert(run.offset, run.len);
        self.by_len.insert((run.len, run.offset));
        self.by_pages.extend(whole_pages(run));
    }

    fn remove(&mut self, run: Extent) {
        self.free -= run.len;
        self.runs.remove(&run.offset);
        self.by_len.remove(&(run.len, run.offset));
        if let Some(pages) = whole_pages(run) {
            self.by_pages.remove(&pages);
        }
    }
}

/// (length, offset) of what is left of `run` when it must begin at a page, if that is at least a page.
fn whole_pages(run: Extent) -> Option<(u64, u64)> {
    let end = run.offset + run.len;
    let start = run.offset.checked_next_multiple_of(Extent::PAGE)?;
    let len = end.checked_sub(start)?;
    (len >= Extent::PAGE).then_some((len, start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn align(len: u64) -> u64 {
        len * Extent::ALIGN
    }

    proptest! {
        #[test]
        fn room_is_never_given_twice_nor_lost(
            capacity in 0u64..4_000,
            steps in proptest::collection::vec((any::<bool>(), 1u64..300, 0u64..300, any::<proptest::sample::Index>()), 0..200),
        ) {
            let capacity = align(capacity);
            let mut room = Room::new(capacity);
            let mut taken: Vec<Extent> = Vec::new();
            for (take, min, more, index) in steps {
                if take || taken.is_empty() {
                    let (min, want) = (align(min), align(min + more));
                    let largest = room.largest_run();
                    match room.take(min, want) {
                        Some(extent) => {
                            prop_assert!(min <= extent.len && extent.len <= want);
                            prop_assert!(min < Extent::PAGE || extent.offset.is_multiple_of(Extent::PAGE));
                            prop_assert!(extent.end().unwrap() <= capacity);
                            for other in &taken {
                                prop_assert!(extent.end() <= Some(other.offset) || other.end() <= Some(extent.offset));
                            }
                            taken.push(extent);
                        }
                        None if min < Extent::PAGE => prop_assert!(largest < min),
                        None => prop_assert!(largest < min + Extent::PAGE),
                    }
                } else {
                    let index = index.index(taken.len());
                    let extent = taken.swap_remove(index);
                    // In two pieces where it can be cut, as owners return grants.
                    let half = extent.len / 2 / Extent::ALIGN * Extent::ALIGN;
                    if half > 0 {
                        room.put_back(Extent { offset: extent.offset + half, len: extent.len - half });
                        room.put_back(Extent { offset: extent.offset, len: half });
                    } else {
                        room.put_back(extent);
                    }
                }
                let used: u64 = taken.iter().map(|extent| extent.len).sum();
                prop_assert_eq!(room.free() + used, capacity);
                prop_assert_eq!(room.by_len.len(), room.runs.len());
                let runs: Vec<_> = room.runs.iter().collect();
                prop_assert!(runs.windows(2).all(|two| two[0].0 + two[0].1 < *two[1].0));
            }
            for extent in taken {
                room.put_back(extent);
            }
            prop_assert_eq!(room.largest_run(), capacity);
            prop_assert_eq!(room.by_pages.len(), usize::from(capacity >= Extent::PAGE));
        }
    }

    #[test]
    fn the_smallest_run_that_has_it_all_is_cut() {
        let mut room = Room::new(align(100));
        let pieces: Vec<Extent> =
            [10, 1, 30, 1, 20, 1].map(|len| room.take(align(len), align(len)).unwrap()).into_iter().collect();
        for at in [0, 2, 4] {
            room.put_back(pieces[at]);
        }
        assert_eq!(room.take(align(1), align(15)).unwrap().offset, pieces[4].offset);
        assert_eq!(room.take(align(1), align(99)).unwrap().len, align(100 - 63));
    }

    #[test]
    fn capacities_at_both_ends_are_taken_as_they_are() {
        assert_eq!(Room::new(63).largest_run(), 0);
        let mut room = Room::new(u64::MAX);
        let all = room.capacity();
        assert_eq!(room.take(all, all), Some(Extent { offset: 0, len: all }));
        room.put_back(Extent { offset: 0, len: all });
        assert_eq!(room.free(), all);
    }
}
