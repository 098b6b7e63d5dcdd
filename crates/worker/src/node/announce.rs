//! Tells the owners of keys what is here and what no longer is.
//!
//! Every change of names in the pool is noted under the pool's lock, so in the order in which it happened, and told in
//! batches. To an owner that is new, or over whose connection nothing was told yet, everything that it owns is told, in
//! steps that are noted in the same way: nothing overtakes anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use chariot_directory::{Appeared, owner};
use chariot_pool::Pool;
use chariot_types::{Key, Member, RunId};
use chariot_wire::limits::MAX_BATCH;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Node, Sight, State, Waiter, Who};
use crate::node::fetch::Move;
use crate::tier::Tier;

/// Places of the pool that are looked through under one hold of its lock.
const STEP: usize = 4096;

/// What is held in one step, and where the next begins.
type Names = fn(&Pool, Option<&Arc<Tier>>, usize) -> (Vec<Key>, Option<usize>);

/// Changes of names that are still to be told.
#[derive(Default)]
pub(super) struct Changes {
    noted: Mutex<Vec<Change>>,
    are_noted: Notify,
}

/// A change of what can be found in the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// A block can be found under the key.
    Came(Key),
    /// It can no longer.
    Went(Key),
    /// It could and can; its owner does not know.
    Untold(Key),
}

impl Node {
    /// Notes what has changed in the pool. To be called under its lock.
    pub(crate) fn note(&self, changes: impl IntoIterator<Item = Change>) {
        self.changes.noted.lock().extend(changes);
        self.changes.are_noted.notify_one();
    }

    /// Tells everything that `to` owns, to an owner that knows nothing.
    pub(super) fn announce_all(self: &Arc<Self>, to: RunId) {
        self.look_through(move |members, key| owner(members, key).is_some_and(|owner| owner.run == to));
    }

    /// Tells everything to its owner, whether or not that knows it.
    pub(crate) fn announce_everything(self: &Arc<Self>) {
        self.look_through(|_, _| true);
    }

    /// Tells everything that has another owner now than among the members `before`.
    pub(super) fn announce_moved(self: &Arc<Self>, before: Arc<[Member]>) {
        self.look_through(move |members, key| {
            owner(members, key).map(|owner| owner.run) != owner(&before, key).map(|owner| owner.run)
        });
    }

    fn look_through(self: &Arc<Self>, is_untold: impl Fn(&[Member], &Key) -> bool + Send + 'static) {
        let node = Arc::downgrade(self);
        self.spawn(async move {
            let in_memory: Names = |pool, _, place| pool.names(place, STEP);
            let on_disk: Names = |_, tier, step| tier.map_or((Vec::new(), None), |tier| tier.keys(step));
            for names in [in_memory, on_disk] {
                let mut from = Some(0);
                while let (Some(place), Some(node)) = (from, node.upgrade()) {
                    from = node.note_step(names, place, &is_untold);
                    tokio::task::yield_now().await;
                }
            }
        });
    }

    /// Notes what is untold in one step, and returns where the next begins. Under the pool's lock, as all that is noted.
    fn note_step(&self, names: Names, place: usize, is_untold: &impl Fn(&[Member], &Key) -> bool) -> Option<usize> {
        let members = self.members();
        let state = self.shared.state();
        let (names, next) = names(&state.pool, self.shared.tier(), place);
        self.note(names.into_iter().filter(|key| is_untold(&members, key)).map(Change::Untold));
        next
    }

    fn tell(&self, changes: Vec<Change>) {
        let mut last = BTreeMap::new();
        self.drive(|state, moves| {
            let State { fetches, members, directory, .. } = state;
            let sight = Sight { me: self.me, members, directory };
            for change in changes {
                match change {
                    Change::Came(key) => fetches.came(&key, moves),
                    Change::Went(key) => fetches.went(&key, &sight, moves),
                    Change::Untold(_) => {}
                }
                match change {
                    Change::Came(key) | Change::Untold(key) => last.insert(key, true),
                    Change::Went(key) => last.insert(key, false),
                };
            }
        });
        // Whoever owns the key: this worker may have owned it when it came, and may again.
        let gone: Vec<Key> = last.iter().filter(|(_, is_here)| !**is_here).map(|(key, _)| *key).collect();
        self.state.lock().directory.withdraw(self.me, &gone);
        let members = self.members();
        let mut by_owner: BTreeMap<RunId, (Vec<Key>, Vec<Key>)> = BTreeMap::new();
        for (key, is_here) in last {
            let Some(owner) = owner(&members, &key) else { continue };
            let (came, went) = by_owner.entry(owner.run).or_default();
            if is_here {
                came.push(key)
            } else {
                went.push(key)
            };
        }
        for (owner, (came, went)) in by_owner {
            if owner == self.me {
                self.hear_announced(self.me, &came);
                continue;
            }
            came.chunks(MAX_BATCH).for_each(|keys| self.fabric.announce(owner, keys));
            went.chunks(MAX_BATCH).for_each(|keys| self.fabric.withdraw(owner, keys));
        }
    }

    /// Takes in what `holder` holds, and tells those who wait for it.
    pub(super) fn hear_announced(&self, holder: RunId, keys: &[Key]) {
        let mut told = Vec::new();
        self.drive(|state, moves| {
            let appeared = state.directory.announce(holder, keys);
            told = appeared.into_iter().filter_map(|appeared| state.take_waiter(self.me, appeared, moves)).collect();
        });
        for (asker, key) in told {
            self.point(&asker, &key, holder);
        }
    }
}

impl State {
    /// Whoever waited for what has appeared, if it is another worker; this one's own fetch goes on at once.
    fn take_waiter(
        &mut self,
        me: RunId,
        appeared: Appeared,
        moves: &mut Vec<Move>,
    ) -> Option<(chariot_fabric::Asker, Key)> {
        match self.tickets.remove(&appeared.ticket)? {
            Waiter { key, who: Who::Other { asker, .. } } => Some((asker, key)),
            Waiter { key, who: Who::Me } => {
                self.appeared_to_me(me, &key, appeared.holder, moves);
                None
            }
        }
    }
}

/// Tells what is noted, until the node is gone.
pub(super) async fn announce(node: Weak<Node>) {
    loop {
        let Some(node) = node.upgrade() else { return };
        let changes = std::mem::take(&mut *node.changes.noted.lock());
        if changes.is_empty() {
            node.changes.are_noted.notified().await;
        } else {
            node.tell(changes);
        }
    }
}
