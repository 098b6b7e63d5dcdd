//! [`Regions`]: room of the arena that the worker granted to this connection ahead of need.
//!
//! A put takes its room from here without asking. While it copies, the next room is already asked for, so that a
//! stream of puts waits for no answer.

use std::time::{Duration, Instant};

use chariot_types::Extent;
use chariot_wire::{Reply, Request, micros};

use crate::connection::{Connection, Payload};
use crate::mailbox::Waited;
use crate::{ClientError, Room};

/// The part of the arena that one connection may hold ahead of need.
const SHARE_OF_ARENA: u64 = 32;

/// Less than this is not worth asking for.
const LEAST_ASK: u64 = 256 << 10;

/// How many batches like the last one are asked for ahead at first: few enough to matter little if they never come, and
/// enough that most puts send one message only.
const BATCHES_AHEAD: u64 = 8;

/// Asks that follow each other within this time are those of a stream of puts, and each is for twice as much.
const STREAM: Duration = Duration::from_millis(10);

/// About what is copied while the worker answers. A stream that asks when it has less left than this waits for the answer.
const ROUND_TRIP: u64 = 2 << 20;

/// Regions smaller than this part of what is needed go back to the worker.
const USELESS_PART: u64 = 8;

/// Room granted to one connection.
#[derive(Default)]
pub(crate) struct Regions {
    held: Vec<Extent>,
    asked: Option<u64>,
    /// When was asked ahead last, and for how much.
    last_ask: Option<(Instant, u64)>,
}

impl Connection {
    /// Takes room for blocks that need `rooms` bytes each (as [`Extent::room_for`] rounds them).
    pub(crate) fn take_room(&self, rooms: &[u64], when_full: Room) -> Result<Vec<Extent>, ClientError> {
        let mut left = rooms.iter().try_fold(0u64, |sum, room| sum.checked_add(*room)).unwrap_or(u64::MAX);
        let batch = left;
        // Held while waiting for a grant: others that put need the same answer.
        let mut regions = self.regions.lock();
        let mut taken = Vec::with_capacity(rooms.len());
        for room in rooms {
            match self.take_one(&mut regions, *room, left, when_full) {
                Ok(extent) => taken.push(extent),
                Err(error) => {
                    regions.held.extend(taken);
                    return Err(error);
                }
            }
            left = left.saturating_sub(*room);
        }
        self.ask_ahead(&mut regions, batch, rooms.iter().copied().max().unwrap_or(0));
        Ok(taken)
    }

    fn take_one(&self, regions: &mut Regions, room: u64, left: u64, when_full: Room) -> Result<Extent, ClientError> {
        loop {
            for (index, region) in regions.held.iter_mut().enumerate() {
                if let Some(carved) = region.carve(room) {
                    if region.len == 0 {
                        regions.held.swap_remove(index);
                    }
                    if carved.skipped.len > 0 {
                        regions.held.push(carved.skipped);
                    }
                    return Ok(carved.carved);
                }
            }
            self.give_back_remnants(regions, room)?;
            let granted = match regions.asked.take() {
                Some(id) => match self.collect_ask(id)? {
                    Some(extent) => extent,
                    None => continue,
                },
                None => self.ask(room, left, when_full)?,
            };
            if let Payload::Mapped(local) = &self.payload {
                self.touched.touch(local.arena(), granted);
            }
            regions.held.push(granted);
        }
    }

    fn ask(&self, room: u64, left: u64, when_full: Room) -> Result<Extent, ClientError> {
        let ahead = left.min(self.ahead_limit());
        let wait = when_full.left();
        let request = Request::Grant { min: room, want: left.saturating_add(ahead), wait: micros(wait) };
        self.call("grant", &request, &[], wait, |reply, _| match reply {
            Reply::Granted(extent) if extent.len >= room => Some(extent),
            _ => None,
        })
        .map_err(|error| match error {
            ClientError::NoRoom { .. } => ClientError::NoRoom { asked: room },
            ClientError::TooLarge { text, .. } => ClientError::TooLarge { asked: room, text },
            other => other,
        })
    }

    /// Asks for the next batch's room without waiting for it.
    fn ask_ahead(&self, regions: &mut Regions, batch: u64, largest: u64) {
        let held: u64 = regions.held.iter().map(|region| region.len).sum();
        let now = Instant::now();
        let stream = regions.last_ask.filter(|(at, _)| now.saturating_duration_since(*at) < STREAM);
        let enough = if stream.is_some() { batch.max(ROUND_TRIP) } else { batch };
        if regions.asked.is_some() || held >= enough || batch > self.ahead_limit() {
            return;
        }
        let more = stream.map_or(0, |(_, last)| 2 * last);
        let want = (BATCHES_AHEAD * batch).max(LEAST_ASK).max(more).min(self.ahead_limit());
        regions.last_ask = Some((now, want));
        regions.asked = self.start(&Request::Grant { min: largest, want, wait: 0 }, &[]).ok();
    }

    /// The answer to an ask made ahead; `None` when it was refused.
    fn collect_ask(&self, id: u64) -> Result<Option<Extent>, ClientError> {
        match self.wait_for(id, Instant::now() + self.request_timeout()) {
            Waited::Answer(answer) => {
                let granted = self.decode("grant", answer, |reply, _| match reply {
                    Reply::Granted(extent) => Some(extent),
                    _ => None,
                });
                Ok(granted.ok())
            }
            Waited::End => Err(self.unavailable()),
            Waited::TimedOut => {
                self.end();
                Err(ClientError::TimedOut { what: "grant" })
            }
        }
    }

    /// Gives back what is too small to be of use for blocks of the size now put.
    fn give_back_remnants(&self, regions: &mut Regions, room: u64) -> Result<(), ClientError> {
        let is_remnant = |region: &Extent| region.len < room.div_ceil(USELESS_PART).max(Extent::ALIGN);
        let many = regions.held.len() > 64;
        for index in (0..regions.held.len()).rev() {
            if many || is_remnant(&regions.held[index]) {
                self.tell(&Request::GiveBack(regions.held.swap_remove(index)))?;
            }
        }
        Ok(())
    }

    fn ahead_limit(&self) -> u64 {
        self.capacity / SHARE_OF_ARENA
    }
}
