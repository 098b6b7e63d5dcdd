//! Following a block that grows.
//!
//! On the worker's host its writer says on the board how far it is, and wakes those who wait: one wake-up, and no message.
//! What the writer does not say there (it is on another host, or another block has taken its word), the index shows a
//! little later; and of what neither knows, the worker is asked.

use std::sync::atomic::Ordering;
use std::time::Instant;

use chariot_index::{Board, Found, Grown};
use chariot_wire::limits::MAX_WAIT_MICROS;
use chariot_wire::{Progress, Reply, Request, micros};

use crate::block::{Bytes, Inner};
use crate::connection::Payload;
use crate::local::Local;
use crate::lookout::{Ringer, look_until};
use crate::{Block, ClientError};

/// How a block is, as far as a client sees by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sight {
    /// It is whole.
    Whole,
    /// It will never be.
    Lost,
    /// So many bytes can be read.
    Growing(usize),
    /// So many bytes can be read, and the block is no longer found under its key.
    Unlisted(usize),
    /// Only the worker knows.
    Unsure,
}

impl Block {
    /// Waits until more than `beyond` bytes can be read, the block is whole, or it is lost.
    pub fn wait_beyond(&self, beyond: usize, deadline: Instant) -> Result<Progress, ClientError> {
        let inner = &*self.inner;
        let _watch = inner.watch.lock();
        if self.is_sealed() {
            return Ok(Progress::Sealed);
        }
        let readable = self.readable();
        if readable > beyond {
            return Ok(Progress::Readable(readable as u64));
        }
        let seen = inner.wait_until(deadline, |sight| match sight {
            Sight::Whole => Some(Some(Progress::Sealed)),
            Sight::Lost => Some(Some(Progress::Lost)),
            Sight::Growing(to) | Sight::Unlisted(to) => (to > beyond).then_some(Some(Progress::Readable(to as u64))),
            Sight::Unsure => Some(None),
        })?;
        match seen {
            Some(Some(progress)) => Ok(progress),
            Some(None) => inner.ask(beyond, deadline),
            None => Ok(Progress::TimedOut),
        }
    }

    /// Waits until the block is whole (`true`), or this block will not be what is found whole under its key (`false`).
    /// `None` when neither is known before `deadline`.
    pub(crate) fn wait_until_whole(&self, deadline: Instant) -> Result<Option<bool>, ClientError> {
        if self.is_sealed() {
            return Ok(Some(true));
        }
        self.inner.wait_until(deadline, |sight| match sight {
            Sight::Whole => Some(true),
            Sight::Lost | Sight::Unlisted(_) | Sight::Unsure => Some(false),
            Sight::Growing(_) => None,
        })
    }
}

impl Inner {
    /// Looks until `is_it` has an answer, or `deadline`; sleeps in between.
    fn wait_until<T>(&self, deadline: Instant, is_it: impl Fn(Sight) -> Option<T>) -> Result<Option<T>, ClientError> {
        look_until(&self.connection, &self.key, Ringer::IsSeen, deadline, || is_it(self.look()))
    }

    /// How the block is, as far as this client sees by itself; notes what it sees.
    fn look(&self) -> Sight {
        let sight = self.sight();
        match sight {
            Sight::Whole => {
                self.readable.store(self.len, Ordering::Release);
                self.is_sealed.store(true, Ordering::Release);
            }
            Sight::Growing(to) | Sight::Unlisted(to) => {
                self.readable.fetch_max(to, Ordering::AcqRel);
            }
            Sight::Lost | Sight::Unsure => {}
        }
        sight
    }

    fn sight(&self) -> Sight {
        let (Some((local, board)), Some(number)) = (self.shared(), self.number()) else { return Sight::Unsure };
        let said = match board.grown(self.offset) {
            Some(Grown::Whole) => return Sight::Whole,
            Some(Grown::Lost) => return Sight::Lost,
            Some(Grown::To(bytes)) => usize::try_from(bytes).ok().filter(|bytes| *bytes <= self.len),
            None => None,
        };
        let listing = match local.find(&self.key) {
            Found::Listed(listing) if listing.block == number => Some(listing),
            _ => None,
        };
        match (said, listing) {
            (_, Some(listing)) if listing.sealed => Sight::Whole,
            (said, Some(listing)) => {
                let shown = usize::try_from(listing.readable).unwrap_or(0).min(self.len);
                Sight::Growing(shown.max(said.unwrap_or(0)))
            }
            (Some(said), None) => Sight::Unlisted(said),
            (None, None) => Sight::Unsure,
        }
    }

    /// What this client shares with the worker and with writers.
    fn shared(&self) -> Option<(&Local, &Board)> {
        match &self.connection.payload {
            Payload::Mapped(local) => Some((local, local.board()?)),
            Payload::Inline => None,
        }
    }

    /// Has the worker say when more than `beyond` bytes can be read.
    fn ask(&self, beyond: usize, deadline: Instant) -> Result<Progress, ClientError> {
        let Some(block) = self.number() else { return Err(ClientError::WrongAnswer { what: "watch" }) };
        let readable = self.readable.load(Ordering::Acquire);
        let wait = deadline.saturating_duration_since(Instant::now());
        let micros = micros(wait).min(MAX_WAIT_MICROS);
        let request = Request::Watch { block, beyond: beyond as u64, wait: micros };
        let (progress, payload) = self.connection.call("watch", &request, &[], wait, |reply, payload| match reply {
            Reply::Progress(progress) => Some((progress, payload)),
            _ => None,
        })?;
        let wrong = ClientError::WrongAnswer { what: "watch" };
        let now_readable = match progress {
            Progress::Readable(bytes) => bytes as usize,
            Progress::Sealed => self.len,
            Progress::Lost | Progress::TimedOut => return Ok(progress),
        };
        if now_readable > self.len || now_readable < readable {
            return Err(wrong);
        }
        if let Bytes::Inline(first) = &self.bytes {
            if beyond.checked_add(payload.len()) != Some(now_readable) || beyond != readable {
                return Err(wrong);
            }
            // SAFETY: the block's own memory has `len` bytes; those from `readable` on are read by nobody until the
            // store below publishes them, and `watch` keeps other writers out.
            unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), first.as_ptr().add(beyond), payload.len()) };
        }
        self.readable.store(now_readable, Ordering::Release);
        if progress == Progress::Sealed {
            self.is_sealed.store(true, Ordering::Release);
        }
        Ok(progress)
    }
}
