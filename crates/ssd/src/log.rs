//! [`Log`]: where the next record goes, and which segment makes way for it. Pure state.
//!
//! The file is written as a log: one segment after the other, each from its start to its end. When none is free, the
//! segment goes that has no block left, else the one that was filled first. Blocks that came together go together, and
//! a pool that evicts children before their parents has its children's records go first as well.

use crate::index::Index;
use crate::layout::{Layout, Place};

/// Where the next record goes.
#[derive(Debug)]
pub(crate) struct Log {
    layout: Layout,
    segments: Vec<Segment>,
    open: Option<Open>,
    next_filling: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Segment {
    /// The number of its filling; 0 if it was never filled.
    filling: u64,
    /// Writes that are under way in it.
    writes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    segment: u16,
    next_page: u32,
}

/// What the log says of the next records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// They go to `place`, which has this many pages left in its segment.
    Room { place: Place, pages: u32 },
    /// A segment is full: [`Log::begin_segment`].
    NoneOpen,
}

impl Log {
    /// Of a file whose segments hold the fillings `fillings`, 0 for none.
    pub(crate) fn new(layout: Layout, fillings: Vec<u64>) -> Self {
        let next_filling = fillings.iter().max().map_or(1, |last| last + 1);
        let segments = fillings.into_iter().map(|filling| Segment { filling, writes: 0 }).collect();
        Self { layout, segments, open: None, next_filling }
    }

    /// Where a record of `pages` pages, and others behind it, would go now.
    pub(crate) fn next(&self, pages: u32) -> Next {
        match self.open {
            Some(Open { segment, next_page }) if pages <= self.layout.segment_pages() - next_page => {
                let page = u16::try_from(next_page).expect("a page that has room is in its segment");
                Next::Room { place: Place { segment, page }, pages: self.layout.segment_pages() - next_page }
            }
            _ => Next::NoneOpen,
        }
    }

    /// Takes `pages` pages of the room that [`Log::next`] told of, for a write that begins.
    pub(crate) fn take(&mut self, pages: u32) {
        if let Some(open) = &mut self.open {
            open.next_page += pages;
            self.segments[usize::from(open.segment)].writes += 1;
        }
    }

    /// Another write begins in a segment.
    pub(crate) fn write_begins(&mut self, segment: u16) {
        self.segments[usize::from(segment)].writes += 1;
    }

    /// A write in a segment has ended.
    pub(crate) fn write_ends(&mut self, segment: u16) {
        self.segments[usize::from(segment)].writes -= 1;
    }

    /// Whether records go to `segment` now.
    pub(crate) fn is_open(&self, segment: u16) -> bool {
        self.open.is_some_and(|open| open.segment == segment)
    }

    /// Nothing more goes to the open segment, which is told: after a failed write, records behind it would not be
    /// found again.
    pub(crate) fn close_segment(&mut self) -> Option<u16> {
        self.open.take().map(|open| open.segment)
    }

    /// Opens the segment that goes next; `None` while all that could are being written to. Its blocks are still in the
    /// index: whoever calls takes them out.
    pub(crate) fn begin_segment(&mut self, index: &Index) -> Option<u16> {
        let numbered = || self.segments.iter().enumerate().map(|(number, segment)| (number as u16, segment));
        let idle = numbered().filter(|(_, segment)| segment.writes == 0);
        let (segment, _) = idle.min_by_key(|(number, segment)| (index.live(*number) != 0, segment.filling))?;
        self.segments[usize::from(segment)].filling = self.next_filling;
        self.next_filling += 1;
        self.open = Some(Open { segment, next_page: 0 });
        Some(segment)
    }

    /// The number of a segment's filling.
    pub(crate) fn filling(&self, segment: u16) -> u64 {
        self.segments[usize::from(segment)].filling
    }

    /// Whether a segment is among the quarter that goes next: what is used and lies there is better written anew.
    pub(crate) fn goes_soon(&self, segment: u16) -> bool {
        let newest = self.next_filling - 1;
        let age = newest - self.filling(segment);
        age >= self.segments.len() as u64 * 3 / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chariot_types::Key;

    use crate::index::Entry;

    fn log() -> (Log, Index) {
        let layout = Layout::of_new_file(Layout::SHORTEST_FILE);
        (Log::new(layout, vec![0; 4]), Index::empty(4))
    }

    fn fill(log: &mut Log, index: &mut Index) -> u16 {
        let segment = log.begin_segment(index).unwrap();
        index.clear(segment);
        let Next::Room { place, pages } = log.next(1) else { panic!("a segment was begun") };
        index.insert(place, Entry::new(Key::of_name(&segment.to_le_bytes()), 1, 0));
        log.take(pages);
        log.write_ends(segment);
        assert_eq!(log.next(1), Next::NoneOpen);
        segment
    }

    #[test]
    fn the_segment_that_was_filled_first_goes_first() {
        let (mut log, mut index) = log();
        let first: Vec<u16> = (0..4).map(|_| fill(&mut log, &mut index)).collect();
        let second: Vec<u16> = (0..4).map(|_| fill(&mut log, &mut index)).collect();
        assert_eq!(first, second);
    }

    #[test]
    fn a_segment_with_no_block_left_goes_before_all_others() {
        let (mut log, mut index) = log();
        let filled: Vec<u16> = (0..4).map(|_| fill(&mut log, &mut index)).collect();
        index.clear(filled[2]);
        assert_eq!(fill(&mut log, &mut index), filled[2]);
        assert_eq!(fill(&mut log, &mut index), filled[0]);
    }

    #[test]
    fn a_segment_that_is_written_to_does_not_go() {
        let (mut log, mut index) = log();
        let filled: Vec<u16> = (0..4).map(|_| fill(&mut log, &mut index)).collect();
        log.write_begins(filled[0]);
        assert_eq!(fill(&mut log, &mut index), filled[1]);
        log.write_ends(filled[0]);
        assert_eq!(fill(&mut log, &mut index), filled[0]);
        (0..4).for_each(|segment| log.write_begins(segment));
        assert_eq!(log.begin_segment(&index), None);
    }

    #[test]
    fn fillings_go_on_after_the_greatest_found() {
        let layout = Layout::of_new_file(Layout::SHORTEST_FILE);
        let mut log = Log::new(layout, vec![7, 0, 9, 8]);
        let index = Index::empty(4);
        let segment = log.begin_segment(&index).unwrap();
        assert_eq!((segment, log.filling(segment)), (1, 10));
        assert!(log.goes_soon(0) && !log.goes_soon(2));
    }
}
