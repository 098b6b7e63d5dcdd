//! [`Mailbox`]: hands each answer that arrives on a connection to the thread that waits for it.
//!
//! There is no reader thread, because waking it and being woken by it costs more than the answer itself. Instead one
//! of the waiting threads reads for all: the leader. It delivers what is for others and, with its own answer in hand
//! or its deadline passed, lets another lead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// One frame that a worker sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

enum Slot {
    Awaited,
    Arrived(Answer),
    Forsaken,
}

/// What a leader's reading came to.
pub(crate) enum Read {
    /// A frame for the request with this id.
    Frame(u64, Answer),
    /// Nothing before the deadline.
    Nothing,
    /// The connection ended.
    End,
}

/// What waiting came to.
pub(crate) enum Waited {
    /// The answer.
    Answer(Answer),
    /// Nothing before the deadline; the answer may still be collected later.
    TimedOut,
    /// The connection ended, and the answer will never come.
    End,
}

#[derive(Default)]
struct State {
    slots: HashMap<u64, Slot>,
    led: bool,
    followers: usize,
    forsaken: usize,
}

/// Where answers wait for the threads that want them.
#[derive(Default)]
pub(crate) struct Mailbox {
    // A lock and not a channel a request: the leader must hand over leadership and answer in one step.
    state: Mutex<State>,
    changed: Condvar,
    ended: AtomicBool,
}

impl Mailbox {
    /// Announces that the answer to `request` will be wanted; to be called before the request is sent.
    pub(crate) fn expect(&self, request: u64) {
        self.state.lock().slots.insert(request, Slot::Awaited);
    }

    /// Says that nobody wants the answer to `request` any more. Returns the answer if it is there already.
    pub(crate) fn forsake(&self, request: u64) -> Option<Answer> {
        let mut state = self.state.lock();
        match state.slots.remove(&request)? {
            Slot::Arrived(answer) => Some(answer),
            Slot::Awaited | Slot::Forsaken => {
                state.slots.insert(request, Slot::Forsaken);
                state.forsaken += 1;
                None
            }
        }
    }

    /// Whether answers that nobody wants are still to come.
    pub(crate) fn has_forsaken(&self) -> bool {
        self.state.lock().forsaken > 0
    }

    /// Waits for the answer to `request`, reading with `read` whenever no other thread does. `unwanted` gets answers
    /// that were forsaken.
    pub(crate) fn wait(
        &self,
        request: u64,
        deadline: Instant,
        mut read: impl FnMut(Instant) -> Read,
        mut unwanted: impl FnMut(Answer),
    ) -> Waited {
        let mut state = self.state.lock();
        loop {
            if let Some(waited) = self.outcome(&mut state, request) {
                return waited;
            }
            if Instant::now() >= deadline {
                return Waited::TimedOut;
            }
            if state.led {
                state.followers += 1;
                self.changed.wait_until(&mut state, deadline);
                state.followers -= 1;
            } else {
                state = self.lead(state, request, || read(deadline), &mut unwanted).0;
            }
        }
    }

    /// The answer to `request` if it has come; `read` must not wait.
    pub(crate) fn poll(
        &self,
        request: u64,
        mut read: impl FnMut() -> Read,
        mut unwanted: impl FnMut(Answer),
    ) -> Waited {
        let mut state = self.state.lock();
        loop {
            if let Some(waited) = self.outcome(&mut state, request) {
                return waited;
            }
            if state.led {
                return Waited::TimedOut;
            }
            let came;
            (state, came) = self.lead(state, request, &mut read, &mut unwanted);
            if !came {
                return self.outcome(&mut state, request).unwrap_or(Waited::TimedOut);
            }
        }
    }

    /// Reads one frame for all, and delivers it. Returns whether anything came.
    fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        request: u64,
        read: impl FnOnce() -> Read,
        unwanted: &mut impl FnMut(Answer),
    ) -> (MutexGuard<'a, State>, bool) {
        state.led = true;
        drop(state);
        let read = read();
        state = self.state.lock();
        state.led = false;
        let (came, own) = match read {
            Read::Nothing => (false, false),
            Read::End => {
                self.ended.store(true, Ordering::Release);
                (false, false)
            }
            Read::Frame(id, answer) => {
                match state.slots.remove(&id) {
                    Some(Slot::Awaited) => {
                        state.slots.insert(id, Slot::Arrived(answer));
                    }
                    Some(Slot::Forsaken) => {
                        state.forsaken -= 1;
                        MutexGuard::unlocked(&mut state, || unwanted(answer));
                    }
                    // An answer to no question: a farewell, or nonsense. Either way the conversation is over.
                    Some(Slot::Arrived(_)) | None => {
                        self.ended.store(true, Ordering::Release);
                        MutexGuard::unlocked(&mut state, || unwanted(answer));
                    }
                }
                (true, id == request)
            }
        };
        if state.followers > 0 {
            // One takes over the lead; all look when what came may be theirs.
            if own && !self.has_ended() {
                self.changed.notify_one();
            } else {
                self.changed.notify_all();
            }
        }
        (state, came)
    }

    fn outcome(&self, state: &mut State, request: u64) -> Option<Waited> {
        match state.slots.remove(&request) {
            Some(Slot::Arrived(answer)) => return Some(Waited::Answer(answer)),
            _ if self.has_ended() => return Some(Waited::End),
            Some(slot) => {
                state.slots.insert(request, slot);
            }
            None => {}
        }
        None
    }

    /// Whether the connection has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends all waiting: no answer will come any more.
    pub(crate) fn end(&self) {
        let _state = self.state.lock();
        self.ended.store(true, Ordering::Release);
        self.changed.notify_all();
    }
}
