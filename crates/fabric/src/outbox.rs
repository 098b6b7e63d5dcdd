//! [`Outbox`]: what is to be sent over one connection, and in which order.
//!
//! Messages go first. Then the streams that have bytes take turns, a chunk each, so that no block waits for the whole of
//! another. Nothing is copied or read before it is its turn: a receiver that does not read costs no memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chariot_wire::{FrameWriter, PeerMessage};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::connection::Connection;
use crate::stream::{Growth, Look, Source};

/// More bytes of messages than this are not queued: whoever lets so many pile up is not reading.
const MOST_QUEUED: usize = 64 << 20;

/// Streams that may be open at once on one connection.
const MOST_STREAMS: usize = 1 << 16;

/// What is to be sent over one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    // Held for moments; sources are never asked anything under it.
    state: Mutex<State>,
    roused: Notify,
    closed: Notify,
}

#[derive(Default)]
struct State {
    frames: Vec<u8>,
    streams: BTreeMap<u64, Outgoing>,
    ready: VecDeque<u64>,
    is_closed: bool,
}

struct Outgoing {
    sent: u64,
    /// `None` while the writer has it.
    source: Option<Box<dyn Source>>,
    growth: Growth,
    /// Told to look again while the writer had it.
    is_roused: bool,
    is_ready: bool,
}

/// A stream whose turn it is. It is to be given back by [`Outbox::put_back`], or is over.
pub(crate) struct Turn {
    pub(crate) stream: u64,
    pub(crate) sent: u64,
    pub(crate) source: Box<dyn Source>,
    growth: Growth,
}

impl Turn {
    pub(crate) fn look(&mut self) -> Look {
        self.source.look(self.sent, &self.growth)
    }
}

/// When a stream that was given back has its next turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// After all others.
    Again,
    /// When there is more of it.
    WhenTold,
    /// Never; it is kept until the receiver has it all.
    Never,
}

impl Outbox {
    /// Queues a message.
    pub(crate) fn say(&self, id: u64, message: &PeerMessage<'_>) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        FrameWriter::new(&mut state.frames).peer(id, message, 0);
        let is_too_much = state.frames.len() > MOST_QUEUED;
        drop(state);
        if is_too_much {
            self.close();
        }
        self.roused.notify_one();
    }

    /// Queues the message that opens a stream, and the stream.
    pub(crate) fn open(
        &self,
        connection: &Arc<Connection>,
        stream: u64,
        message: &PeerMessage<'_>,
        source: Box<dyn Source>,
    ) {
        let growth = Growth { connection: Arc::downgrade(connection), stream };
        let mut state = self.state.lock();
        // What is not taken in is dropped after the lock is let go of.
        if state.is_closed || state.streams.len() >= MOST_STREAMS || state.streams.contains_key(&stream) {
            drop(state);
            drop(source);
            return;
        }
        FrameWriter::new(&mut state.frames).peer(stream, message, 0);
        let outgoing = Outgoing { sent: 0, source: Some(source), growth, is_roused: false, is_ready: true };
        state.streams.insert(stream, outgoing);
        state.ready.push_back(stream);
        drop(state);
        self.roused.notify_one();
    }

    /// A stream may have more to send.
    pub(crate) fn rouse(&self, stream: u64) {
        {
            let mut state = self.state.lock();
            let Some(outgoing) = state.streams.get_mut(&stream) else { return };
            if outgoing.source.is_none() {
                outgoing.is_roused = true;
                return;
            }
            if std::mem::replace(&mut outgoing.is_ready, true) {
                return;
            }
            state.ready.push_back(stream);
        }
        self.roused.notify_one();
    }

    /// The receiver wants no more of a stream, or has it all.
    pub(crate) fn forget(&self, stream: u64) {
        let forgotten = self.state.lock().streams.remove(&stream);
        // Outside of the lock: it may have much to let go of.
        drop(forgotten);
    }

    /// Appends the messages that are queued.
    pub(crate) fn take_frames(&self, into: &mut Vec<u8>) {
        let mut state = self.state.lock();
        if into.is_empty() {
            std::mem::swap(into, &mut state.frames);
        } else {
            into.append(&mut state.frames);
        }
    }

    /// The stream whose turn it is.
    pub(crate) fn next_turn(&self) -> Option<Turn> {
        let mut state = self.state.lock();
        while let Some(stream) = state.ready.pop_front() {
            let Some(outgoing) = state.streams.get_mut(&stream) else { continue };
            outgoing.is_ready = false;
            outgoing.is_roused = false;
            let Some(source) = outgoing.source.take() else { continue };
            return Some(Turn { stream, sent: outgoing.sent, source, growth: outgoing.growth.clone() });
        }
        None
    }

    /// Gives a stream back after its turn.
    pub(crate) fn put_back(&self, turn: Turn, next: Next) {
        let mut state = self.state.lock();
        let Some(outgoing) = state.streams.get_mut(&turn.stream) else {
            drop(state);
            drop(turn);
            return;
        };
        outgoing.sent = turn.sent;
        outgoing.source = Some(turn.source);
        let is_ready = match next {
            Next::Again => true,
            Next::WhenTold => outgoing.is_roused,
            Next::Never => false,
        };
        outgoing.is_ready = is_ready;
        if is_ready {
            state.ready.push_back(turn.stream);
        }
    }

    /// Waits until there may be something to send.
    pub(crate) async fn roused(&self) {
        self.roused.notified().await;
    }

    /// Streams that are open, or wait for the receiver to have them.
    pub(crate) fn streams(&self) -> usize {
        self.state.lock().streams.len()
    }

    /// Nothing is sent any more; what was to be is forgotten.
    pub(crate) fn close(&self) {
        let forgotten = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.ready.clear();
            state.frames = Vec::new();
            std::mem::take(&mut state.streams)
        };
        drop(forgotten);
        self.roused.notify_one();
        self.closed.notify_waiters();
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        let mut closed = std::pin::pin!(self.closed.notified());
        closed.as_mut().enable();
        if !self.is_closed() {
            closed.await;
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }
}
