//! [`Outbox`]: what is to be sent over one connection, and in which order.
//!
//! Messages go first. Then the streams that have bytes take turns, a chunk each, so that no block waits for the whole of
//! another. Nothing is copied or read before it is its turn: a receiver that does not read costs no memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chariot_wire::PeerMessage;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::connection::Connection;
use crate::frames;
use crate::stream::{Growth, Look, Source};
use crate::transport::Sender;

/// More bytes of messages than this are not queued: whoever lets so many pile up is not reading.
const MOST_QUEUED: usize = 64 << 20;

/// Who has much to say waits while more bytes of messages than this are queued.
const MUCH_QUEUED: usize = 4 << 20;

/// Streams that may be open at once on one connection, and questions that may wait for their answer.
const MOST_STREAMS: usize = 1 << 16;

/// What is to be sent over one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    // Held for moments; sources are never asked anything under it, nor dropped.
    state: Mutex<State>,
    roused: Notify,
    /// There is room for messages again, or never will be.
    relieved: Notify,
}

#[derive(Default)]
struct State {
    frames: Vec<u8>,
    streams: BTreeMap<u64, Outgoing>,
    /// Streams that the other side has asked for, and that are neither opened nor refused.
    owed: BTreeSet<u64>,
    ready: VecDeque<u64>,
    /// What sends, while it has nothing to do.
    resting: Option<Box<dyn Sender>>,
    end: Option<End>,
}

/// Why nothing is sent any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It was closed.
    Closed,
    /// More was to be said than the other side reads.
    Unread,
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
}

/// What has become of a question for a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// It is to be answered.
    Owed,
    /// There are too many.
    TooMany,
    /// There is something under its number.
    Twice,
}

impl Outbox {
    /// Queues a message.
    pub(crate) fn say(&self, id: u64, message: &PeerMessage<'_>) {
        self.state.lock().say(id, message);
        self.roused.notify_one();
    }

    /// Says something on this thread if nothing else is being sent: that saves the writer being woken.
    pub(crate) fn say_now(&self, id: u64, message: &PeerMessage<'_>) {
        let (mut sender, mut frames) = {
            let mut state = self.state.lock();
            state.say(id, message);
            let Some(sender) = state.resting.take() else {
                drop(state);
                self.roused.notify_one();
                return;
            };
            (sender, std::mem::take(&mut state.frames))
        };
        let sent = sender.try_send(&frames);
        let mut state = self.state.lock();
        if sent < frames.len() {
            frames.drain(..sent);
            frames.append(&mut state.frames);
            state.frames = frames;
        }
        let left_over = if state.end.is_some() { Some(sender) } else { state.resting.replace(sender) };
        let has_more = !state.frames.is_empty() || !state.ready.is_empty() || state.end.is_some();
        drop(state);
        drop(left_over);
        if has_more {
            self.roused.notify_one();
        }
    }

    /// The other side has asked for a stream.
    pub(crate) fn owe(&self, stream: u64) -> Asked {
        let mut state = self.state.lock();
        if state.streams.contains_key(&stream) || state.owed.contains(&stream) {
            return Asked::Twice;
        }
        if state.owed.len() >= MOST_STREAMS {
            return Asked::TooMany;
        }
        state.owed.insert(stream);
        Asked::Owed
    }

    /// Queues the message that refuses a stream, if it is still owed.
    pub(crate) fn refuse(&self, stream: u64, message: &PeerMessage<'_>) {
        let mut state = self.state.lock();
        if state.owed.remove(&stream) {
            state.say(stream, message);
            drop(state);
            self.roused.notify_one();
        }
    }

    /// Queues the message that opens a stream, and the stream, if it is still owed.
    pub(crate) fn answer(
        &self,
        connection: &Arc<Connection>,
        stream: u64,
        message: &PeerMessage<'_>,
        source: Box<dyn Source>,
    ) {
        let mut state = self.state.lock();
        let left_over = if !state.owed.remove(&stream) {
            Some(source)
        } else if state.streams.len() >= MOST_STREAMS {
            state.say(stream, &PeerMessage::Miss);
            Some(source)
        } else {
            state.open(connection, stream, message, source)
        };
        drop(state);
        drop(left_over);
        self.roused.notify_one();
    }

    /// Queues the message that opens a stream unasked, and the stream, if there may be another.
    pub(crate) fn offer(
        &self,
        connection: &Arc<Connection>,
        stream: u64,
        message: &PeerMessage<'_>,
        source: Box<dyn Source>,
    ) {
        let mut state = self.state.lock();
        let is_full = state.streams.len() >= MOST_STREAMS;
        let left_over = if is_full { Some(source) } else { state.open(connection, stream, message, source) };
        drop(state);
        drop(left_over);
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

    /// The receiver wants no more of a stream, or has been sent it all.
    pub(crate) fn forget(&self, stream: u64) {
        let forgotten = {
            let mut state = self.state.lock();
            state.owed.remove(&stream);
            state.streams.remove(&stream)
        };
        // Outside of the lock: it may have much to let go of.
        drop(forgotten);
    }

    /// Appends the messages that are queued.
    pub(crate) fn take_frames(&self, into: &mut Vec<u8>) {
        let mut state = self.state.lock();
        let was_much = state.frames.len() > MUCH_QUEUED;
        if into.is_empty() {
            std::mem::swap(into, &mut state.frames);
        } else {
            into.append(&mut state.frames);
        }
        drop(state);
        if was_much {
            self.relieved.notify_waiters();
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
        };
        outgoing.is_ready = is_ready;
        if is_ready {
            state.ready.push_back(turn.stream);
        }
    }

    /// Lays down what sends until there may be something to send; `None` when nothing is sent any more.
    pub(crate) async fn rest(&self, sender: Box<dyn Sender>) -> Option<Box<dyn Sender>> {
        self.state.lock().resting = Some(sender);
        loop {
            self.roused.notified().await;
            let mut state = self.state.lock();
            // Whoever has it meanwhile tells when it is back and there is more to send.
            if state.resting.is_some() || state.end.is_some() {
                return state.resting.take();
            }
        }
    }

    /// Waits until few messages are queued, or none can be.
    pub(crate) async fn relieved(&self) {
        self.until(|state| state.frames.len() <= MUCH_QUEUED || state.end.is_some()).await;
    }

    /// Waits until nothing is sent any more.
    pub(crate) async fn closed(&self) {
        self.until(|state| state.end.is_some()).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let mut relieved = std::pin::pin!(self.relieved.notified());
            relieved.as_mut().enable();
            if is_so(&self.state.lock()) {
                return;
            }
            relieved.await;
        }
    }

    /// Streams that are open.
    pub(crate) fn streams(&self) -> usize {
        self.state.lock().streams.len()
    }

    /// Nothing is sent any more.
    pub(crate) fn close(&self) {
        {
            let mut state = self.state.lock();
            state.end.get_or_insert(End::Closed);
            state.frames = Vec::new();
        }
        self.roused.notify_one();
        self.relieved.notify_waiters();
    }

    /// Lets go of what an outbox that is closed still has.
    pub(crate) fn release(&self) {
        let released = {
            let mut state = self.state.lock();
            state.owed.clear();
            state.ready.clear();
            (std::mem::take(&mut state.streams), state.resting.take())
        };
        drop(released);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// Why nothing is sent any more, if so.
    pub(crate) fn end(&self) -> Option<End> {
        self.state.lock().end
    }
}

impl State {
    fn say(&mut self, id: u64, message: &PeerMessage<'_>) {
        if self.end.is_some() {
            return;
        }
        frames::append(&mut self.frames, id, message, 0);
        if self.frames.len() > MOST_QUEUED {
            self.frames = Vec::new();
            self.end = Some(End::Unread);
        }
    }

    /// Hands back a source for which it is too late.
    fn open(
        &mut self,
        connection: &Arc<Connection>,
        stream: u64,
        message: &PeerMessage<'_>,
        source: Box<dyn Source>,
    ) -> Option<Box<dyn Source>> {
        if self.end.is_some() {
            return Some(source);
        }
        self.say(stream, message);
        let growth = Growth { connection: Arc::downgrade(connection), stream };
        let outgoing = Outgoing { sent: 0, source: Some(source), growth, is_roused: false, is_ready: true };
        self.ready.push_back(stream);
        self.streams.insert(stream, outgoing).and_then(|replaced| replaced.source)
    }
}
