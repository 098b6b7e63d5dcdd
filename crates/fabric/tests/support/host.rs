//! [`TestHost`]: what a worker of these tests does about what others say, and what it has seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use chariot_fabric::{Asker, Host, PullEnd, Sink};
use chariot_types::{Key, RunId};
use chariot_wire::{PeerBlock, Pull};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::SOON;
use super::block::{Block, Coming, Endless};

pub struct TestHost {
    this: Weak<TestHost>,
    state: Mutex<State>,
    changed: Notify,
    /// Who is sending the block without an end.
    pub endless_pins: Arc<Mutex<usize>>,
}

#[derive(Default)]
pub struct State {
    /// What is served.
    pub held: BTreeMap<Key, Arc<Block>>,
    pub elsewhere: BTreeMap<Key, RunId>,
    /// Pulls of these are not answered.
    pub unanswered: BTreeSet<Key>,
    /// A pull of this gets a block without an end.
    pub endless: Option<Key>,
    /// Those pulls.
    pub askers: Vec<(Key, Asker)>,
    /// What comes of these is not wanted.
    pub declined: BTreeSet<Key>,
    /// What has come.
    pub came: BTreeMap<Key, Came>,
    /// How pulls have ended.
    pub ends: Vec<(RunId, Key, PullEnd)>,
    /// What was heard on control channels, in order.
    pub heard: Vec<Heard>,
    /// Who is told to hold what.
    pub holders: BTreeMap<Key, RunId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    Growing(u64),
    Whole,
    Lost,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    Announced(RunId, Vec<Key>),
    Withdrawn(RunId, Vec<Key>),
    Forget(RunId),
    Reached(RunId),
    Deleted(Vec<Key>),
}

impl TestHost {
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            state: Mutex::default(),
            changed: Notify::new(),
            endless_pins: Arc::default(),
        })
    }

    pub fn hold(&self, block: &Arc<Block>) {
        self.change(|state| state.held.insert(block.key, block.clone()));
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.changed.notify_waiters();
        changed
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        self.seen(what, |state| is_so(state).then_some(())).await;
    }

    /// Waits until there is something to see.
    pub async fn seen<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let seen = timeout(SOON, async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                let seen = look(&self.state.lock());
                if let Some(seen) = seen {
                    return seen;
                }
                changed.await;
            }
        });
        let Ok(seen) = seen.await else { panic!("never came to pass: {what}") };
        seen
    }

    /// Waits for the end of the one pull of `key`.
    pub async fn end_of(&self, key: &Key) -> PullEnd {
        let end = |state: &State| state.ends.iter().find(|(_, ended, _)| ended == key).map(|(_, _, end)| *end);
        self.seen("the end of a pull", end).await
    }

    pub fn came(&self, key: &Key) -> Option<Came> {
        self.state.lock().came.get(key).copied()
    }

    pub fn note_came(&self, key: Key, came: Came) {
        self.change(|state| state.came.insert(key, came));
    }

    fn sink(&self, block: &PeerBlock<'_>) -> Option<Box<dyn Sink>> {
        if self.state.lock().declined.contains(&block.block.key) {
            return None;
        }
        Some(Coming::sink(self.this.upgrade()?, block))
    }
}

impl Host for TestHost {
    fn pull(&self, asker: Asker, pull: Pull) {
        let key = pull.key;
        let mut state = self.state.lock();
        if state.unanswered.contains(&key) {
            state.askers.push((key, asker));
            drop(state);
            self.changed.notify_waiters();
        } else if state.endless == Some(key) {
            asker.open(&Endless::record(key), Endless::source(&self.endless_pins));
        } else if let Some(block) = state.held.get(&key) {
            asker.open(&block.record(), block.source());
        } else if let Some(holder) = state.elsewhere.get(&key) {
            asker.elsewhere(*holder);
        } else {
            asker.miss();
        }
    }

    fn opened(&self, _from: RunId, block: &PeerBlock<'_>) -> Option<Box<dyn Sink>> {
        self.sink(block)
    }

    fn ended(&self, from: RunId, key: Key, end: PullEnd) {
        self.change(|state| state.ends.push((from, key, end)));
    }

    fn offered(&self, _from: RunId, block: &PeerBlock<'_>) -> Option<Box<dyn Sink>> {
        self.sink(block)
    }

    fn announced(&self, from: RunId, keys: &[Key]) {
        self.change(|state| state.heard.push(Heard::Announced(from, keys.to_vec())));
    }

    fn withdrawn(&self, from: RunId, keys: &[Key]) {
        self.change(|state| state.heard.push(Heard::Withdrawn(from, keys.to_vec())));
    }

    fn forget(&self, from: RunId) {
        self.change(|state| state.heard.push(Heard::Forget(from)));
    }

    fn reached(&self, to: RunId) {
        self.change(|state| state.heard.push(Heard::Reached(to)));
    }

    fn holders(&self, keys: &[Key]) -> Vec<Option<RunId>> {
        let state = self.state.lock();
        keys.iter().map(|key| state.holders.get(key).copied()).collect()
    }

    fn delete(&self, keys: &[Key]) -> Vec<bool> {
        self.change(|state| {
            state.heard.push(Heard::Deleted(keys.to_vec()));
            keys.iter().map(|key| state.held.remove(key).is_some()).collect()
        })
    }
}
