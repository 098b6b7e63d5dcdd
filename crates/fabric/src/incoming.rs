//! [`Incoming`]: the streams that one connection brings, and the answers that it owes.

use std::collections::BTreeMap;

use chariot_types::{Key, RunId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::stream::Sink;

/// The streams that one connection brings, and the answers that it owes.
#[derive(Default)]
pub(crate) struct Incoming {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<u64, Stream>,
    questions: BTreeMap<u64, oneshot::Sender<Answer>>,
    is_closed: bool,
}

enum Stream {
    /// Pulled, and not answered yet.
    Asked(Key),
    /// On its way.
    Coming(Coming),
    /// On its way, and the reader has it. Its key, if it was pulled.
    Held(Option<Key>),
}

/// A block that is on its way.
pub(crate) struct Coming {
    pub(crate) sink: Box<dyn Sink>,
    /// How many bytes have come and were found right.
    pub(crate) received: u64,
    /// Bytes that have come behind those, and of which it is not known yet whether they are right.
    pub(crate) unchecked: Option<Unchecked>,
    /// Its key, if it was pulled.
    pub(crate) pulled: Option<Key>,
}

/// Bytes that have come, and what their checksum was found to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unchecked {
    pub(crate) len: u64,
    pub(crate) found: u64,
}

impl Coming {
    pub(crate) fn new(sink: Box<dyn Sink>, pulled: Option<Key>) -> Self {
        Self { sink, received: 0, unchecked: None, pulled }
    }

    /// Whether `len` bytes from `offset` on are the next ones.
    pub(crate) fn continues_with(&self, offset: u64, len: u64) -> bool {
        let is_next = self.unchecked.is_none() && offset == self.received;
        is_next && offset.checked_add(len).is_some_and(|end| end <= self.sink.len())
    }
}

/// An answer on the control channel.
#[derive(Debug)]
pub(crate) enum Answer {
    Holders(Vec<RunId>),
    Deleted(Vec<u8>),
}

/// The connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closed;

impl Incoming {
    /// A block is about to be pulled.
    pub(crate) fn ask(&self, stream: u64, key: Key) -> Result<(), Closed> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Closed);
        }
        state.streams.insert(stream, Stream::Asked(key));
        Ok(())
    }

    /// A question is about to be put on the control channel.
    pub(crate) fn question(&self, id: u64) -> Result<oneshot::Receiver<Answer>, Closed> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Closed);
        }
        let (answer, answered) = oneshot::channel();
        state.questions.retain(|_, question| !question.is_closed());
        state.questions.insert(id, answer);
        Ok(answered)
    }

    /// A question was answered.
    pub(crate) fn answer(&self, id: u64, answer: Answer) {
        if let Some(question) = self.state.lock().questions.remove(&id) {
            // Whoever asked may have stopped waiting.
            let _ = question.send(answer);
        }
    }

    /// A pull is answered, or no longer wanted: its key, if it was still asked.
    pub(crate) fn take_asked(&self, stream: u64) -> Option<Key> {
        let mut state = self.state.lock();
        match state.streams.get(&stream) {
            Some(Stream::Asked(key)) => {
                let key = *key;
                state.streams.remove(&stream);
                Some(key)
            }
            _ => None,
        }
    }

    /// Whether there is something under a stream's number.
    pub(crate) fn has(&self, stream: u64) -> bool {
        self.state.lock().streams.contains_key(&stream)
    }

    /// A block is on its way. It is handed back if there is something under its number, or the connection has ended.
    pub(crate) fn begin(&self, stream: u64, coming: Coming) -> Result<(), Coming> {
        let mut state = self.state.lock();
        if state.is_closed || state.streams.contains_key(&stream) {
            return Err(coming);
        }
        state.streams.insert(stream, Stream::Coming(coming));
        Ok(())
    }

    /// Hands out a block that is on its way, until it is put back or has [ended](Self::finish).
    pub(crate) fn hold(&self, stream: u64) -> Option<Coming> {
        let mut state = self.state.lock();
        let slot = state.streams.get_mut(&stream)?;
        let Stream::Coming(Coming { pulled, .. }) = slot else { return None };
        let held = Stream::Held(*pulled);
        match std::mem::replace(slot, held) {
            Stream::Coming(coming) => Some(coming),
            Stream::Asked(_) | Stream::Held(_) => None,
        }
    }

    /// Takes a block back.
    pub(crate) fn put_back(&self, stream: u64, coming: Coming) {
        if let Some(slot) = self.state.lock().streams.get_mut(&stream) {
            *slot = Stream::Coming(coming);
        }
    }

    /// A block that was handed out is over.
    pub(crate) fn finish(&self, stream: u64) {
        self.state.lock().streams.remove(&stream);
    }

    /// How many streams there are.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().streams.len()
    }

    /// Nothing comes any more: the keys of what was pulled and did not begin, and of what was pulled and is lost.
    pub(crate) fn close(&self) -> (Vec<Key>, Vec<Key>) {
        let streams = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.questions.clear();
            std::mem::take(&mut state.streams)
        };
        let (mut asked, mut lost) = (Vec::new(), Vec::new());
        // Outside of the lock: a sink that is dropped tells of it.
        for stream in streams.into_values() {
            match stream {
                Stream::Asked(key) => asked.push(key),
                Stream::Coming(coming) => lost.extend(coming.pulled),
                Stream::Held(pulled) => lost.extend(pulled),
            }
        }
        (asked, lost)
    }
}
