//! [`Fetches`]: what sessions want and is not here, and whom it is asked of.
//!
//! Pure state. The way of one key:
//!
//! ```text
//!             owner is another                     owner is this worker
//!   want ---> ask the owner -----\      /--------- look into the directory <----- appeared
//!               | has it: comes   \    /  a holder     | none, and it is waited for
//!               | elsewhere ----> ask the holder       v
//!               | nobody            | has it: comes   enrolled
//!               v                   | not: begin anew, but not with that one
//!             settled, and after a rest begin anew if it is waited for
//! ```
//!
//! What comes is found in the pool by those who want it; while it is [here](At::Here), there is nothing to do but to see
//! whether it goes again. What is settled concerns only those who glance. A fetch ends with the last who wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chariot_directory::{Directory, Ticket, owner};
use chariot_fabric::{PullEnd, Pulling};
use chariot_types::{Key, Member, RunId};
use chariot_wire::{Pull, Reach, micros};
use tokio::time::Instant;

/// For how long an owner is asked to wait before it is asked again.
const WAIT_AT_OWNER: Duration = Duration::from_secs(30);

/// Before something that failed is tried again, and what was missed is asked for again.
const REST: Duration = Duration::from_millis(50);

/// Whoever does not wait gets no more attempts than this; whoever does, a rest after as many.
const MOST_ATTEMPTS: u32 = 4;

/// For how long a session wants a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    /// Until it comes.
    Waits,
    /// Until it is known that nobody has it.
    Glances,
}

/// What was seen of a key in the pool by whoever wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sighting {
    /// Nothing.
    Absent,
    /// A block that grows.
    Growing,
}

/// What is known of the cluster.
pub(super) struct Sight<'a> {
    pub(super) me: RunId,
    pub(super) members: &'a [Member],
    pub(super) directory: &'a Directory,
}

/// What is to be done.
pub(super) enum Move {
    /// Pull from another; to be told of how that began ([`Fetches::began`]) and ended.
    Pull { attempt: u64, whom: RunId, pull: Pull },
    /// Wait for the key in this worker's directory.
    Enrol(Key),
    /// Wait no more.
    Strike(Ticket),
    /// The pull is not wanted any more.
    Stop(Pulling),
    /// It is known that nobody has it.
    Settle(Key),
    /// Something is due earlier than anything before.
    Rest,
}

/// What sessions want and is not here.
#[derive(Default)]
pub(super) struct Fetches {
    by_key: BTreeMap<Key, Fetch>,
    resting: BTreeSet<(Instant, Key)>,
    next_attempt: u64,
}

struct Fetch {
    waiting: u32,
    glancing: u32,
    attempts: u32,
    /// Who has turned out not to have it.
    but: Option<RunId>,
    at: At,
}

enum At {
    /// Nothing is under way.
    Nowhere,
    Asking {
        attempt: u64,
        whom: RunId,
        reach: Reach,
        pulling: Option<Pulling>,
    },
    Enrolled(Option<Ticket>),
    /// It is in the pool, growing at least.
    Here,
    Resting(Instant),
}

impl Fetches {
    /// A session wants `key`.
    pub(super) fn want(
        &mut self,
        key: Key,
        sighting: Sighting,
        interest: Interest,
        sight: &Sight<'_>,
        moves: &mut Vec<Move>,
    ) {
        let fetch = self.by_key.entry(key).or_insert_with(|| Fetch {
            waiting: 0,
            glancing: 0,
            attempts: 0,
            but: None,
            at: At::Nowhere,
        });
        match interest {
            Interest::Waits => fetch.waiting += 1,
            Interest::Glances => fetch.glancing += 1,
        }
        fetch.attempts = 0;
        match (sighting, &fetch.at) {
            (Sighting::Growing, At::Nowhere) => fetch.at = At::Here,
            // Who glances hears at once that the others are waiting.
            (_, At::Enrolled(_)) => self.settle_glances(key, moves),
            (Sighting::Absent, At::Nowhere | At::Here | At::Resting(_)) => {
                self.leave(&key, moves);
                self.step(key, sight, moves);
            }
            _ => {}
        }
    }

    /// A session no longer wants `key`.
    pub(super) fn unwant(&mut self, key: &Key, interest: Interest, moves: &mut Vec<Move>) {
        let Some(fetch) = self.by_key.get_mut(key) else { return };
        let count = match interest {
            Interest::Waits => &mut fetch.waiting,
            Interest::Glances => &mut fetch.glancing,
        };
        *count = count.saturating_sub(1);
        if fetch.waiting == 0 && fetch.glancing == 0 {
            self.leave(key, moves);
            self.by_key.remove(key);
        }
    }

    /// The pull that a move asked for is under way; handed back if it is not wanted any more.
    pub(super) fn began(&mut self, begun: u64, key: &Key, under_way: Pulling) -> Option<Pulling> {
        match self.by_key.get_mut(key).map(|fetch| &mut fetch.at) {
            Some(At::Asking { attempt, pulling, .. }) if *attempt == begun => {
                *pulling = Some(under_way);
                None
            }
            _ => Some(under_way),
        }
    }

    /// The pull of `key` from `from` has ended.
    pub(super) fn ended(&mut self, from: RunId, key: &Key, end: PullEnd, sight: &Sight<'_>, moves: &mut Vec<Move>) {
        let Some(fetch) = self.by_key.get_mut(key) else { return };
        // What is here already is told of by the pool.
        let reach = match &fetch.at {
            At::Asking { whom, reach, .. } if *whom == from => *reach,
            At::Here if matches!(end, PullEnd::Whole) => Reach::Holder,
            _ => return,
        };
        match end {
            PullEnd::Whole => {
                fetch.at = At::Here;
                self.settle_glances(*key, moves);
            }
            PullEnd::Declined => self.rest(key, moves),
            PullEnd::Elsewhere(holder) if holder != sight.me && Some(holder) != fetch.but => {
                self.ask(*key, holder, Reach::Holder, moves);
            }
            PullEnd::Elsewhere(_) => self.rest(key, moves),
            PullEnd::Miss if reach == Reach::Holder => {
                fetch.but = Some(from);
                self.step(*key, sight, moves);
            }
            PullEnd::Miss if fetch.waiting == 0 => self.settle(*key, moves),
            PullEnd::Miss => {
                self.settle_glances(*key, moves);
                self.rest(key, moves);
            }
            PullEnd::Lost | PullEnd::Gone if reach == Reach::Holder && fetch.but != Some(from) => {
                fetch.but = Some(from);
                self.step(*key, sight, moves);
            }
            PullEnd::Lost | PullEnd::Gone => self.rest(key, moves),
        }
    }

    /// `key` has appeared in this worker's directory.
    pub(super) fn appeared(&mut self, key: &Key, holder: RunId, sight: &Sight<'_>, moves: &mut Vec<Move>) {
        let Some(fetch) = self.by_key.get_mut(key) else { return };
        if !matches!(fetch.at, At::Enrolled(_)) {
            return;
        }
        fetch.at = At::Nowhere;
        if holder == sight.me {
            self.step(*key, sight, moves);
        } else {
            self.ask(*key, holder, Reach::Holder, moves);
        }
    }

    /// This worker waits for `key` under `ticket`, if that is still wanted.
    pub(super) fn enrolled(&mut self, key: &Key, ticket: Ticket, moves: &mut Vec<Move>) {
        match self.by_key.get_mut(key).map(|fetch| &mut fetch.at) {
            Some(At::Enrolled(under @ None)) => *under = Some(ticket),
            _ => moves.push(Move::Strike(ticket)),
        }
    }

    /// A block can be found under `key` in the pool.
    pub(super) fn came(&mut self, key: &Key, moves: &mut Vec<Move>) {
        if self.by_key.contains_key(key) {
            self.leave(key, moves);
            if let Some(fetch) = self.by_key.get_mut(key) {
                fetch.at = At::Here;
            }
        }
    }

    /// No block can be found under `key` in the pool any more.
    pub(super) fn went(&mut self, key: &Key, sight: &Sight<'_>, moves: &mut Vec<Move>) {
        if self.by_key.get(key).is_some_and(|fetch| matches!(fetch.at, At::Here)) {
            self.step(*key, sight, moves);
        }
    }

    /// Owners have changed.
    pub(super) fn members_changed(&mut self, sight: &Sight<'_>, moves: &mut Vec<Move>) {
        let keys: Vec<Key> = self.by_key.keys().copied().collect();
        for key in keys {
            let now_owner = owner(sight.members, &key).map(|member| member.run);
            let Some(fetch) = self.by_key.get_mut(&key) else { continue };
            fetch.but = None;
            let is_moved = match &fetch.at {
                At::Asking { whom, reach: Reach::Owner, .. } => now_owner != Some(*whom),
                At::Asking { whom, .. } => sight.members.iter().all(|member| member.run != *whom),
                At::Enrolled(_) => now_owner != Some(sight.me),
                At::Resting(_) => true,
                At::Here | At::Nowhere => false,
            };
            if is_moved {
                self.leave(&key, moves);
                self.step(key, sight, moves);
            }
        }
    }

    /// Something rests until then at the earliest.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.resting.first().map(|(at, _)| *at)
    }

    /// Goes on with what has rested for long enough.
    pub(super) fn go_on(&mut self, now: Instant, sight: &Sight<'_>, moves: &mut Vec<Move>) {
        while let Some((_, key)) = self.resting.first().copied().filter(|(at, _)| *at <= now) {
            self.resting.pop_first();
            if let Some(fetch) = self.by_key.get_mut(&key) {
                fetch.at = At::Nowhere;
                fetch.but = None;
                self.step(key, sight, moves);
            }
        }
    }

    /// How many keys are wanted.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Begins at the owner.
    fn step(&mut self, key: Key, sight: &Sight<'_>, moves: &mut Vec<Move>) {
        let Some(fetch) = self.by_key.get_mut(&key) else { return };
        fetch.attempts += 1;
        if fetch.attempts > MOST_ATTEMPTS {
            return self.rest(&key, moves);
        }
        let but = fetch.but;
        match owner(sight.members, &key).map(|member| member.run) {
            Some(run) if run != sight.me => self.ask(key, run, Reach::Owner, moves),
            _ => {
                let mut holders = sight.directory.holders(&key).filter(|holder| *holder != sight.me);
                let holder = holders.find(|holder| Some(*holder) != but);
                match holder {
                    Some(holder) => self.ask(key, holder, Reach::Holder, moves),
                    None if fetch.waiting == 0 => self.settle(key, moves),
                    // The directory still names who turned out not to have it.
                    None if sight.directory.holders(&key).any(|holder| Some(holder) == but) => {
                        self.settle_glances(key, moves);
                        self.rest(&key, moves);
                    }
                    None => {
                        fetch.at = At::Enrolled(None);
                        self.settle_glances(key, moves);
                        moves.push(Move::Enrol(key));
                    }
                }
            }
        }
    }

    fn ask(&mut self, key: Key, whom: RunId, reach: Reach, moves: &mut Vec<Move>) {
        let attempt = self.next_attempt;
        let Some(fetch) = self.by_key.get_mut(&key) else { return };
        self.next_attempt += 1;
        let wait = if fetch.waiting > 0 && reach == Reach::Owner { micros(WAIT_AT_OWNER) } else { 0 };
        let pull = Pull { key, reach, but: fetch.but, wait };
        fetch.at = At::Asking { attempt, whom, reach, pulling: None };
        moves.push(Move::Pull { attempt, whom, pull });
    }

    /// Begins anew a little later.
    pub(super) fn rest(&mut self, key: &Key, moves: &mut Vec<Move>) {
        let Some(fetch) = self.by_key.get_mut(key) else { return };
        if fetch.waiting == 0 && fetch.attempts >= MOST_ATTEMPTS {
            return self.settle(*key, moves);
        }
        if fetch.waiting > 0 {
            fetch.attempts = 0;
        }
        let until = Instant::now() + REST;
        fetch.at = At::Resting(until);
        self.resting.insert((until, *key));
        moves.push(Move::Rest);
    }

    /// Nobody has it, and nobody waits for it.
    fn settle(&mut self, key: Key, moves: &mut Vec<Move>) {
        self.leave(&key, moves);
        moves.push(Move::Settle(key));
    }

    /// Tells those who glance that nothing more is to be expected; those who wait go on.
    fn settle_glances(&mut self, key: Key, moves: &mut Vec<Move>) {
        if self.by_key.get(&key).is_some_and(|fetch| fetch.glancing > 0) {
            moves.push(Move::Settle(key));
        }
    }

    /// Lets go of what is under way.
    fn leave(&mut self, key: &Key, moves: &mut Vec<Move>) {
        let Some(fetch) = self.by_key.get_mut(key) else { return };
        match std::mem::replace(&mut fetch.at, At::Nowhere) {
            At::Asking { pulling: Some(pulling), .. } => moves.push(Move::Stop(pulling)),
            At::Enrolled(Some(ticket)) => moves.push(Move::Strike(ticket)),
            At::Resting(until) => {
                self.resting.remove(&(until, *key));
            }
            At::Nowhere | At::Here | At::Asking { pulling: None, .. } | At::Enrolled(None) => {}
        }
    }
}
