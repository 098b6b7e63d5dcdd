//! [`Layout`]: how the file is divided. One page says what the file is, then come segments of equal length.

/// What direct I/O is done in, in the file as in memory.
pub(crate) const PAGE: u64 = 4096;

/// The file's first page says what it is; segments begin behind this many bytes.
pub(crate) const HEAD: u64 = PAGE;

const SHORTEST_SEGMENT: u64 = 4 << 20;
const USUAL_SEGMENT: u64 = 64 << 20;
/// A place in a segment is 16 bits of pages.
const LONGEST_SEGMENT: u64 = (1 << 16) * PAGE;
/// A segment's number has 16 bits as well.
const MOST_SEGMENTS: u64 = 1 << 16;
/// Few enough blocks go when the oldest segment makes way.
const USUAL_SEGMENTS: u64 = 32;
const FEWEST_SEGMENTS: u64 = 4;

/// How a file is divided into segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    segment_len: u64,
    segments: u32,
}

/// Where a record begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) segment: u16,
    /// Pages from the segment's start.
    pub(crate) page: u16,
}

impl Layout {
    /// The shortest file there can be.
    pub(crate) const SHORTEST_FILE: u64 = HEAD + FEWEST_SEGMENTS * SHORTEST_SEGMENT;
    /// The longest file there can be.
    pub(crate) const LONGEST_FILE: u64 = HEAD + MOST_SEGMENTS * LONGEST_SEGMENT;

    /// The division of a new file of at most `capacity` bytes, which lie between the two bounds.
    pub(crate) fn of_new_file(capacity: u64) -> Self {
        let body = capacity - HEAD;
        let by_capacity = previous_power_of_two(body / USUAL_SEGMENTS).min(USUAL_SEGMENT);
        let by_number = body.div_ceil(MOST_SEGMENTS).next_power_of_two();
        let segment_len = by_capacity.max(by_number).clamp(SHORTEST_SEGMENT, LONGEST_SEGMENT);
        Self { segment_len, segments: (body / segment_len) as u32 }
    }

    /// The division of a file of at most `capacity` bytes whose segments have `segment_len` bytes already; `None`
    /// where that is no length of segments, or they would be too few or too many.
    pub(crate) fn of_found_file(capacity: u64, segment_len: u64) -> Option<Self> {
        let lengths = SHORTEST_SEGMENT..=LONGEST_SEGMENT;
        if !segment_len.is_power_of_two() || !lengths.contains(&segment_len) {
            return None;
        }
        let segments = capacity.checked_sub(HEAD)? / segment_len;
        let is_usable = (FEWEST_SEGMENTS..=MOST_SEGMENTS).contains(&segments);
        is_usable.then_some(Self { segment_len, segments: segments as u32 })
    }

    pub(crate) fn segment_len(self) -> u64 {
        self.segment_len
    }

    pub(crate) fn segments(self) -> u32 {
        self.segments
    }

    /// Pages of a segment.
    pub(crate) fn segment_pages(self) -> u32 {
        (self.segment_len / PAGE) as u32
    }

    /// Bytes of the whole file.
    pub(crate) fn file_len(self) -> u64 {
        HEAD + self.segment_len * u64::from(self.segments)
    }

    /// Where `place` is in the file.
    pub(crate) fn offset(self, place: Place) -> u64 {
        HEAD + self.segment_len * u64::from(place.segment) + PAGE * u64::from(place.page)
    }
}

fn previous_power_of_two(number: u64) -> u64 {
    number.checked_ilog2().map_or(0, |bits| 1 << bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_capacity_is_divided_within_its_bounds(capacity in Layout::SHORTEST_FILE..=Layout::LONGEST_FILE) {
            let layout = Layout::of_new_file(capacity);
            prop_assert!(layout.file_len() <= capacity);
            prop_assert!(capacity - layout.file_len() < layout.segment_len());
            prop_assert_eq!(Layout::of_found_file(capacity, layout.segment_len()), Some(layout));
            prop_assert!((FEWEST_SEGMENTS..=MOST_SEGMENTS).contains(&layout.segments().into()));
        }
    }

    #[test]
    fn usual_files_have_usual_segments() {
        assert_eq!(Layout::of_new_file(64 << 30).segment_len(), USUAL_SEGMENT);
        assert_eq!(Layout::of_new_file(Layout::SHORTEST_FILE).segments(), 4);
        assert_eq!(Layout::of_new_file(Layout::LONGEST_FILE).segment_len(), LONGEST_SEGMENT);
    }

    #[test]
    fn lengths_that_no_file_has_are_refused() {
        for segment_len in [0, 1, PAGE, SHORTEST_SEGMENT + PAGE, LONGEST_SEGMENT * 2, u64::MAX] {
            assert_eq!(Layout::of_found_file(64 << 30, segment_len), None);
        }
        assert_eq!(Layout::of_found_file(0, SHORTEST_SEGMENT), None);
        assert_eq!(Layout::of_found_file(u64::MAX, SHORTEST_SEGMENT), None);
    }
}
