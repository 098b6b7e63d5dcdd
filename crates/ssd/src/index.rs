//! [`Index`]: which blocks the file holds, and where. Pure state.
//!
//! Entries lie in lists, one a segment, because a segment's blocks go together when it makes way; a table finds an
//! entry by its key. A block takes 48 bytes in its list and between 6 and 12 in the table.

use std::hash::BuildHasher;

use chariot_types::Key;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table;

use crate::layout::Place;

/// A block that the file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// As a record has it: microseconds since 1970, 0 for never.
    pub(crate) expires_at: u64,
    /// Shorter than a segment, so 32 bits are enough.
    pub(crate) len: u32,
    page: u16,
    is_live: bool,
}

impl Entry {
    pub(crate) fn new(key: Key, len: u32, expires_at: u64) -> Self {
        Self { key, expires_at, len, page: 0, is_live: true }
    }

    pub(crate) fn has_expired(&self, now: u64) -> bool {
        self.expires_at != 0 && self.expires_at <= now
    }
}

/// Which entry of which segment's list. A segment has no more records than pages, so 16 bits are enough.
#[derive(Clone, Copy, Debug)]
struct Handle {
    segment: u16,
    at: u16,
}

#[derive(Default, Debug)]
struct Segment {
    entries: Vec<Entry>,
    live: u32,
}

/// Which blocks the file holds.
#[derive(Debug)]
pub(crate) struct Index {
    table: HashTable<Handle>,
    segments: Vec<Segment>,
    hasher: RandomState,
    bytes: u64,
}

impl Index {
    /// Of a file of `segments` segments that holds nothing.
    pub(crate) fn empty(segments: u32) -> Self {
        let segments = (0..segments).map(|_| Segment::default()).collect();
        Self { table: HashTable::new(), segments, hasher: RandomState::default(), bytes: 0 }
    }

    /// Blocks in it.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of those blocks.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The block called `key`, and where it is.
    pub(crate) fn find(&self, key: &Key) -> Option<(Place, &Entry)> {
        let handle = self.table.find(self.hasher.hash_one(key), |handle| self.entry(*handle).key == *key)?;
        let entry = self.entry(*handle);
        Some((Place { segment: handle.segment, page: entry.page }, entry))
    }

    /// Notes a block at `place`; where another one of this key was, which the index no longer knows.
    pub(crate) fn insert(&mut self, place: Place, entry: Entry) -> Option<Place> {
        let before = self.remove(&entry.key);
        let segment = &mut self.segments[usize::from(place.segment)];
        let at = u16::try_from(segment.entries.len()).expect("a segment has fewer records than 16 bits can number");
        segment.entries.push(Entry { page: place.page, is_live: true, ..entry });
        segment.live += 1;
        self.bytes += u64::from(entry.len);
        let (segments, hasher) = (&self.segments, &self.hasher);
        let hash_of = |handle: &Handle| hasher.hash_one(entry_of(segments, *handle).key);
        self.table.insert_unique(hasher.hash_one(entry.key), Handle { segment: place.segment, at }, hash_of);
        before
    }

    /// Forgets a block; where it was.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Place> {
        let (segments, hash) = (&self.segments, self.hasher.hash_one(key));
        let found = self.table.find_entry(hash, |handle| entry_of(segments, *handle).key == *key);
        let (handle, _) = found.ok().map(hash_table::OccupiedEntry::remove)?;
        let segment = &mut self.segments[usize::from(handle.segment)];
        segment.live -= 1;
        let entry = &mut segment.entries[usize::from(handle.at)];
        entry.is_live = false;
        self.bytes -= u64::from(entry.len);
        Some(Place { segment: handle.segment, page: entry.page })
    }

    /// Forgets all blocks of a segment, and says which they were.
    pub(crate) fn clear(&mut self, segment: u16) -> Vec<Key> {
        let entries = std::mem::take(&mut self.segments[usize::from(segment)].entries);
        let keys: Vec<Key> = entries.iter().filter(|entry| entry.is_live).map(|entry| entry.key).collect();
        for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_live) {
            let is_it = |handle: &Handle| handle.segment == segment && usize::from(handle.at) == at;
            let found = self.table.find_entry(self.hasher.hash_one(entry.key), is_it);
            found.expect("every live entry is in the table").remove();
            self.bytes -= u64::from(entry.len);
        }
        self.segments[usize::from(segment)].live = 0;
        keys
    }

    /// No more blocks come to a segment for now: what was kept for them is given back.
    pub(crate) fn close(&mut self, segment: u16) {
        self.segments[usize::from(segment)].entries.shrink_to_fit();
    }

    /// Blocks of a segment.
    pub(crate) fn live(&self, segment: u16) -> u32 {
        self.segments[usize::from(segment)].live
    }

    /// The blocks of a segment; `None` where there is no such segment.
    pub(crate) fn keys_of(&self, segment: usize) -> Option<Vec<Key>> {
        let segment = self.segments.get(segment)?;
        Some(segment.entries.iter().filter(|entry| entry.is_live).map(|entry| entry.key).collect())
    }

    fn entry(&self, handle: Handle) -> &Entry {
        entry_of(&self.segments, handle)
    }
}

fn entry_of(segments: &[Segment], handle: Handle) -> &Entry {
    &segments[usize::from(handle.segment)].entries[usize::from(handle.at)]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u8, u16),
        Remove(u8),
        Clear(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<u8>(), 0u16..4).prop_map(|(name, segment)| Step::Insert(name, segment)),
            2 => any::<u8>().prop_map(Step::Remove),
            1 => (0u16..4).prop_map(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn the_index_is_a_map_whose_segments_can_be_cleared(steps in proptest::collection::vec(step(), 0..300)) {
            let (mut index, mut naive) = (Index::empty(4), HashMap::new());
            let mut pages = [0; 4];
            for step in steps {
                match step {
                    Step::Insert(name, segment) => {
                        let page = &mut pages[usize::from(segment)];
                        let place = Place { segment, page: *page };
                        *page += 1;
                        let before = index.insert(place, Entry::new(Key::of_name(&[name]), u32::from(name), 0));
                        prop_assert_eq!(before, naive.insert(name, place));
                    }
                    Step::Remove(name) => prop_assert_eq!(index.remove(&Key::of_name(&[name])), naive.remove(&name)),
                    Step::Clear(segment) => {
                        pages[usize::from(segment)] = 0;
                        let gone = index.clear(segment).len();
                        let before = naive.len();
                        naive.retain(|_, place| place.segment != segment);
                        prop_assert_eq!(gone, before - naive.len());
                    }
                }
                prop_assert_eq!(index.len(), naive.len());
                prop_assert_eq!(index.bytes(), naive.keys().map(|name| u64::from(*name)).sum::<u64>());
                for segment in 0..4 {
                    let live = naive.values().filter(|place| place.segment == segment).count();
                    prop_assert_eq!(index.live(segment) as usize, live);
                }
            }
            for name in 0..=u8::MAX {
                let found = index.find(&Key::of_name(&[name])).map(|(place, _)| place);
                prop_assert_eq!(found, naive.get(&name).copied());
            }
        }
    }

    #[test]
    fn a_block_takes_64_bytes_at_the_most() {
        assert_eq!(size_of::<Entry>(), 48);
        assert_eq!(size_of::<Handle>(), 4);
        // The table grows when seven eighths of it are used, to twice its size: a control byte and a handle each.
        let most = 48.0 + 2.0 * 8.0 / 7.0 * 5.0;
        assert!(most < 64.0, "{most}");
    }
}
