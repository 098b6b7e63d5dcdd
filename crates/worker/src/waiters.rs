//! [`Waiters`]: who wants to know when something happens in the pool.
//!
//! Pure state, kept under the pool's lock: looking and enrolling are one step, so nothing is missed in between.

use std::collections::HashMap;

use chariot_fabric::Growth;
use chariot_pool::{BlockId, Event};
use chariot_types::Key;
use tokio::sync::mpsc::UnboundedSender;

/// What can be waited for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Topic {
    /// A block under this key is whole.
    Sealed(Key),
    /// A block under this key is there, whole or not.
    Readable(Key),
    /// This block has grown, is whole, or is lost.
    Block(BlockId),
    /// The pool may have room.
    Room,
    /// What other workers hold of this key is known: nothing, or it has come.
    Elsewhere(Key),
    /// This key's block did not come from the disk.
    NotOnDisk(Key),
    /// Other workers have answered a question of the request's.
    Answer,
}

/// Tells a session to look again: at which of its requests, and why.
pub(crate) type Nudge = (u64, Topic);

/// Who is nudged.
#[derive(Clone, Debug)]
pub(crate) enum Inbox {
    /// A session.
    Session(UnboundedSender<Nudge>),
    /// Whoever sends a block to another worker as it grows.
    Stream(Growth),
}

#[derive(Debug)]
struct Waiter {
    session: u64,
    request: u64,
    inbox: Inbox,
}

/// Who wants to know.
#[derive(Default, Debug)]
pub(crate) struct Waiters {
    by_topic: HashMap<Topic, Vec<Waiter>>,
}

impl Waiters {
    /// Enrols `request` of `session` for the next event of `topic`.
    pub(crate) fn enrol(&mut self, topic: Topic, session: u64, request: u64, inbox: Inbox) {
        self.by_topic.entry(topic).or_default().push(Waiter { session, request, inbox });
    }

    /// Strikes `request` of `session` off.
    pub(crate) fn strike(&mut self, topic: Topic, session: u64, request: u64) {
        if let Some(waiters) = self.by_topic.get_mut(&topic) {
            waiters.retain(|waiter| waiter.session != session || waiter.request != request);
            if waiters.is_empty() {
                self.by_topic.remove(&topic);
            }
        }
    }

    /// Nudges, and strikes off, all who wait for what has happened.
    pub(crate) fn tell(&mut self, event: Event) {
        if self.by_topic.is_empty() {
            return;
        }
        match event {
            Event::Readable { key, block } => self.nudge(&[Topic::Readable(key), Topic::Block(block)]),
            Event::Sealed { key, block } => {
                self.nudge(&[Topic::Sealed(key), Topic::Readable(key), Topic::Block(block)]);
            }
            Event::Lost { block, .. } => self.nudge(&[Topic::Block(block)]),
            Event::RoomFreed => self.nudge(&[Topic::Room]),
            Event::Published { .. } | Event::Withdrawn { .. } => {}
        }
    }

    /// Nudges, and strikes off, all who wait to know what others hold of `key`.
    pub(crate) fn settle(&mut self, key: Key) {
        self.nudge(&[Topic::Elsewhere(key)]);
    }

    /// How many enrolments there are.
    pub(crate) fn len(&self) -> usize {
        self.by_topic.values().map(Vec::len).sum()
    }

    fn nudge(&mut self, topics: &[Topic]) {
        for topic in topics {
            for waiter in self.by_topic.remove(topic).unwrap_or_default() {
                match waiter.inbox {
                    // A session that has just ended needs no nudge.
                    Inbox::Session(inbox) => drop(inbox.send((waiter.request, *topic))),
                    Inbox::Stream(growth) => growth.tell(),
                }
            }
        }
    }
}
