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
    // Held for moments; connections do nothing under it but begin or be told to end.
    lines: Mutex<Lines>,
    next_data: AtomicUsize,
}

#[derive(Default)]
struct Lines {
    control: Option<Arc<Connection>>,
    data: [Option<Arc<Connection>>; DATA_CHANNELS as usize],
    is_reached: bool,
    away_until: Option<Instant>,
    pause: Duration,
    has_left: bool,
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

/// Whether a failure to reach a peer follows upon another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missed {
    First,
    Again,
}

impl Peer {
    pub(crate) fn new(member: Member) -> Self {
        Self { member, lines: Mutex::default(), next_data: AtomicUsize::new(0) }
    }

    /// The data channels, the one whose turn it is first.
    pub(crate) fn data_channels(&self) -> impl Iterator<Item = Channel> {
        let turn = self.next_data.fetch_add(1, Ordering::Relaxed);
        (0..usize::from(DATA_CHANNELS))
            .map(move |next| Channel::Data((turn.wrapping_add(next) % usize::from(DATA_CHANNELS)) as u8))
    }

    /// The connection for `channel`; a new one is made by `make`.
    pub(crate) fn line(&self, channel: Channel, make: impl FnOnce() -> Arc<Connection>) -> Line {
        let mut lines = self.lines.lock();
        let (has_left, away_until) = (lines.has_left, lines.away_until);
        let slot = lines.slot(channel);
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.has_ended()) {
            return Line::There(connection.clone());
        }
        if has_left || away_until.is_some_and(|until| Instant::now() < until) {
            return Line::Away;
        }
        let connection = make();
        *slot = Some(connection.clone());
        Line::New(connection)
    }

    /// The peer has answered.
    pub(crate) fn reached(&self) {
        let mut lines = self.lines.lock();
        lines.is_reached = true;
        lines.away_until = None;
        lines.pause = Duration::ZERO;
    }

    /// The peer has not answered: it is not dialled for a while.
    pub(crate) fn missed(&self) -> Missed {
        let mut lines = self.lines.lock();
        let missed = if lines.pause.is_zero() { Missed::First } else { Missed::Again };
        lines.pause = (lines.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        lines.away_until = Some(Instant::now() + lines.pause);
        missed
    }

    /// The control channel has ended, or could not be dialled: all connections end.
    pub(crate) fn lost(&self) {
        let mut lines = self.lines.lock();
        lines.is_reached = false;
        lines.end_all();
    }

    /// The peer is no member any more.
    pub(crate) fn leave(&self) {
        let mut lines = self.lines.lock();
        lines.has_left = true;
        lines.is_reached = false;
        lines.end_all();
    }

    pub(crate) fn has_left(&self) -> bool {
        self.lines.lock().has_left
    }

    /// Whether it has answered, and its control channel has not ended since.
    pub(crate) fn is_reached(&self) -> bool {
        self.lines.lock().is_reached
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

    fn end_all(&mut self) {
        let all = self.control.take().into_iter().chain(self.data.iter_mut().filter_map(Option::take));
        all.for_each(|connection| connection.end());
    }
}
