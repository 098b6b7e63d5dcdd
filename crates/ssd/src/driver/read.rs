//! Reading: blocks that lie next to each other are read together, and each is believed only when its checksum fits.

use std::collections::VecDeque;
use std::io;
use std::time::{Instant, SystemTime};

use chariot_types::Key;

use crate::Loaded;
use crate::checksum::checksum;
use crate::driver::write::can_be_used_directly;
use crate::driver::{Driver, READS, What};
use crate::io::{Buffer, Way};
use crate::layout::{PAGE, Place};
use crate::memory::Memory;
use crate::pages::Pages;
use crate::record::{Record, Standing, micros_of};
use crate::state::{Answer, Health, Load};

/// Bytes of neighbours that are read together, unless one block alone has more.
const TOGETHER: u64 = 1 << 20;

/// A read under way.
pub(crate) struct Reading {
    start: Place,
    loads: Vec<Wanting>,
}

/// One block of it.
struct Wanting {
    key: Key,
    place: Place,
    len: usize,
    until: Instant,
    who: Who,
    into: Destination,
}

enum Who {
    Waits(Answer),
    /// The time was over.
    Gone,
}

/// Where the block's bytes go.
enum Destination {
    /// To the lent memory, which the read has.
    Lent,
    /// To pages of our own, and from there to this memory.
    Copied(Memory),
}

/// A wanted block, and where it is.
struct Placed {
    load: Load,
    place: Place,
    pages: u32,
    len: usize,
}

/// Why a block that was read is not handed out.
enum Flaw {
    /// It could not be read.
    Unreadable,
    /// It is not what was written, or not any more.
    Different,
}

impl Reading {
    /// Those whose time is over; they count as gone from now on.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Answer> {
        self.loads.iter_mut().filter(|load| load.until <= now).filter_map(Wanting::take_answer).collect()
    }

    /// All who wait; they count as gone from now on.
    pub(super) fn take_all(&mut self) -> Vec<Answer> {
        self.loads.iter_mut().filter_map(Wanting::take_answer).collect()
    }
}

impl Wanting {
    fn take_answer(&mut self) -> Option<Answer> {
        match std::mem::replace(&mut self.who, Who::Gone) {
            Who::Waits(answer) => Some(answer),
            Who::Gone => None,
        }
    }
}

impl Driver {
    /// Begins reads while blocks are wanted.
    pub(super) fn begin_reads(&mut self) {
        loop {
            let free = READS.saturating_sub(self.under_way(|what| matches!(what, What::Read(_))));
            let (placed, missing) = self.take_loads(free);
            let is_last = placed.len() < free || free == 0;
            self.miss(missing);
            for together in neighbours(placed) {
                self.begin_read(together);
            }
            if is_last {
                return;
            }
        }
    }

    /// Takes wanted blocks out of the queue: up to `most` that are in the file, in the order of their places, and those
    /// that are not.
    fn take_loads(&self, most: usize) -> (Vec<Placed>, Vec<Load>) {
        let now = micros_of(SystemTime::now());
        let (mut placed, mut missing, mut early) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut state = self.shared.state.lock();
        while placed.len() < most {
            let Some(load) = state.loads.pop_front() else { break };
            let found = state.find(&load.key, now).filter(|_| state.health != Health::Stalled);
            match found.filter(|(_, entry)| entry.len as usize <= load.memory.bytes().len()) {
                // It is on its way: when it has arrived, it can be read.
                None if found.is_none() && state.coming.contains_key(&load.key) => early.push_back(load),
                None => missing.push(load),
                Some((place, entry)) => {
                    let pages = Record::pages(entry.len.into()).expect("what is in the file has pages");
                    placed.push(Placed { load, place, pages, len: entry.len as usize });
                }
            }
        }
        state.loads.append(&mut early);
        placed.sort_by_key(|placed| placed.place);
        (placed, missing)
    }

    fn begin_read(&mut self, together: Vec<Placed>) {
        let Some(start) = together.first().map(|first| first.place) else { return };
        let (mut buffers, mut loads) = (Vec::new(), Vec::new());
        for Placed { load: Load { key, memory, until, answer }, place, pages, len } in together {
            let behind = (pages as usize - 1) * PAGE as usize;
            let into = if behind > 0 && can_be_used_directly(&memory, behind) {
                buffers.extend([Buffer::Own(Pages::zeroed(1)), Buffer::Lent { memory, len: behind }]);
                Destination::Lent
            } else {
                buffers.push(Buffer::Own(Pages::zeroed(pages as usize)));
                Destination::Copied(memory)
            };
            loads.push(Wanting { key, place, len, until, who: Who::Waits(answer), into });
        }
        let offset = self.file.layout.offset(start);
        self.fly(What::Read(Reading { start, loads }), Way::Read, offset, buffers);
    }

    /// A read has ended.
    pub(super) fn read(&mut self, reading: Reading, buffers: Vec<Buffer>, result: io::Result<()>) {
        if let Err(error) = &result {
            let (path, start) = (self.shared.path.display(), reading.start);
            tracing::warn!(%error, %path, segment = start.segment, page = start.page, "a read from the spill failed");
            self.shared.state.lock().stats.read_errors += 1;
        }
        let mut buffers = buffers.into_iter();
        let (mut lost, mut missing) = (Vec::new(), Vec::new());
        for Wanting { key, place, len, who, into, .. } in reading.loads {
            let (own, memory) = match (buffers.next(), into) {
                (Some(Buffer::Own(own)), Destination::Copied(memory)) => (own, memory),
                (Some(Buffer::Own(own)), Destination::Lent) => match buffers.next() {
                    Some(Buffer::Lent { memory, .. }) => (own, memory),
                    _ => unreachable!("a block's memory follows its header"),
                },
                _ => unreachable!("each block has its header"),
            };
            let Who::Waits(answer) = who else { continue };
            let checked = match &result {
                Ok(()) => self.check(&own, place, key, len, memory),
                Err(_) => Err((Flaw::Unreadable, memory)),
            };
            match checked {
                Ok((record, memory)) => {
                    {
                        let mut state = self.shared.state.lock();
                        state.stats.hits += 1;
                        state.stats.hit_bytes += len as u64;
                    }
                    answer(Loaded::Hit { block: record.block, memory });
                }
                Err((flaw, memory)) => {
                    lost.extend(self.doubt(key, place, flaw));
                    missing.push((answer, memory));
                }
            }
        }
        // Who is told of a miss finds that others have been told that the block is gone.
        self.tell_lost(lost, reading.start);
        missing.into_iter().for_each(|(answer, memory)| answer(Loaded::Miss { memory }));
    }

    /// Looks whether what was read is the block that was wanted, all of it, and completes the memory.
    fn check(
        &self,
        own: &Pages,
        place: Place,
        key: Key,
        len: usize,
        mut memory: Memory,
    ) -> Result<(Record, Memory), (Flaw, Memory)> {
        let is_it = |record: &Record| {
            record.identity == self.file.identity
                && record.place() == Some(place)
                && record.standing == Standing::Kept
                && (record.block.key, record.block.len) == (key, len as u64)
        };
        let Some(record) = Record::decode(own).filter(is_it) else { return Err((Flaw::Different, memory)) };
        if len as u64 <= Record::LONGEST_INLINE {
            memory.bytes_mut()[..len].copy_from_slice(&own[Record::LEN..Record::LEN + len]);
        } else if own.len() > PAGE as usize {
            memory.bytes_mut()[..len].copy_from_slice(&own[PAGE as usize..PAGE as usize + len]);
        }
        match checksum(memory.first(len)) == record.payload_checksum {
            true => Ok((record, memory)),
            false => Err((Flaw::Different, memory)),
        }
    }

    /// A block that was not what it should be is not asked for again, unless it has meanwhile gone by itself. The key of
    /// one that is lost thereby.
    fn doubt(&self, key: Key, place: Place, flaw: Flaw) -> Option<Key> {
        let mut state = self.shared.state.lock();
        state.stats.misses += 1;
        let is_still_there = state.index.find(&key).is_some_and(|(now, _)| now == place);
        match flaw {
            _ if !is_still_there => {}
            Flaw::Unreadable => drop(state.index.remove(&key)),
            Flaw::Different => {
                state.stats.corrupt += 1;
                state.forget(&key);
            }
        }
        is_still_there.then_some(key)
    }

    /// Tells of blocks that one read has lost.
    fn tell_lost(&mut self, lost: Vec<Key>, start: Place) {
        let Some(first) = lost.first() else { return };
        let path = self.shared.path.display();
        let (segment, page, blocks) = (start.segment, start.page, lost.len());
        tracing::warn!(%path, segment, page, blocks, %first, "blocks in the spill are lost");
        self.tell_gone(lost);
    }

    /// Answers for blocks that are not there.
    fn miss(&self, missing: Vec<Load>) {
        if missing.is_empty() {
            return;
        }
        self.shared.state.lock().stats.misses += missing.len() as u64;
        missing.into_iter().for_each(|load| (load.answer)(Loaded::Miss { memory: load.memory }));
    }

    /// Answers for blocks whose time is over before their read began, or that a disk that does not answer has.
    pub(super) fn miss_what_cannot_be_read(&self, now: Instant) {
        let missing = {
            let mut state = self.shared.state.lock();
            let is_stalled = state.health == Health::Stalled;
            let loads = std::mem::take(&mut state.loads);
            let (missing, waiting): (Vec<_>, Vec<_>) =
                loads.into_iter().partition(|load| is_stalled || load.until <= now);
            state.loads = waiting.into();
            missing
        };
        self.miss(missing);
    }
}

/// Groups what lies next to each other.
fn neighbours(placed: Vec<Placed>) -> Vec<Vec<Placed>> {
    let mut groups: Vec<Vec<Placed>> = Vec::new();
    let mut bytes = 0;
    for next in placed {
        let more = u64::from(next.pages) * PAGE;
        let last = groups.last().and_then(|group| group.last());
        let follows = last.is_some_and(|last| {
            let end = u32::from(last.place.page) + last.pages;
            last.place.segment == next.place.segment && end == u32::from(next.place.page)
        });
        match groups.last_mut() {
            Some(group) if follows && bytes + more <= TOGETHER => {
                bytes += more;
                group.push(next);
            }
            _ => {
                bytes = more;
                groups.push(vec![next]);
            }
        }
    }
    groups
}
