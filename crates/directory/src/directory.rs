//! [`Directory`]: what the owner of keys knows of them.

use chariot_types::{Key, Member, RunId};

use crate::holders::Holders;
use crate::mix::halves;
use crate::owner::owns;
use crate::part::Part;
use crate::table::Table;
use crate::waits::Waits;
use crate::{Appeared, Counts, Limits, Ticket};

/// Who holds the keys that this worker owns, and who waits for one of them.
#[derive(Debug)]
pub struct Directory {
    me: RunId,
    limits: Limits,
    table: Table,
    holders: Holders,
    waits: Waits,
    round: Round,
    /// Whose keys the round under way keeps; `None` when it is about holders alone.
    members: Option<Vec<RunId>>,
    refused_records: u64,
    refused_waits: u64,
}

/// How far the records have been looked through for those that are to be forgotten.
#[derive(Default, Debug)]
struct Round {
    /// The shard that comes next.
    next: usize,
    /// How many have still to be looked at.
    left: usize,
}

/// What came of [`Directory::enrol`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enrolment {
    /// Another worker holds the key already; nothing is enrolled.
    Held(RunId),
    /// The asker will be told when the key appears.
    Waiting,
    /// The asker waits for as many keys as it may.
    Refused,
}

/// Whether [`Directory::sweep`] has to be called again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sweep {
    /// There is more to forget, perhaps.
    More,
    /// Nothing void is left.
    Done,
}

impl Directory {
    /// An empty directory of the worker whose run is `me`.
    pub fn new(me: RunId, limits: Limits) -> Self {
        Self {
            me,
            limits,
            table: Table::new(halves(me.as_bytes())),
            holders: Holders::default(),
            waits: Waits::default(),
            round: Round::default(),
            members: None,
            refused_records: 0,
            refused_waits: 0,
        }
    }

    /// `holder` holds `keys`, whoever owns them: it may know of a change of members before this worker does. To be told
    /// twice is no harm. Returns who is to be told.
    pub fn announce(&mut self, holder: RunId, keys: &[Key]) -> Vec<Appeared> {
        let mut appeared = Vec::new();
        for key in keys {
            self.record(holder, Part::of(key));
            self.waits.answer(key, holder, &mut appeared);
        }
        appeared
    }

    fn record(&mut self, holder: RunId, part: Part) {
        let Some(seat) = self.holders.admit(holder) else {
            self.refused_records += 1;
            return;
        };
        if self.table.contains(part, seat) {
            return;
        }
        let holder = self.holders.get_mut(seat).expect("it was just admitted");
        if holder.records >= self.limits.keys_a_holder {
            self.refused_records += 1;
            return;
        }
        holder.records += 1;
        self.table.insert(part, seat);
    }

    /// `holder` does not hold `keys` any more.
    pub fn withdraw(&mut self, holder: RunId, keys: &[Key]) {
        let Some(seat) = self.holders.seat(holder) else { return };
        let removed = keys.iter().filter(|key| self.table.remove(Part::of(key), seat)).count();
        self.holders.get_mut(seat).expect("its seat was found").records -= removed as u64;
    }

    /// All that is known to hold `key`, in no particular order.
    pub fn holders(&self, key: &Key) -> impl Iterator<Item = RunId> {
        self.table.seats(Part::of(key)).filter_map(|seat| self.holders.get(seat)).map(|holder| holder.run)
    }

    /// Has `asker` told under `ticket` when a worker other than itself announces `key`, unless one holds it now.
    pub fn enrol(&mut self, asker: RunId, ticket: Ticket, key: &Key) -> Enrolment {
        let held = self.holders(key).find(|holder| *holder != asker);
        if let Some(holder) = held {
            return Enrolment::Held(holder);
        }
        if self.waits.of(asker) >= self.limits.waits_an_asker {
            self.refused_waits += 1;
            return Enrolment::Refused;
        }
        self.waits.add(asker, ticket, *key);
        Enrolment::Waiting
    }

    /// The wait of `asker` under `ticket` is over, for all its keys.
    pub fn strike(&mut self, asker: RunId, ticket: Ticket) {
        self.waits.strike(asker, ticket);
    }

    /// The connection to `run` has ended, or starts anew: what it announced is void at once, and it waits for nothing.
    /// Calls for [`Directory::sweep`].
    pub fn forget(&mut self, run: RunId) {
        self.waits.strike_all(run);
        if self.holders.dismiss(run).is_some() {
            self.round.left = Table::SHARDS;
        }
    }

    /// Forgets the keys that other `members` own. Holders and askers go by [`Directory::forget`] alone, with their
    /// connection: whoever has one is there, whether or not this worker has heard of it by another way. Calls for
    /// [`Directory::sweep`].
    ///
    /// To be called once the members have stood for some seconds: a holder that learns of a change first announces by
    /// it, and this worker, by the members it still knows, would forget what it was just told.
    pub fn retain(&mut self, members: &[Member]) {
        self.members = Some(members.iter().map(|member| member.run).collect());
        self.round.left = Table::SHARDS;
    }

    /// Gives back the memory of some of what was forgotten: about a thousandth of the records are looked at, so that
    /// the caller can do other work between two calls. Until it is [`Sweep::Done`], keys that others own may be found.
    pub fn sweep(&mut self) -> Sweep {
        let Some(left) = self.round.left.checked_sub(1) else { return Sweep::Done };
        let (me, members, holders) = (self.me, self.members.as_deref(), &mut self.holders);
        self.table.sweep(self.round.next, |part, seat| {
            let Some(holder) = holders.get_mut(seat) else { return false };
            let keep = members.is_none_or(|members| owns(me, members, part));
            holder.records -= u64::from(!keep);
            keep
        });
        self.round = Round { next: (self.round.next + 1) % Table::SHARDS, left };
        if left > 0 {
            return Sweep::More;
        }
        self.members = None;
        self.holders.reuse_the_gone();
        Sweep::Done
    }

    /// What it holds, and what it did not take.
    pub fn counts(&self) -> Counts {
        Counts {
            records: self.table.len(),
            holders: self.holders.len(),
            waits: self.waits.len(),
            record_bytes: self.table.bytes(),
            refused_records: self.refused_records,
            refused_waits: self.refused_waits,
        }
    }
}
