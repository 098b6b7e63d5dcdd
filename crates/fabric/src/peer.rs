//! [`Peer`]: another worker as this one reaches it, by connections that are dialled when they are needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chariot_types::Member;
use chariot_wire::Channel;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::connection::Connection;

/// Data channels to one peer.
const DATA_CHANNELS: u8 = 4;

/// A peer that could not be reached is not tried again for this long, and twice as long each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Another worker as this one reaches it.
pub(crate) struct Peer {
    pub(crate) member: Member,
    lines: Mutex<Lines>,
    next_data: AtomicUsize,
}

#[derive(Default)]
struct Lines {
    control: Option<Arc<Connection>>,
    data: [Option<Arc<Connection>>; DATA_CHANNELS as usize],
    away_until: Option<Instant>,
    pause: Duration,
    is_gone: bool,
}

/// Whether there is a connection to use.
pub(crate) enum Line {
    /// It is there, or is being dialled.
    There(Arc<Connection>),
    /// It is new, and to be dialled by the caller.
    New(Arc<Connection>),
    /// The peer could not be reached a moment ago, or has left.
    Away,
}

impl Peer {
    pub(crate) fn new(member: Member) -> Self {
        Self { member, lines: Mutex::default(), next_data: AtomicUsize::new(0) }
    }

    /// The data channel whose turn it is.
    pub(crate) fn next_data(&self) -> Channel {
        let turn = self.next_data.fetch_add(1, Ordering::Relaxed);
        Channel::Data((turn % usize::from(DATA_CHANNELS)) as u8)
    }

    /// The connection for `channel`; a new one is made by `make`.
    pub(crate) fn line(&self, channel: Channel, make: impl FnOnce() -> Arc<Connection>) -> Line {
        let mut lines = self.lines.lock();
        let (is_gone, away_until) = (lines.is_gone, lines.away_until);
        let slot = lines.slot(channel);
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.has_ended()) {
            return Line::There(connection.clone());
        }
        if is_gone || away_until.is_some_and(|until| Instant::now() < until) {
            return Line::Away;
        }
        let connection = make();
        *slot = Some(connection.clone());
        Line::New(connection)
    }

    /// The peer has answered.
    pub(crate) fn reached(&self) {
        let mut lines = self.lines.lock();
        lines.away_until = None;
        lines.pause = Duration::ZERO;
    }

    /// The peer has not answered, or no longer does: it is left alone for a while, and all its connections end. For how
    /// long.
    pub(crate) fn missed(&self) -> Duration {
        let (ended, pause) = {
            let mut lines = self.lines.lock();
            lines.pause = (lines.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            lines.away_until = Some(Instant::now() + lines.pause);
            (lines.take_all(), lines.pause)
        };
        ended.iter().for_each(|connection| connection.end());
        pause
    }

    /// The peer is no member any more.
    pub(crate) fn leave(&self) {
        let ended = {
            let mut lines = self.lines.lock();
            lines.is_gone = true;
            lines.take_all()
        };
        ended.iter().for_each(|connection| connection.end());
    }

    pub(crate) fn has_left(&self) -> bool {
        self.lines.lock().is_gone
    }

    /// Whether it can be reached, as far as is known.
    pub(crate) fn is_reached(&self) -> bool {
        let lines = self.lines.lock();
        lines.control.as_ref().is_some_and(|control| !control.has_ended()) && lines.away_until.is_none()
    }

    /// Its connections.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        let lines = self.lines.lock();
        lines.control.iter().chain(lines.data.iter().flatten()).cloned().collect()
    }
}

impl Lines {
    fn slot(&mut self, channel: Channel) -> &mut Option<Arc<Connection>> {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Data(number) => &mut self.data[usize::from(number % DATA_CHANNELS)],
        }
    }

    fn take_all(&mut self) -> Vec<Arc<Connection>> {
        self.control.take().into_iter().chain(self.data.iter_mut().filter_map(Option::take)).collect()
    }
}
