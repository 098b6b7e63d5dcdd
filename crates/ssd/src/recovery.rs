//! What the file holds, by what it says itself.
//!
//! Each segment is a row of records, each of which says how long it is: reading their headers, one after the other,
//! tells what is there. A row ends at the first page that holds no whole header of this file, this place and this
//! filling of the segment: where the last write was torn, or where the filling before shows through. Many segments are
//! read at the same time. Blocks themselves are not read: a torn one is found out by its checksum, when it is wanted.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use crate::file::SpillFile;
use crate::index::{Entry, Index};
use crate::io::{Buffer, Done, Engine, Operation, Way};
use crate::layout::Place;
use crate::log::Log;
use crate::pages::Pages;
use crate::record::{Record, Standing, micros_of};
use crate::state::Removal;

/// Segments that are read at the same time.
const DEPTH: usize = 32;

/// How long the disk may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found.
pub(crate) struct Found {
    pub(crate) index: Index,
    pub(crate) log: Log,
    /// Records whose block is in a later one as well, or was removed there.
    pub(crate) outdated: Vec<Removal>,
}

/// One segment's row of records, as far as it was read.
#[derive(Default)]
struct Row {
    filling: u64,
    next_page: u32,
    records: Vec<Record>,
}

/// Reads all headers.
pub(crate) fn recover(file: &SpillFile, engine: &mut dyn Engine) -> io::Result<Found> {
    let mut rows: Vec<Row> = (0..file.layout.segments()).map(|_| Row::default()).collect();
    let (mut unread, mut reading, mut failed) = (0..rows.len(), 0, 0_u64);
    let mut done = Vec::new();
    loop {
        while reading < DEPTH
            && let Some(segment) = unread.next()
        {
            engine.start(header_at(file, segment as u16, 0));
            reading += 1;
        }
        if reading == 0 {
            break;
        }
        let until = Instant::now() + PATIENCE;
        while done.is_empty() {
            engine.wait(until, &mut done);
            if done.is_empty() && Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        for done in done.drain(..) {
            reading -= 1;
            failed += u64::from(done.result.is_err());
            let segment = done.operation.id as u16;
            let row = &mut rows[usize::from(segment)];
            if row.take(file, segment, done) {
                engine.start(header_at(file, segment, row.next_page as u16));
                reading += 1;
            }
        }
    }
    if failed > 0 {
        tracing::warn!(failed, "some segments of the spill file cannot be read: what they hold is lost");
    }
    Ok(assemble(file, rows))
}

fn header_at(file: &SpillFile, segment: u16, page: u16) -> Operation {
    let offset = file.layout.offset(Place { segment, page });
    Operation { id: segment.into(), way: Way::Read, offset, buffers: vec![Buffer::Own(Pages::zeroed(1))] }
}

impl Row {
    /// Takes what was read; whether there may be a record behind it.
    fn take(&mut self, file: &SpillFile, segment: u16, done: Done) -> bool {
        let Some(Buffer::Own(page)) = done.operation.buffers.first().filter(|_| done.result.is_ok()) else {
            return false;
        };
        let Some(record) = Record::decode(page) else { return false };
        let is_here = record.identity == file.identity
            && (record.segment, record.page) == (segment.into(), self.next_page)
            && record.filling != 0
            && (self.next_page == 0 || record.filling == self.filling);
        let end = Record::pages(record.block.len).and_then(|pages| self.next_page.checked_add(pages));
        let Some(end) = end.filter(|end| is_here && *end <= file.layout.segment_pages()) else { return false };
        self.filling = record.filling;
        self.next_page = end;
        self.records.push(record);
        end < file.layout.segment_pages()
    }
}

/// What the rows say together, where the later record of a block holds.
fn assemble(file: &SpillFile, mut rows: Vec<Row>) -> Found {
    let now = micros_of(SystemTime::now());
    let log = Log::new(file.layout, rows.iter().map(|row| row.filling).collect());
    let (mut index, mut outdated) = (Index::empty(file.layout.segments()), Vec::new());
    rows.sort_by_key(|row| row.filling);
    for record in rows.into_iter().flat_map(|row| row.records) {
        let key = record.block.key;
        let entry = u32::try_from(record.block.len).ok().zip(record.place());
        let Some((len, place)) = entry else { continue };
        let len_before = index.find(&key).map_or(0, |(_, entry)| u64::from(entry.len));
        let expires_at = record.block.expires_at.map_or(0, micros_of);
        let entry = Entry::new(key, len, expires_at);
        let before = match record.standing {
            Standing::Kept if entry.has_expired(now) => index.remove(&key),
            Standing::Kept => index.insert(place, entry),
            Standing::Removed => index.remove(&key),
        };
        if let Some(place) = before {
            outdated.push(Removal { place, filling: log.filling(place.segment), key, len: len_before });
        }
    }
    (0..file.layout.segments()).for_each(|segment| index.close(segment as u16));
    Found { index, log, outdated }
}
