//! What a node does when time has passed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use chariot_directory::Sweep;
use tokio::time::{Instant, sleep_until};

use super::{Node, Sight, State, Who};

/// How often it is looked for waits that are over.
const PERIOD: Duration = Duration::from_secs(1);

/// Members that have stood for this long are known to all: what they make others' can be forgotten.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// Steps of forgetting between two looks at what else is due.
const SWEEPS: usize = 32;

/// Tends the node until it is gone.
pub(super) async fn tend(node: Weak<Node>) {
    let mut period = Instant::now() + PERIOD;
    loop {
        let Some(node) = node.upgrade() else { return };
        let due = node.state.lock().fetches.next_due().map_or(period, |due| due.min(period));
        tokio::select! {
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
            node.forget_what_moved(now);
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

    fn forget_what_moved(&self, now: Instant) {
        let mut state = self.state.lock();
        if state.retain_at.is_some_and(|at| at <= now) {
            state.retain_at = None;
            let members = state.members.clone();
            state.directory.retain(&members);
        }
    }

    async fn sweep(self: &Arc<Self>) {
        while (0..SWEEPS).all(|_| self.state.lock().directory.sweep() == Sweep::More) {
            tokio::task::yield_now().await;
        }
    }
}
