//! [`Riders`]: one-way messages that are not worth sending alone.
//!
//! Sending a message wakes the worker, and to wake an idle processor takes as long as copying hundreds of kilobytes. So
//! releases of pins, and puts that follow one another closely, wait for company: they ride with the next request of
//! any kind, or the keeper sends them a millisecond later.

use std::time::{Duration, Instant};

use chariot_wire::limits::MAX_BATCH;
use chariot_wire::{FrameWriter, PutRecord, Request};
use zerocopy::little_endian::U64;

/// A put that comes sooner after the one before is one of a stream, and waits for company.
const STREAM: Duration = Duration::from_millis(1);

/// No more puts, and bytes of puts, than this wait.
const MOST_PUTS: usize = 256;
const MOST_PUT_BYTES: u64 = 64 << 20;

/// No more releases than this wait.
const MOST_RELEASES: usize = 4096;

/// What is to be sent with the next request, or soon.
#[derive(Default)]
pub(crate) struct Riders {
    releases: Vec<U64>,
    puts: Vec<PutRecord>,
    put_bytes: u64,
    last_put: Option<Instant>,
    /// The worker is to look at what this client still reads.
    look: bool,
}

/// When riders are to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Departure {
    Now,
    Soon,
}

impl Riders {
    /// Takes the release of a pin along.
    pub(crate) fn add_release(&mut self, block: u64) -> Departure {
        self.releases.push(U64::new(block));
        if self.releases.len() >= MOST_RELEASES { Departure::Now } else { Departure::Soon }
    }

    /// Takes along that something is not read any more for which the worker may be waiting.
    pub(crate) fn add_look(&mut self) -> Departure {
        self.look = true;
        Departure::Soon
    }

    /// Takes the announcement of blocks along, whose bytes are in place.
    pub(crate) fn add_puts(&mut self, records: &[PutRecord], now: Instant) -> Departure {
        let is_stream = self.last_put.is_some_and(|last| now.saturating_duration_since(last) < STREAM);
        self.last_put = Some(now);
        self.puts.extend_from_slice(records);
        self.put_bytes += records.iter().map(|record| record.extent().len).sum::<u64>();
        let is_crowd = self.puts.len() >= MOST_PUTS || self.put_bytes >= MOST_PUT_BYTES;
        if is_stream && !is_crowd { Departure::Soon } else { Departure::Now }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.releases.is_empty() && self.puts.is_empty() && !self.look
    }

    /// Writes all that waits.
    pub(crate) fn depart(&mut self, writer: &mut FrameWriter<'_>) {
        for releases in self.releases.chunks(MAX_BATCH) {
            writer.request(0, &Request::Release(releases), 0);
        }
        if std::mem::take(&mut self.look) {
            writer.request(0, &Request::Release(&[]), 0);
        }
        for puts in self.puts.chunks(MAX_BATCH) {
            writer.request(0, &Request::Put(puts), 0);
        }
        self.releases.clear();
        self.puts.clear();
        self.put_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chariot_types::{Extent, Key};
    use chariot_wire::InlineRecord;

    fn record(len: u64) -> PutRecord {
        PutRecord::new(InlineRecord::new(Key::of_name(b"k"), None, len, None), Extent { offset: 0, len })
    }

    #[test]
    fn a_lone_put_leaves_at_once_and_a_stream_waits_for_company() {
        let (mut riders, begin) = (Riders::default(), Instant::now());
        assert_eq!(riders.add_puts(&[record(64)], begin), Departure::Now);
        riders.depart(&mut FrameWriter::new(&mut Vec::new()));
        assert_eq!(riders.add_puts(&[record(64)], begin + STREAM / 2), Departure::Soon);
        assert_eq!(riders.add_puts(&[record(MOST_PUT_BYTES)], begin + STREAM), Departure::Now);
        riders.depart(&mut FrameWriter::new(&mut Vec::new()));
        assert!(riders.is_empty());
        assert_eq!(riders.add_puts(&[record(64)], begin + STREAM * 3), Departure::Now);
    }
}
