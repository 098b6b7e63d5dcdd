//! [`Waiting`]: requests that are answered later.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chariot_pool::{BlockId, GrantAsk, Lookup, NoRoom, OwnerId, PinWhat, Pinned, Pool, Progress};
use chariot_types::{Extent, Key};
use chariot_wire::limits::{GLANCE_MICROS, MAX_PAYLOAD};
use chariot_wire::{BlockRecord, BlockState, Refusal, Reply};

use super::elsewhere::Question;
use super::outbound::BlockBytes;
use super::{End, Session};
use crate::node::{Interest, Sighting};
use crate::tier::{Brought, Then};
use crate::waiters::{Inbox, Nudge, Topic, Waiters};

/// More waiting requests than this on one connection are refused.
const MAX_WAITING: usize = 4096;

/// A request that is answered when something happens, or its deadline passes.
pub(super) struct Waiting {
    deadline: Instant,
    what: What,
}

pub(super) enum What {
    Get(Get),
    Watch {
        block: BlockId,
        beyond: u64,
    },
    Grant(GrantAsk),
    /// A question to other workers.
    Question(Question),
}

/// A get that has found some of its blocks, which stay pinned while it waits for the others.
pub(super) struct Get {
    what: PinWhat,
    /// How other workers are asked for what is missing.
    interest: Interest,
    found: Vec<Option<Pinned>>,
    /// What of `missing` comes from the disk, so that others are not asked.
    on_disk: HashSet<Key>,
    /// Where in `found` each key that is still missing belongs.
    missing: HashMap<Key, Vec<usize>>,
}

impl Waiting {
    /// Strikes the request off all it is enrolled for.
    pub(super) fn strike(&self, waiters: &mut Waiters, owner: OwnerId, request: u64) {
        match &self.what {
            What::Get(get) => {
                get.missing.keys().for_each(|key| {
                    waiters.strike(topic(get.what, *key), owner.0, request);
                    waiters.strike(Topic::Elsewhere(*key), owner.0, request);
                });
            }
            What::Watch { block, .. } => waiters.strike(Topic::Block(*block), owner.0, request),
            What::Grant(_) => waiters.strike(Topic::Room, owner.0, request),
            What::Question(_) => {}
        }
    }
}

fn sighting(pool: &Pool, key: &Key, now: Instant) -> Sighting {
    match pool.lookup(key, now) {
        Lookup::Miss => Sighting::Absent,
        Lookup::Growing { .. } | Lookup::Sealed { .. } => Sighting::Growing,
    }
}

fn topic(what: PinWhat, key: Key) -> Topic {
    match what {
        PinWhat::Sealed => Topic::Sealed(key),
        PinWhat::Readable => Topic::Readable(key),
    }
}

impl Session {
    /// Answers a get, now or when its blocks are there.
    pub(super) fn get(&mut self, request: u64, what: PinWhat, wait: u64, keys: &[Key]) {
        let now = Instant::now();
        let (owner, inbox) = (self.owner, Inbox::Session(self.nudges.clone()));
        let node = self.shared.node();
        let tier = self.shared.tier();
        let is_elsewhere = |key: &Key| node.is_some() || tier.is_some_and(|tier| tier.holds(key));
        // What is on the disk, or at others, takes a moment to come.
        let (interest, wait) = if wait == 0 { (Interest::Glances, GLANCE_MICROS) } else { (Interest::Waits, wait) };
        let can_wait = self.may_wait();
        let (found, missing, on_disk) = (Vec::with_capacity(keys.len()), HashMap::new(), HashSet::new());
        let mut get = Get { what, interest, found, missing, on_disk };
        let mut wanted = Vec::new();
        self.shared.change(|state| {
            for (index, key) in keys.iter().enumerate() {
                let pinned = state.pool.pin(owner, key, what, now);
                if pinned.is_none() && can_wait && (interest == Interest::Waits || is_elsewhere(key)) {
                    get.missing.entry(*key).or_default().push(index);
                }
                get.found.push(pinned);
            }
            for key in get.missing.keys() {
                state.waiters.enrol(topic(what, *key), owner.0, request, inbox.clone());
                wanted.push((*key, sighting(&state.pool, key, now)));
                if interest == Interest::Glances {
                    state.waiters.enrol(Topic::Elsewhere(*key), owner.0, request, inbox.clone());
                }
            }
        });
        if get.missing.is_empty() {
            return self.answer_get(request, get);
        }
        let others = self.want_from_disk(request, &mut get, wanted);
        self.wait(request, wait, What::Get(get));
        self.want_from_others(request, others, interest);
    }

    /// Has what is on the disk come; hands back what is not.
    fn want_from_disk(&self, request: u64, get: &mut Get, wanted: Vec<(Key, Sighting)>) -> Vec<(Key, Sighting)> {
        let Some(tier) = self.shared.tier() else { return wanted };
        let (absent, mut others): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(_, sighting)| *sighting == Sighting::Absent);
        let then = |key: Key| -> Then {
            let nudges = self.nudges.clone();
            Box::new(move |brought| {
                // What is here by now is told of by the pool. A session that has just ended needs no nudge.
                if brought == Brought::Not {
                    let _ = nudges.send((request, Topic::NotOnDisk(key)));
                }
            })
        };
        get.on_disk.extend(absent.iter().map(|(key, _)| *key));
        let not_there = tier.bring(absent.into_iter().map(|(key, _)| (key, then(key))).collect());
        for (key, _) in not_there {
            get.on_disk.remove(&key);
            others.push((key, Sighting::Absent));
        }
        others
    }

    /// What came back from the disk and went again before it was looked for comes once more. `false`: it is not here yet.
    fn want_again(&self, request: u64, get: &mut Get, topic: Topic) -> bool {
        if let Topic::Sealed(key) | Topic::Readable(key) = topic
            && get.missing.contains_key(&key)
            && get.on_disk.contains(&key)
        {
            let others = self.want_from_disk(request, get, vec![(key, Sighting::Absent)]);
            self.want_from_others(request, others, get.interest);
        }
        false
    }

    /// Has what others hold come; where there are none, whoever glances knows all there is to know.
    fn want_from_others(&self, request: u64, wanted: Vec<(Key, Sighting)>, interest: Interest) {
        match self.shared.node() {
            Some(node) => node.want(wanted, interest),
            None if interest == Interest::Glances => {
                for (key, _) in wanted {
                    let _ = self.nudges.send((request, Topic::Elsewhere(key)));
                }
            }
            None => {}
        }
    }

    /// Tells the node that what `waiting` still misses is not wanted any more.
    pub(super) fn want_no_more_of(&self, waiting: &Waiting) {
        if let What::Get(get) = &waiting.what
            && let Some(node) = self.shared.node()
        {
            node.unwant(get.missing.keys().filter(|key| !get.on_disk.contains(*key)).copied(), get.interest);
        }
    }

    /// Answers a watch, now or when the block has grown.
    pub(super) fn watch(&mut self, request: u64, block: u64, beyond: u64, wait: u64) -> Result<(), End> {
        let block = BlockId::from_u64(block);
        if self.stream.is_inline() && !self.followed.contains_key(&block) {
            return Err(End::OutOfPlace { request, what: "a block is followed before it is watched" });
        }
        let progress = self.look_at(request, block, beyond, wait > 0);
        match progress {
            Some(progress) => self.answer_watch(request, block, beyond, progress),
            None if wait > 0 => self.wait(request, wait, What::Watch { block, beyond }),
            None => self.answer_watch(request, block, beyond, chariot_wire::Progress::TimedOut),
        }
        Ok(())
    }

    /// Answers a grant, now or when there is room.
    pub(super) fn grant(&mut self, request: u64, ask: GrantAsk, wait: u64) {
        let can_wait = wait > 0 && self.may_wait();
        match self.try_grant(request, ask, can_wait) {
            Err(NoRoom::Full) if can_wait => self.wait(request, wait, What::Grant(ask)),
            answer => self.answer_grant(request, answer),
        }
    }

    /// Answers a waiting request now, with what there is.
    pub(super) fn cancel(&mut self, request: u64) {
        let Some(waiting) = self.waiting.remove(&request) else { return };
        self.deadlines.remove(&(waiting.deadline, request));
        self.shared.change(|state| waiting.strike(&mut state.waiters, self.owner, request));
        self.want_no_more_of(&waiting);
        match waiting.what {
            What::Question(question) => self.answer_question(request, question),
            What::Get(get) => self.answer_get(request, get),
            What::Watch { block, beyond } => {
                self.answer_watch(request, block, beyond, chariot_wire::Progress::TimedOut);
            }
            What::Grant(_) => self.answer_grant(request, Err(NoRoom::Full)),
        }
    }

    /// Answers all waiting requests whose deadline has passed.
    pub(super) fn time_out(&mut self) {
        let now = Instant::now();
        while let Some((_, request)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.pop_first();
            self.cancel(request);
        }
    }

    /// Looks again at a request for which something has happened.
    pub(super) fn nudged(&mut self, (request, topic): Nudge) {
        let Some(mut waiting) = self.waiting.remove(&request) else { return };
        let is_done = match &mut waiting.what {
            What::Get(get) => match topic {
                Topic::NotOnDisk(key) => {
                    if get.on_disk.remove(&key) {
                        self.want_from_others(request, vec![(key, Sighting::Absent)], get.interest);
                    }
                    false
                }
                topic => self.look_for(request, get, topic) || self.want_again(request, get, topic),
            },
            What::Watch { block, beyond } => match self.look_at(request, *block, *beyond, true) {
                None => false,
                Some(progress) => {
                    self.answer_watch(request, *block, *beyond, progress);
                    true
                }
            },
            What::Grant(ask) => match self.try_grant(request, *ask, true) {
                Err(NoRoom::Full) => false,
                answer => {
                    self.answer_grant(request, answer);
                    true
                }
            },
            What::Question(_) => true,
        };
        if !is_done {
            self.waiting.insert(request, waiting);
            return;
        }
        self.deadlines.remove(&(waiting.deadline, request));
        match waiting.what {
            What::Get(get) => self.answer_get(request, get),
            What::Question(question) => self.answer_question(request, question),
            What::Watch { .. } | What::Grant(_) => {}
        }
    }

    /// Whether one request more may wait.
    pub(super) fn may_wait(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    pub(super) fn wait(&mut self, request: u64, micros: u64, what: What) {
        let deadline = Instant::now() + Duration::from_micros(micros);
        self.deadlines.insert((deadline, request));
        self.waiting.insert(request, Waiting { deadline, what });
    }

    /// Pins the block that `topic` is about; `true` when no other is missing.
    fn look_for(&self, request: u64, get: &mut Get, topic_key: Topic) -> bool {
        let (Topic::Sealed(key) | Topic::Readable(key) | Topic::Elsewhere(key)) = topic_key else { return false };
        let Some(places) = get.missing.remove(&key) else { return get.missing.is_empty() };
        let (now, what) = (Instant::now(), get.what);
        let is_settled = matches!(topic_key, Topic::Elsewhere(_));
        let is_still_missing = self.shared.change(|state| {
            for index in &places {
                get.found[*index] = state.pool.pin(self.owner, &key, what, now);
            }
            let is_missing = places.iter().any(|index| get.found[*index].is_none()) && !is_settled;
            if is_missing {
                state.waiters.enrol(topic(what, key), self.owner.0, request, Inbox::Session(self.nudges.clone()));
            } else {
                state.waiters.strike(topic(what, key), self.owner.0, request);
                state.waiters.strike(Topic::Elsewhere(key), self.owner.0, request);
            }
            is_missing
        });
        if is_still_missing {
            get.missing.insert(key, places);
        } else if !get.on_disk.remove(&key)
            && let Some(node) = self.shared.node()
        {
            node.unwant([key], get.interest);
        }
        get.missing.is_empty()
    }

    /// How a watched block is, if it has grown beyond `beyond`; else enrols for when it has.
    fn look_at(&self, request: u64, block: BlockId, beyond: u64, enrol: bool) -> Option<chariot_wire::Progress> {
        self.shared.change(|state| match state.pool.progress(block) {
            Some(Progress::Growing { readable }) if readable > beyond => {
                Some(chariot_wire::Progress::Readable(readable))
            }
            Some(Progress::Growing { .. }) => {
                if enrol {
                    state.waiters.enrol(
                        Topic::Block(block),
                        self.owner.0,
                        request,
                        Inbox::Session(self.nudges.clone()),
                    );
                }
                None
            }
            Some(Progress::Sealed) => Some(chariot_wire::Progress::Sealed),
            Some(Progress::Lost) | None => Some(chariot_wire::Progress::Lost),
        })
    }

    fn try_grant(&self, request: u64, ask: GrantAsk, enrol: bool) -> Result<Extent, NoRoom> {
        self.shared.change(|state| {
            let granted = state.pool.grant(self.owner, ask, Instant::now());
            if enrol && granted == Err(NoRoom::Full) {
                state.waiters.enrol(Topic::Room, self.owner.0, request, Inbox::Session(self.nudges.clone()));
            }
            granted
        })
    }

    fn answer_get(&mut self, request: u64, mut get: Get) {
        let is_inline = self.stream.is_inline();
        if is_inline {
            self.cut_to_payload_limit(&mut get);
        }
        let records: Vec<_> = get.found.iter().map(|found| record(found.as_ref(), is_inline)).collect();
        if !is_inline {
            self.outbound.reply(request, &Reply::Blocks(&records));
            return;
        }
        let mut bytes = Vec::new();
        for pinned in get.found.into_iter().flatten() {
            let extent = Extent { offset: pinned.extent.offset, len: pinned.readable };
            let unpin = pinned.sealed.then_some(pinned.block);
            bytes.push(BlockBytes { extent, unpin });
            if !pinned.sealed {
                self.followed.insert(pinned.block, pinned);
            }
        }
        self.outbound.reply_with(request, &Reply::Blocks(&records), bytes);
    }

    /// What one answer cannot carry is a miss in it.
    fn cut_to_payload_limit(&self, get: &mut Get) {
        let mut carried = 0u64;
        for found in &mut get.found {
            let Some(pinned) = *found else { continue };
            match carried.checked_add(pinned.readable).filter(|sum| *sum <= MAX_PAYLOAD) {
                Some(sum) => carried = sum,
                None => {
                    *found = None;
                    // It was pinned for this answer.
                    let _ = self.shared.change(|state| state.pool.unpin(self.owner, pinned.block));
                }
            }
        }
    }

    fn answer_watch(&mut self, request: u64, block: BlockId, beyond: u64, progress: chariot_wire::Progress) {
        let mut bytes = Vec::new();
        if let Some(pinned) = self.followed.get(&block) {
            let readable = match progress {
                chariot_wire::Progress::Readable(readable) => readable,
                chariot_wire::Progress::Sealed => pinned.len,
                chariot_wire::Progress::Lost | chariot_wire::Progress::TimedOut => beyond,
            };
            let len = readable.saturating_sub(beyond);
            if len > 0 {
                let extent = Extent { offset: pinned.extent.offset + beyond, len };
                bytes.push(BlockBytes { extent, unpin: None });
            }
        }
        self.outbound.reply_with(request, &Reply::Progress(progress), bytes);
    }

    fn answer_grant(&mut self, request: u64, answer: Result<Extent, NoRoom>) {
        match answer {
            Ok(extent) => self.outbound.reply(request, &Reply::Granted(extent)),
            Err(no_room) => self.refuse_room(request, no_room),
        }
    }

    /// Tells that there is no room, and why.
    pub(super) fn refuse_room(&mut self, request: u64, no_room: NoRoom) {
        let refusal = match no_room {
            NoRoom::NeverFits { .. } => Refusal::NeverFits,
            NoRoom::Full => Refusal::Full,
        };
        self.refuse(request, refusal, &no_room.to_string());
    }
}

fn record(found: Option<&Pinned>, is_inline: bool) -> BlockRecord {
    let Some(pinned) = found else { return BlockRecord::miss() };
    let state = if pinned.sealed { BlockState::Sealed } else { BlockState::Growing { readable: pinned.readable } };
    // Over TCP a whole block travels with the answer, and the client has no pin to give back.
    let number = if is_inline && pinned.sealed { 0 } else { pinned.block.as_u64() };
    BlockRecord::new(state, number, pinned.extent, pinned.len)
}
