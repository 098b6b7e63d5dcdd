//! Questions that this worker's own pool does not answer for certain: its disk is asked, and the others of its cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_pool::Lookup;
use chariot_types::Key;
use chariot_wire::{Reply, micros};
use parking_lot::Mutex;

use super::Session;
use super::wait::What;
use crate::waiters::Topic;

/// The others have a deadline of their own, so this is never reached while they are asked at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// A question to other workers, with what is known without them.
pub(super) struct Question {
    kind: Kind,
    /// One entry a key.
    here: Vec<Presence>,
    /// The places of the keys that the others were asked about.
    asked: Vec<usize>,
    answer: Arc<Mutex<Option<Vec<bool>>>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Exists,
    Prefix,
    Delete,
}

/// What is there under a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Absent,
    Growing,
    Whole,
}

impl Session {
    /// Answers which of `keys` are there, whole. What another worker holds counts, also while it grows.
    pub(super) fn exists(&mut self, request: u64, keys: &[Key]) {
        let here = self.presence(keys);
        self.ask(request, Kind::Exists, here, keys);
    }

    /// Answers how many leading `keys` are there.
    pub(super) fn longest_prefix(&mut self, request: u64, keys: &[Key]) {
        let here = self.presence(keys);
        if let Some(tier) = self.shared.tier() {
            // They will be asked for next.
            let present = here.iter().take_while(|presence| **presence != Presence::Absent).count();
            tier.bring_ahead(&keys[..present]);
        }
        self.ask(request, Kind::Prefix, here, keys);
    }

    /// Deletes `keys` here and at the others, and answers how many there were.
    pub(super) fn delete(&mut self, request: u64, keys: &[Key]) {
        let presence = |was_there| if was_there { Presence::Whole } else { Presence::Absent };
        let here = self.shared.delete(keys).into_iter().map(presence).collect();
        self.ask(request, Kind::Delete, here, keys);
    }

    fn presence(&self, keys: &[Key]) -> Vec<Presence> {
        let now = Instant::now();
        let state = self.shared.state();
        let on_disk = |key| self.shared.tier().is_some_and(|tier| tier.holds(key));
        let presence = |key| match state.pool.lookup(key, now) {
            Lookup::Miss if on_disk(key) => Presence::Whole,
            Lookup::Miss => Presence::Absent,
            Lookup::Growing { .. } => Presence::Growing,
            Lookup::Sealed { .. } => Presence::Whole,
        };
        keys.iter().map(presence).collect()
    }

    /// Asks the others about what is absent here, if there are any; a delete concerns all keys.
    fn ask(&mut self, request: u64, kind: Kind, here: Vec<Presence>, keys: &[Key]) {
        let concerns = |presence: &Presence| matches!(kind, Kind::Delete) || *presence == Presence::Absent;
        let asked: Vec<usize> = (0..keys.len()).filter(|place| concerns(&here[*place])).collect();
        let answer = Arc::new(Mutex::new(None));
        let node = self.shared.node().filter(|_| !asked.is_empty() && self.may_wait());
        let Some(node) = node else {
            return self.answer_question(request, Question { kind, here, asked, answer });
        };
        let wanted = asked.iter().map(|place| keys[*place]).collect();
        let (answered, nudges) = (answer.clone(), self.nudges.clone());
        let then = move |held| {
            *answered.lock() = Some(held);
            // A session that has just ended needs no nudge.
            let _ = nudges.send((request, Topic::Answer));
        };
        self.wait(request, micros(PATIENCE), What::Question(Question { kind, here, asked, answer }));
        match kind {
            Kind::Exists | Kind::Prefix => node.look_up(wanted, then),
            Kind::Delete => node.delete_elsewhere(wanted, then),
        }
    }

    /// Answers with what is known by now.
    pub(super) fn answer_question(&mut self, request: u64, question: Question) {
        let Question { kind, mut here, asked, answer } = question;
        for (place, is_held) in asked.into_iter().zip(answer.lock().take().unwrap_or_default()) {
            if is_held {
                here[place] = Presence::Whole;
            }
        }
        match kind {
            Kind::Exists => {
                let flags: Vec<u8> = here.iter().map(|presence| u8::from(*presence == Presence::Whole)).collect();
                self.outbound.reply(request, &Reply::Found(&flags));
            }
            Kind::Prefix => {
                let sealed = here.iter().take_while(|presence| **presence == Presence::Whole).count() as u64;
                let present = here.iter().take_while(|presence| **presence != Presence::Absent).count() as u64;
                self.outbound.reply(request, &Reply::PrefixIs { sealed, present });
            }
            Kind::Delete => {
                let count = here.iter().filter(|presence| **presence == Presence::Whole).count() as u64;
                self.outbound.reply(request, &Reply::Done { count });
            }
        }
    }
}
