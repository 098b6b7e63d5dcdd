//! The life of blocks, against a model: random calls by several owners, each answer and each state compared with what
//! a plain list of blocks would say, and every readable byte compared with what its writer wrote. Half of the pools are
//! shared: some of their readers then find and pin blocks without a call.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod naive;
mod step;
mod turns;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use chariot_index::{Found, Held, Index as SharedIndex, Pinning, Pins, View, Want};
use chariot_pool::{
    BlockId, CreateOutcome, CreateRecord, Event, GrantAsk, Lookup, Misuse, NoRoom, Origin, OwnerId, PinWhat, Pool,
    PoolStats, Prefix, Progress, PutOutcome, PutRecord, SlotId, Teller, Terms,
};
use chariot_types::{Extent, Key};
use proptest::prelude::*;
use proptest::sample::Index;

use naive::{Block, Bytes, Naive, Named, Serial, Time, Told};
use step::{Draft, Parents, Step, steps};
use turns::Namespace;

proptest! {
    #[test]
    fn the_pool_does_what_a_list_of_blocks_would(steps in steps(Parents::Honest), capacity in 1u64..800, shared in any::<bool>()) {
        let mut run = Run::new(capacity * Extent::ALIGN, Parents::Honest, shared);
        for step in steps {
            run.take(step);
            run.compare();
        }
        run.end();
    }

    #[test]
    fn whatever_parents_blocks_name_all_of_them_can_go(steps in steps(Parents::Hostile), capacity in 1u64..800, shared in any::<bool>()) {
        let mut run = Run::new(capacity * Extent::ALIGN, Parents::Hostile, shared);
        for step in steps {
            run.take(step);
            run.compare();
        }
        run.end_by_evicting();
    }
}

/// A pool and its model.
struct Run {
    pool: Pool,
    /// Events that were taken and not yet compared.
    events: Vec<Event>,
    /// What events have told of names.
    names: BTreeSet<Key>,
    naive: Naive,
    parents: Parents,
    start: Instant,
    now: Time,
    /// The owners of now: a dropped one is followed by another.
    owners: [OwnerId; 3],
    slots: u64,
    ids: HashMap<Serial, BlockId>,
    refused: bool,
    reader: Option<Reader>,
}

/// Someone who reads a shared pool without a call.
struct Reader {
    view: View,
    pins: Pins,
    held: Vec<(Serial, Held)>,
}

const READER: OwnerId = OwnerId(0);

impl Reader {
    /// A shared pool, and one who reads it.
    fn of_pool(capacity: u64) -> (Pool, Self) {
        let index = SharedIndex::create(capacity).unwrap();
        let view = View::map(&index).unwrap();
        let mut pool = Pool::shared(capacity, index);
        let pins = Pins::map(pool.admit_reader(READER).unwrap().unwrap()).unwrap();
        (pool, Self { view, pins, held: Vec::new() })
    }
}

fn key(name: u8) -> Key {
    Key::of_name(&[name])
}

fn keys() -> impl Iterator<Item = Key> {
    (0..10).map(key)
}

impl Run {
    fn new(capacity: u64, parents: Parents, is_shared: bool) -> Self {
        let (mut pool, reader) = if is_shared {
            let (pool, reader) = Reader::of_pool(capacity);
            (pool, Some(reader))
        } else {
            (Pool::new(capacity), None)
        };
        pool.tell_of_names();
        let mut run = Self {
            pool,
            reader,
            events: Vec::new(),
            names: BTreeSet::new(),
            naive: Naive::new(capacity),
            parents,
            start: Instant::now(),
            now: 0,
            owners: [1, 2, 3].map(OwnerId),
            slots: 0,
            ids: HashMap::new(),
            refused: false,
        };
        for namespace in Namespace::ALL {
            let id = run.pool.namespace(&namespace.name());
            if let Some(quota) = namespace.quota(capacity) {
                run.pool.set_quota(id, quota);
            }
        }
        run.owners.into_iter().for_each(|owner| run.agree(owner));
        run
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    fn owner(&self, owner: u8) -> OwnerId {
        self.owners[usize::from(owner)]
    }

    /// The third owner's blocks are copies.
    fn origin_of(&self, owner: OwnerId) -> Origin {
        if self.owners[2] == owner { Origin::Copied } else { Origin::Computed }
    }

    /// The first owner's namespace has a quota for its blocks, the second's for few; the third says none.
    fn namespace_of(&self, owner: OwnerId) -> Namespace {
        match self.owners.iter().position(|other| *other == owner) {
            Some(0) => Namespace::Guarded,
            Some(1) => Namespace::Small,
            _ => Namespace::Default,
        }
    }

    fn agree(&mut self, owner: OwnerId) {
        let (origin, namespace) = (self.origin_of(owner), self.pool.namespace(&self.namespace_of(owner).name()));
        self.pool.agree(owner, Terms { origin, namespace });
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Grant { owner, min, more } => {
                self.grant(self.owner(owner), min, min + more);
            }
            Step::GiveBack { owner, region, from, len } => self.give_back(self.owner(owner), region, from, len),
            Step::Put { owner, block } => self.put(self.owner(owner), block),
            Step::Create { owner, block } => self.create(self.owner(owner), block),
            Step::Advance { owner, slot, by } => self.advance(self.owner(owner), slot, by),
            Step::Seal { owner, slot } => self.seal(self.owner(owner), slot),
            Step::Abandon { owner, slot } => self.abandon(self.owner(owner), slot),
            Step::Pin { owner, key: name, growing_as_well } => {
                let what = if growing_as_well { PinWhat::Readable } else { PinWhat::Sealed };
                self.pin(self.owner(owner), key(name), what);
            }
            Step::Unpin { owner, pin } => self.unpin(self.owner(owner), pin),
            Step::Read { key: name, growing_as_well } => {
                self.read(key(name), if growing_as_well { Want::Readable } else { Want::Whole });
            }
            Step::LetGo { pin } => self.let_go(pin),
            Step::Delete { key: name } => self.delete(key(name)),
            Step::Drop { owner } => {
                let gone = self.owner(owner);
                self.pool.drop_owner(gone);
                self.naive.drop_owner(gone);
                let next = OwnerId(gone.0 + 3);
                self.owners[usize::from(owner)] = next;
                self.agree(next);
            }
            Step::Pass { seconds } => self.now += seconds,
            Step::Expire => assert_eq!(self.pool.expire(self.instant()), self.naive.expire(self.now)),
            Step::SoftPin { key: name, seconds } => self.soft_pin(key(name), seconds),
            Step::SoftUnpin { key: name } => self.soft_unpin(key(name)),
            Step::EvictUntilFree { free, most } => self.evict_until_free(free, most),
            Step::EvictTo { owner, bytes, most } => self.evict_to(self.owner(owner), bytes, most),
            Step::EvictAll { namespace } => self.evict_all(namespace),
            Step::Misuse { owner, garbage } => self.misuse(self.owner(owner), garbage),
        }
        self.pool.sweep();
        self.pool.look_again();
    }

    fn read(&mut self, key: Key, want: Want) {
        let Some(reader) = &mut self.reader else { return };
        let expected = self.naive.found(&key, self.now);
        let named = |block: &&Block| block.named == Named::Yes && block.key == key;
        if self.naive.blocks.values().find(named).is_some_and(|block| block.expires_at.is_some()) {
            // The index goes by the real clock.
            return;
        }
        match reader.pins.pin(&reader.view, &key, want) {
            Pinning::Pinned(listing, held) => {
                let serial = expected.expect("the index lists what the pool has");
                let block = self.naive.block(serial);
                assert_eq!((listing.extent().offset, listing.len), (block.extent.offset, block.len));
                assert_eq!((listing.readable, listing.sealed), (block.readable(), !block.is_growing()));
                assert!(listing.sealed || want == Want::Readable);
                block.pins += 1;
                reader.held.push((serial, held));
            }
            Pinning::Growing(listing) => {
                assert_eq!(want, Want::Whole);
                let block = &self.naive.blocks[&expected.expect("the index lists what the pool has")];
                assert_eq!((block.is_growing(), block.readable()), (true, listing.readable));
            }
            Pinning::Absent => assert_eq!(expected, None),
            Pinning::Unsure => panic!("only time makes an index of this size unsure"),
        }
    }

    fn let_go(&mut self, pin: Index) {
        let Some(reader) = self.reader.as_mut().filter(|reader| !reader.held.is_empty()) else { return };
        let (serial, held) = reader.held.swap_remove(pin.index(reader.held.len()));
        assert!(reader.pins.still_holds(&held));
        reader.pins.release(held);
        self.naive.block(serial).pins -= 1;
        self.naive.forget_unneeded();
    }

    fn grant(&mut self, owner: OwnerId, min: u64, want: u64) -> Option<Extent> {
        let before = self.pool.stats();
        let answer = self.pool.grant(owner, GrantAsk { min, want }, self.instant());
        let after = self.pool.stats();
        let min = Extent::room_for(min).unwrap();
        if let Err(NoRoom::NeverFits { capacity }) = answer {
            assert!(capacity == self.naive.capacity && min > capacity);
            return None;
        }

        let fitted = self.naive.fits(min);
        let expired = if fitted { 0 } else { self.naive.expire(self.now) };
        assert_eq!(after.expired - before.expired, expired as u64, "the expired go before others, and only if need be");
        let hopeless = self.naive.stats().free + self.naive.idle_bytes() < min;
        self.evict((after.evictions - before.evictions) as usize, |naive| !naive.fits(min));
        match answer {
            Ok(region) => {
                assert!(region.len >= min && region.len <= want.next_multiple_of(Extent::ALIGN).max(min));
                assert!(min < Extent::PAGE || region.offset.is_multiple_of(Extent::PAGE));
                let mut rest = region;
                assert!(rest.carve(min).is_some(), "a region has room for the block it was asked for");
                self.naive.holding(owner).regions.push(region);
                self.naive.scribble(region);
                Some(region)
            }
            Err(_) => {
                assert!(!self.naive.fits(min), "room is refused only when there is none");
                assert!(hopeless || self.parents == Parents::Hostile || self.naive.evictable().next().is_none());
                self.refused = true;
                None
            }
        }
    }

    /// Evicts from the model what the pool evicted last, `count` blocks, each of which had to go.
    fn evict(&mut self, count: usize, has_to_go: impl Fn(&Naive) -> bool) {
        for victim in self.evicted(count) {
            assert!(self.naive.is_idle(victim), "only idle blocks are evicted");
            // Which link of a circle was cut is the pool's affair.
            if self.parents == Parents::Honest {
                assert!(has_to_go(&self.naive), "nothing is evicted when there is room");
                self.naive.assert_turn(victim);
            }
            self.naive.withdraw(victim);
        }
    }

    /// The last `count` blocks that the pool withdrew, in their order.
    fn evicted(&mut self, count: usize) -> Vec<Serial> {
        let before = self.events.len();
        self.events.extend(self.pool.take_events());
        let withdrawn = self.events[before..].iter().rev().filter_map(|event| match event {
            Event::Withdrawn { key } => Some(key),
            _ => None,
        });
        let serials = withdrawn.take(count).map(|key| self.naive.named(key).expect("an evicted block was there"));
        let mut evicted: Vec<Serial> = serials.collect();
        evicted.reverse();
        evicted
    }

    fn give_back(&mut self, owner: OwnerId, region: Index, from: u64, len: u64) {
        let regions = &self.naive.holding(owner).regions;
        if regions.is_empty() {
            return;
        }
        let region = regions[region.index(regions.len())];
        let units = region.len / Extent::ALIGN;
        let from = from % units;
        let len = 1 + len % (units - from);
        let extent = Extent { offset: region.offset + from * Extent::ALIGN, len: len * Extent::ALIGN };
        self.naive.cut(owner, extent);
        assert_eq!(self.pool.give_back(owner, extent), Ok(()));
    }

    /// Room for a block: from a region that has it, else from a new one.
    fn carve(&mut self, owner: OwnerId, draft: &Draft) -> Option<Extent> {
        let room = Extent::room_for(draft.len).unwrap();
        let carve = |mut region: Extent| region.carve(room).map(|cut| cut.carved);
        let carved = self.naive.holding(owner).regions.iter().copied().find_map(carve);
        carved.or_else(|| self.grant(owner, draft.len, draft.len + draft.ahead).and_then(carve))
    }

    fn block(&self, owner: OwnerId, draft: &Draft, extent: Extent, bytes: Bytes) -> Block {
        Block {
            key: key(draft.key),
            parent: draft.parent.map(key),
            extent,
            len: draft.len,
            bytes,
            named: Named::NotYet,
            pins: 0,
            time_to_live: draft.time_to_live,
            expires_at: None,
            origin: self.origin_of(owner),
            namespace: self.namespace_of(owner),
        }
    }

    fn put(&mut self, owner: OwnerId, draft: Draft) {
        let Some(extent) = self.carve(owner, &draft) else { return };
        self.naive.cut(owner, extent);
        let serial = self.naive.add(self.block(owner, &draft, extent, Bytes::Growing { readable: 0 }));
        self.naive.write(serial, draft.len);
        let stored = self.naive.claim(&key(draft.key), draft.time_to_live.map(|time| self.now + time), self.now);
        let record = PutRecord {
            key: key(draft.key),
            parent: draft.parent.map(key),
            extent,
            len: draft.len,
            time_to_live: draft.time_to_live.map(Duration::from_secs),
        };
        let outcome = self.pool.put(owner, record, self.instant()).unwrap();
        assert_eq!(outcome, if stored { PutOutcome::Stored } else { PutOutcome::AlreadyPresent });
        self.naive.seal(serial, self.now);
    }

    fn create(&mut self, owner: OwnerId, draft: Draft) {
        let Some(extent) = self.carve(owner, &draft) else { return };
        self.naive.cut(owner, extent);
        self.slots += 1;
        let slot = SlotId(self.slots);
        let record = CreateRecord {
            slot,
            key: key(draft.key),
            parent: draft.parent.map(key),
            extent,
            len: draft.len,
            time_to_live: draft.time_to_live.map(Duration::from_secs),
            teller: Teller::Pool,
        };
        let outcome = self.pool.create(owner, record, self.instant()).unwrap();
        let serial = self.naive.add(self.block(owner, &draft, extent, Bytes::Growing { readable: 0 }));
        self.naive.holding(owner).slots.insert(slot, serial);
        match self.naive.found(&key(draft.key), self.now) {
            None => {
                assert_eq!(outcome, CreateOutcome::Growing);
                self.naive.publish(serial, Told::Readable);
            }
            Some(_) => assert_eq!(outcome, CreateOutcome::AlreadyPresent),
        }
    }

    fn slot(&mut self, owner: OwnerId, slot: Index) -> Option<(SlotId, Serial)> {
        let slots = &self.naive.holding(owner).slots;
        let at = (!slots.is_empty()).then(|| slot.index(slots.len()))?;
        slots.iter().nth(at).map(|(&slot, &serial)| (slot, serial))
    }

    fn advance(&mut self, owner: OwnerId, slot: Index, by: u64) {
        let Some((slot, serial)) = self.slot(owner, slot) else { return };
        let block = self.naive.block(serial);
        let (before, len) = (block.readable(), block.len);
        let readable = before + by;
        if readable > len {
            let refused = Err(Misuse::WrongProgress { readable, before, len });
            assert_eq!(self.pool.advance(owner, slot, readable), refused);
            return;
        }
        self.naive.write(serial, readable);
        self.naive.block(serial).bytes = Bytes::Growing { readable };
        if by > 0 {
            self.naive.tell(Told::Readable, serial);
        }
        assert_eq!(self.pool.advance(owner, slot, readable), Ok(()));
    }

    fn seal(&mut self, owner: OwnerId, slot: Index) {
        let Some((slot, serial)) = self.slot(owner, slot) else { return };
        let len = self.naive.block(serial).len;
        self.naive.write(serial, len);
        self.naive.holding(owner).slots.remove(&slot);
        self.naive.seal(serial, self.now);
        assert_eq!(self.pool.seal(owner, slot, self.instant()), Ok(()));
    }

    fn abandon(&mut self, owner: OwnerId, slot: Index) {
        let Some((slot, serial)) = self.slot(owner, slot) else { return };
        self.naive.holding(owner).slots.remove(&slot);
        self.naive.lose(serial);
        assert_eq!(self.pool.abandon(owner, slot), Ok(()));
    }

    fn pin(&mut self, owner: OwnerId, key: Key, what: PinWhat) {
        let usable = |serial: &Serial| what == PinWhat::Readable || !self.naive.blocks[serial].is_growing();
        let expected = self.naive.found(&key, self.now).filter(usable);
        let pinned = self.pool.pin(owner, &key, what, self.instant());
        assert_eq!(pinned.is_some(), expected.is_some());
        let (Some(pinned), Some(serial)) = (pinned, expected) else { return };
        assert_eq!(self.ids.get(&serial), Some(&pinned.block));
        let block = self.naive.block(serial);
        block.pins += 1;
        assert_eq!((pinned.extent, pinned.len), (block.extent, block.len));
        assert_eq!((pinned.readable, pinned.sealed), (block.readable(), !block.is_growing()));
        self.naive.holding(owner).pins.push((serial, pinned.block));
    }

    fn unpin(&mut self, owner: OwnerId, pin: Index) {
        let pins = &mut self.naive.holding(owner).pins;
        if pins.is_empty() {
            return;
        }
        let (serial, id) = pins.swap_remove(pin.index(pins.len()));
        assert_eq!(self.pool.unpin(owner, id), Ok(()));
        self.naive.block(serial).pins -= 1;
        self.naive.forget_unneeded();
    }

    fn delete(&mut self, key: Key) {
        let found = self.naive.found(&key, self.now);
        assert_eq!(self.pool.delete(&key, self.instant()), found.is_some());
        let named = |block: &Block| block.named == Named::Yes && block.key == key;
        let named = self.naive.blocks.iter().find(|(_, block)| named(block)).map(|(&serial, _)| serial);
        if let Some(serial) = named {
            self.naive.withdraw(serial);
        }
    }

    /// Calls that no honest client makes; each is refused, and `compare` sees that nothing changed.
    fn misuse(&mut self, owner: OwnerId, [a, b]: [u64; 2]) {
        let now = self.instant();
        let extent = Extent { offset: a, len: b };
        assert!(self.pool.give_back(owner, extent).is_err());
        let record = PutRecord { key: key(0), parent: None, extent, len: b, time_to_live: None };
        assert!(self.pool.put(owner, record, now).is_err());
        // A block's room, and another owner's, are not this one's to put again.
        let own = self.naive.holding(owner).regions.clone();
        let others: Vec<Extent> = self.naive.held().into_iter().filter(|extent| !own.contains(extent)).collect();
        for extent in others {
            let record = PutRecord { extent, len: extent.len, ..record };
            assert!(self.pool.put(owner, record, now).is_err());
            assert_eq!(self.pool.give_back(owner, extent), Err(Misuse::NotGranted { extent }));
        }
        let slot = SlotId(self.slots + 1);
        assert_eq!(self.pool.advance(owner, slot, a), Err(Misuse::UnknownSlot { slot }));
        assert_eq!(self.pool.seal(owner, slot, now), Err(Misuse::UnknownSlot { slot }));
        assert_eq!(self.pool.abandon(owner, slot), Err(Misuse::UnknownSlot { slot }));
        let pins: Vec<BlockId> = self.naive.holding(owner).pins.iter().map(|&(_, id)| id).collect();
        for &block in self.ids.values().filter(|id| !pins.contains(id)) {
            assert_eq!(self.pool.unpin(owner, block), Err(Misuse::NotPinned { block }));
        }
    }

    fn compare(&mut self) {
        self.compare_events();
        self.compare_stats();
        self.compare_keys();
        let held = self.naive.held();
        assert!(held.windows(2).all(|two| two[0].end() <= Some(two[1].offset)), "live things overlap: {held:?}");
        assert!(held.last().is_none_or(|last| last.end() <= Some(self.naive.capacity)));
        self.naive.assert_bytes();
    }

    fn compare_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        events.extend(self.pool.take_events());
        let before = events.len();
        events.retain(|event| *event != Event::RoomFreed);
        let told_of_room = before - events.len();
        assert!(told_of_room <= usize::from(self.refused), "freed room is told once, after a refusal");
        self.refused &= told_of_room == 0;
        events.retain(|event| match event {
            Event::Published { key } => !self.names.insert(*key) && panic!("{key} was published twice"),
            Event::Withdrawn { key } => !self.names.remove(key) && panic!("{key} was not published"),
            _ => true,
        });
        let named = self.naive.blocks.values().filter(|block| block.named == Named::Yes);
        assert_eq!(self.names, named.map(|block| block.key).collect(), "names are told as they are");
        let (mut listed, mut from) = (BTreeSet::new(), Some(0));
        while let Some(place) = from {
            let (keys, next) = self.pool.names(place, 3);
            listed.extend(keys);
            from = next;
        }
        assert_eq!(listed, self.names);

        let told = std::mem::take(&mut self.naive.told);
        assert_eq!(events.len(), told.len(), "{events:?} is not {told:?}");
        for (event, (told, serial, key)) in events.into_iter().zip(told) {
            let id = match event {
                Event::Readable { block, .. } | Event::Sealed { block, .. } | Event::Lost { block, .. } => block,
                Event::Published { .. } | Event::Withdrawn { .. } | Event::RoomFreed => {
                    unreachable!("these were taken out")
                }
            };
            let expected = match told {
                Told::Readable => Event::Readable { key, block: id },
                Told::Sealed => Event::Sealed { key, block: id },
                Told::Lost => Event::Lost { key, block: id },
            };
            assert_eq!(event, expected);
            assert_eq!(*self.ids.entry(serial).or_insert(id), id);
        }
        assert_eq!(self.ids.values().collect::<HashSet<_>>().len(), self.ids.len(), "ids come once");
    }

    fn compare_stats(&self) {
        let stats = self.pool.stats();
        let held = stats.sealed.bytes + stats.growing.bytes + stats.detached.bytes;
        assert_eq!(stats.free + stats.granted + held, stats.capacity);
        let PoolStats { capacity, free, granted, sealed, growing, detached, pinned, .. } = stats;
        let state = PoolStats { capacity, free, granted, sealed, growing, detached, pinned, ..PoolStats::default() };
        assert_eq!(state, self.naive.stats());
        self.compare_shares();
    }

    fn compare_keys(&self) {
        let mut prefix = Prefix::default();
        let mut whole = true;
        for key in keys() {
            let block = self.naive.found(&key, self.now).map(|serial| &self.naive.blocks[&serial]);
            let expected = match block {
                None => Lookup::Miss,
                Some(block) if block.is_growing() => Lookup::Growing { readable: block.readable(), len: block.len },
                Some(block) => Lookup::Sealed { len: block.len },
            };
            assert_eq!(self.pool.lookup(&key, self.instant()), expected);
            if block.is_none_or(|block| block.expires_at.is_none()) {
                self.compare_listing(&key, expected);
            }
            whole &= block.is_some();
            prefix.present += usize::from(whole);
            let sealed_so_far = prefix.sealed + 1 == prefix.present;
            prefix.sealed += usize::from(whole && sealed_so_far && block.is_some_and(|block| !block.is_growing()));
        }
        let keys: Vec<Key> = keys().collect();
        assert_eq!(self.pool.longest_prefix(&keys, self.instant()), prefix);
        for (serial, &id) in &self.ids {
            let expected = self.naive.blocks.get(serial).map(|block| match block.bytes {
                Bytes::Growing { readable } => Progress::Growing { readable },
                Bytes::Sealed => Progress::Sealed,
                Bytes::Lost => Progress::Lost,
            });
            assert_eq!(self.pool.progress(id), expected);
        }
    }

    /// What the index shows of a key whose block, if any, is there for ever.
    fn compare_listing(&self, key: &Key, expected: Lookup) {
        let Some(reader) = &self.reader else { return };
        let found = match reader.view.find(key) {
            Found::Absent => Lookup::Miss,
            Found::Listed(listing) if listing.sealed => Lookup::Sealed { len: listing.len },
            Found::Listed(listing) => Lookup::Growing { readable: listing.readable, len: listing.len },
            Found::Unsure => return,
        };
        // One whose time is over is listed until it is withdrawn, on a clock that this test does not turn.
        if self.now == 0 || expected != Lookup::Miss {
            assert_eq!(found, expected);
        }
    }

    fn drop_owners(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.pool.drop_owner(READER);
            reader.held.iter().for_each(|(serial, _)| self.naive.block(*serial).pins -= 1);
            self.naive.forget_unneeded();
            assert!(reader.held.iter().all(|(_, held)| !reader.pins.still_holds(held)), "who has left holds nothing");
            self.compare();
        }
        for owner in self.owners {
            self.pool.drop_owner(owner);
            self.pool.sweep();
            self.naive.drop_owner(owner);
            self.compare();
        }
    }

    /// After all owners are gone and all keys are deleted, everything is free.
    fn end(mut self) {
        self.drop_owners();
        keys().for_each(|key| self.delete(key));
        self.pool.sweep();
        self.compare();
        self.assert_empty();
    }

    /// After all owners are gone, a grant of the whole pool has it, whatever is cached.
    fn end_by_evicting(mut self) {
        self.drop_owners();
        let all = self.naive.capacity;
        let whole = GrantAsk { min: all / Extent::PAGE * Extent::PAGE, want: all };
        let region = self.pool.grant(OwnerId(0), whole, self.instant()).unwrap();
        self.pool.give_back(OwnerId(0), region).unwrap();
        if all >= Extent::PAGE {
            // What lies beyond the last whole page may still be a block's.
            keys().for_each(|key| {
                self.pool.delete(&key, self.instant());
            });
            self.pool.sweep();
            self.assert_empty();
        }
    }

    fn assert_empty(&self) {
        let stats = self.pool.stats();
        assert_eq!((stats.free, stats.largest_free_run), (stats.capacity, stats.capacity));
        let blocks = [stats.sealed, stats.growing, stats.detached, stats.pinned].map(|tally| tally.blocks);
        assert_eq!((blocks, stats.granted), ([0; 4], 0));
    }
}
