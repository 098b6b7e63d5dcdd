//! What a node does when time has passed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use chariot_directory::Sweep;
use tokio::time::{Instant, sleep_until};

use super::{Node, Sight, State, Who};

/// How often it is looked for waits that are over.
const PERIOD: Duration = Duration::from_secs(1);

/// Members that have stood for this long are known to all: what they make others' can be forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// When all have forgotten, everything is told once more: what was told to one who did not know the members yet may have
/// been forgotten with the rest.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// What is still to be done about the last change of members.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Settling {
    forget_at: Option<Instant>,
    tell_at: Option<Instant>,
}

impl Settling {
    /// The members have changed at `now`.
    pub(super) fn from(now: Instant) -> Self {
        Self { forget_at: Some(now + FORGET_AFTER), tell_at: Some(now + TELL_AFTER) }
    }
}

/// Steps of forgetting between two looks at what else is due.
const SWEEPS: usize = 32;

/// Tends the node until it is gone.
pub(super) async fn tend(node: Weak<Node>) {
    let mut period = Instant::now() + PERIOD;
    loop {
        let Some(node) = node.upgrade() else { return };
        let due = node.state.lock().fetches.next_due().map_or(period, |due| due.min(period));
        tokio::select! {
            biased;
            () = sleep_until(due) => {}
            () = node.hurry.notified() => {}
        }
        let now = Instant::now();
        node.drive(|state, moves| {
            let State { fetches, members, directory, .. } = state;
            fetches.go_on(now, &Sight { me: node.me, members, directory }, moves);
        });
        if now >= period {
            period = now + PERIOD;
            node.end_waits(now);
            node.settle(now);
        }
        node.sweep().await;
    }
}

impl Node {
    /// Tells other workers that what they waited for has not come.
    fn end_waits(&self, now: Instant) {
        let mut over = Vec::new();
        let mut state = self.state.lock();
        let State { tickets, directory, .. } = &mut *state;
        tickets.retain(|ticket, waiter| match &waiter.who {
            Who::Other { asker, until } if *until <= now => {
                directory.strike(asker.run(), *ticket);
                over.push(asker.clone());
                false
            }
            _ => true,
        });
        drop(state);
        over.iter().for_each(chariot_fabric::Asker::miss);
    }

    /// Does what is due about the last change of members.
    fn settle(self: &Arc<Self>, now: Instant) {
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        let (forgotten_but, is_told_again) = {
            let mut state = self.state.lock();
            let members = is_due(&mut state.settling.forget_at).then(|| state.members.clone());
            if let Some(members) = &members {
                state.directory.retain(members);
            }
            (members, is_due(&mut state.settling.tell_at))
        };
        // One that lives, and whose record in etcd was away for a while, must notice that it was forgotten.
        if let Some(members) = forgotten_but {
            self.fabric.end_strangers(&members);
        }
        if is_told_again {
            self.announce_everything();
        }
    }

    async fn sweep(self: &Arc<Self>) {
        while (0..SWEEPS).all(|_| self.state.lock().directory.sweep() == Sweep::More) {
            tokio::task::yield_now().await;
        }
    }
}
