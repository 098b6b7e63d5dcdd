//! What other workers ask and say, answered.

use chariot_directory::Enrolment;
use chariot_fabric::{Asker, Host, PullEnd, Sink};
use chariot_pool::{Lookup, Origin};
use chariot_types::{Key, RunId};
use chariot_wire::{PeerBlock, Pull, Reach};
use std::time::Duration;
use tokio::time::Instant;

use super::{Node, Waiter, Who};
use crate::tier::Brought;

/// What the directory says of a key to another worker.
enum Known {
    Holder(RunId),
    /// It will be told.
    Later,
    Nothing,
}

impl Host for Node {
    fn pull(&self, asker: Asker, pull: Pull) {
        if let Some(outgoing) = self.source(&pull.key) {
            return outgoing.answer(&asker);
        }
        let Some(tier) = self.shared.tier().filter(|tier| tier.holds(&pull.key)) else {
            return self.direct(&asker, &pull);
        };
        let (key, shared) = (pull.key, self.shared.clone());
        let then = move |_| {
            if let Some(node) = shared.node() {
                match node.source(&pull.key) {
                    Some(outgoing) => outgoing.answer(&asker),
                    None => node.direct(&asker, &pull),
                }
            }
        };
        for (_, then) in tier.bring(vec![(key, Box::new(then))]) {
            then(Brought::Not);
        }
    }

    fn opened(&self, _from: RunId, block: &PeerBlock<'_>) -> Option<Box<dyn Sink>> {
        self.sink(block, Origin::Copied)
    }

    fn ended(&self, from: RunId, key: Key, end: PullEnd) {
        self.drive(|state, moves| state.ended(self.me, from, &key, end, moves));
    }

    fn offered(&self, _from: RunId, block: &PeerBlock<'_>) -> Option<Box<dyn Sink>> {
        // It is wanted here next, so it is no copy that may go first.
        self.sink(block, Origin::Computed)
    }

    fn announced(&self, from: RunId, keys: &[Key]) {
        self.hear_announced(from, keys);
    }

    fn withdrawn(&self, from: RunId, keys: &[Key]) {
        self.state.lock().directory.withdraw(from, keys);
    }

    fn forget(&self, from: RunId) {
        let mut state = self.state.lock();
        state.directory.forget(from);
        state.tickets.retain(|_, waiter| !matches!(&waiter.who, Who::Other { asker, .. } if asker.run() == from));
        drop(state);
        self.hurry.notify_one();
    }

    fn reached(&self, to: RunId) {
        if let Some(node) = self.shared.node() {
            node.announce_all(to);
        }
    }

    fn holders(&self, keys: &[Key]) -> Vec<Option<RunId>> {
        let now = Instant::now().into_std();
        let here: Vec<bool> = {
            let state = self.shared.state();
            let on_disk = |key| self.shared.tier().is_some_and(|tier| tier.holds(key));
            keys.iter().map(|key| state.pool.lookup(key, now) != Lookup::Miss || on_disk(key)).collect()
        };
        let state = self.state.lock();
        let elsewhere = |key| state.directory.holders(key).find(|holder| *holder != self.me);
        let holder = |(key, is_here)| if is_here { Some(self.me) } else { elsewhere(key) };
        keys.iter().zip(here).map(holder).collect()
    }

    fn delete(&self, keys: &[Key]) -> Vec<bool> {
        self.shared.delete(keys)
    }
}

impl Node {
    /// Tells another worker that `holder` has `key`, which may be this worker.
    pub(super) fn point(&self, asker: &Asker, key: &Key, holder: RunId) {
        if holder != self.me {
            return asker.elsewhere(holder);
        }
        match self.source(key) {
            Some(outgoing) => outgoing.answer(asker),
            None => asker.miss(),
        }
    }

    /// Tells another worker where else there may be what it asks for.
    fn direct(&self, asker: &Asker, pull: &Pull) {
        if pull.reach == Reach::Holder {
            return asker.miss();
        }
        match self.know(asker, pull) {
            Known::Holder(holder) => self.point(asker, &pull.key, holder),
            Known::Later => {}
            Known::Nothing => asker.miss(),
        }
    }

    fn know(&self, asker: &Asker, pull: &Pull) -> Known {
        let mut state = self.state.lock();
        let mut holders = state.directory.holders(&pull.key).filter(|holder| *holder != asker.run());
        if let Some(holder) = holders.find(|holder| Some(*holder) != pull.but) {
            return Known::Holder(holder);
        }
        drop(holders);
        if pull.wait == 0 {
            return Known::Nothing;
        }
        let ticket = state.next_ticket();
        match state.directory.enrol(asker.run(), ticket, &pull.key) {
            Enrolment::Waiting => {
                let until = Instant::now() + Duration::from_micros(pull.wait);
                let who = Who::Other { asker: asker.clone(), until };
                state.tickets.insert(ticket, Waiter { key: pull.key, who });
                Known::Later
            }
            // By one that turned out not to have it, or beyond what one may wait for: it asks again a little later.
            Enrolment::Held(_) | Enrolment::Refused => Known::Nothing,
        }
    }
}
