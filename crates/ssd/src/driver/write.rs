//! Writing: blocks that wait are gathered into one long write, headers and blocks in turns.

use std::io;
use std::time::Instant;

use chariot_types::Key;

use crate::Block;
use crate::checksum::checksum;
use crate::driver::{Driver, FIRST_REST, LONGEST_REST, WRITES, What};
use crate::index::Entry;
use crate::io::{Buffer, Way};
use crate::layout::{PAGE, Place};
use crate::log::Next;
use crate::memory::Memory;
use crate::pages::Pages;
use crate::record::{Record, Standing, micros_of};
use crate::state::{Health, State, Store};

/// Bytes that are gathered into one write, unless one block alone has more.
const BATCH: u64 = 2 << 20;

/// Blocks that are gathered into one write: two buffers each, of which the kernel takes 1024.
const MOST_BLOCKS: usize = 256;

/// A write under way.
pub(crate) struct Writing {
    segment: u16,
    records: Vec<Written>,
}

struct Written {
    block: Block,
    place: Place,
    ticket: u64,
}

/// Blocks that go into one write, one after the other from `place`.
struct Batch {
    place: Place,
    filling: u64,
    stores: Vec<Store>,
}

impl Driver {
    /// Begins writes while there are blocks to write.
    pub(super) fn begin_writes(&mut self) {
        while self.under_way(|what| matches!(what, What::Write(_))) < WRITES {
            let (gathered, gone) = {
                let mut state = self.shared.state.lock();
                if state.health != Health::Well {
                    return;
                }
                gather(&mut state)
            };
            self.tell_gone(gone);
            let Some(batch) = gathered else { return };
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Batch) {
        let Batch { place: start, filling, stores } = batch;
        let (mut buffers, mut records, mut place) = (Vec::with_capacity(2 * stores.len()), Vec::new(), start);
        for Store { block, memory, pages, ticket, .. } in stores {
            let record = Record {
                identity: self.file.identity,
                filling,
                segment: place.segment.into(),
                page: place.page.into(),
                standing: Standing::Kept,
                payload_checksum: checksum(memory.first(block.len as usize)),
                block,
            };
            lay_out(&record, memory, &mut buffers);
            records.push(Written { block: record.block, place, ticket });
            // The last record of a segment may end where its pages do; no record begins there.
            place.page = place.page.wrapping_add(pages as u16);
        }
        let writing = Writing { segment: start.segment, records };
        self.fly(What::Write(writing), Way::Write, self.file.layout.offset(start), buffers);
    }

    /// A write has ended.
    pub(super) fn written(&mut self, writing: Writing, result: io::Result<()>) {
        self.shared.state.lock().log.write_ends(writing.segment);
        match result {
            Ok(()) => self.keep(writing.records),
            Err(error) => self.lose(writing, &error),
        }
    }

    fn keep(&mut self, records: Vec<Written>) {
        self.rest = FIRST_REST;
        let mut state = self.shared.state.lock();
        state.stats.writes += 1;
        records.into_iter().for_each(|written| state.keep(written));
    }

    fn lose(&mut self, Writing { segment, records }: Writing, error: &io::Error) {
        let (path, rest) = (self.shared.path.display(), self.rest);
        tracing::warn!(%error, %path, ?rest, "a write to the spill failed: its blocks are dropped");
        let gone = {
            let mut state = self.shared.state.lock();
            state.stats.write_errors += 1;
            // Behind what was not written, nothing is found after a restart.
            if state.log.is_open(segment) {
                state.log.close_segment();
            }
            state.health = Health::Resting { until: Instant::now() + rest };
            records.into_iter().filter_map(|written| state.lose(&written)).collect()
        };
        self.rest = (rest * 2).min(LONGEST_REST);
        self.tell_gone(gone);
    }
}

impl State {
    fn is_coming(&self, written: &Written) -> bool {
        self.coming.get(&written.block.key).is_some_and(|coming| coming.ticket == written.ticket)
    }

    /// A block is in the file: it can be found, unless it was removed meanwhile.
    fn keep(&mut self, written: Written) {
        let Block { key, len, expires_at, .. } = written.block;
        if !self.is_coming(&written) {
            return self.strike(written.place, key, len);
        }
        self.coming.remove(&key);
        self.stats.stored += 1;
        self.stats.stored_bytes += len;
        let len_before = self.index.find(&key).map_or(0, |(_, entry)| u64::from(entry.len));
        let len = u32::try_from(len).expect("a record's block is shorter than a segment");
        let entry = Entry::new(key, len, expires_at.map_or(0, micros_of));
        if let Some(before) = self.index.insert(written.place, entry) {
            self.strike(before, key, len_before);
        }
    }

    /// A block is not in the file; its key, if it can be found no more because of that.
    fn lose(&mut self, written: &Written) -> Option<Key> {
        if !self.is_coming(written) {
            return None;
        }
        self.coming.remove(&written.block.key);
        self.stats.dropped += 1;
        self.index.find(&written.block.key).is_none().then_some(written.block.key)
    }
}

/// Takes what goes into the next write out of the queue; and which blocks made way for it.
fn gather(state: &mut State) -> (Option<Batch>, Vec<Key>) {
    let mut gone = Vec::new();
    let Some(first) = state.stores.front().map(|store| store.pages) else { return (None, gone) };
    if state.log.next(first) == Next::NoneOpen {
        if let Some(full) = state.log.close_segment() {
            state.index.close(full);
        }
        let State { log, index, .. } = &mut *state;
        let Some(segment) = log.begin_segment(index) else { return (None, gone) };
        gone = state.index.clear(segment);
        state.stats.reclaimed += gone.len() as u64;
        // What is being written anew can still be found.
        gone.retain(|key| !state.coming.contains_key(key));
    }
    let Next::Room { place, pages: room } = state.log.next(first) else { return (None, gone) };
    let (mut stores, mut taken) = (Vec::new(), 0);
    while let Some(pages) = state.stores.front().map(|store| store.pages) {
        let is_too_much = u64::from(taken + pages) * PAGE > BATCH || stores.len() == MOST_BLOCKS;
        if taken + pages > room || (taken > 0 && is_too_much) {
            break;
        }
        let Some(store) = state.take_store() else { break };
        taken += pages;
        stores.push(store);
    }
    state.log.take(taken);
    (Some(Batch { place, filling: state.log.filling(place.segment), stores }), gone)
}

/// Adds a record's pages to `buffers`: the header's, and the block's own memory where direct I/O can take it.
fn lay_out(record: &Record, memory: Memory, buffers: &mut Vec<Buffer>) {
    let len = record.block.len as usize;
    let pages = Record::pages(record.block.len).expect("it was looked at before") as usize;
    let behind = (pages - 1) * PAGE as usize;
    if behind > 0 && can_be_used_directly(&memory, behind) {
        let mut header = Pages::zeroed(1);
        record.encode(&mut header);
        buffers.extend([Buffer::Own(header), Buffer::Lent { memory, len: behind }]);
    } else {
        let mut copy = Pages::zeroed(pages);
        record.encode(&mut copy);
        let start = if behind > 0 { PAGE as usize } else { Record::LEN };
        copy[start..start + len].copy_from_slice(memory.first(len));
        buffers.push(Buffer::Own(copy));
    }
}

/// Whether direct I/O can take the first `len` bytes of some memory, whole pages, as they are.
pub(super) fn can_be_used_directly(memory: &Memory, len: usize) -> bool {
    let bytes = memory.bytes();
    bytes.cast::<u8>().as_ptr().addr().is_multiple_of(PAGE as usize) && bytes.len() >= len
}
