use chariot_index::{Found, Index, Pinning, Pins, View, Want};
use proptest::prelude::*;

use super::*;
use crate::{CreateRecord, GrantAsk, Lookup, Origin, PinWhat, PutRecord, Teller};

const CAPACITY: u64 = 64 * Extent::PAGE;

fn key(name: u8) -> Key {
    Key::of_name(&[name])
}

/// A pool after some calls of three owners, at a moment some time later.
fn lived_in(calls: &[(u8, u8, u8)], start: Instant) -> (Pool, Instant) {
    let mut pool = Pool::new(CAPACITY);
    let other = pool.namespace(&"other".parse().unwrap());
    pool.agree(OwnerId(2), Terms { namespace: other, origin: Origin::Copied });
    let mut now = start;
    for (slot, (what, owner, name)) in calls.iter().enumerate() {
        now += Duration::from_millis(1);
        let (owner, slot) = (OwnerId(u64::from(owner % 3)), SlotId(slot as u64));
        let len = u64::from(*name) * 40;
        let parent = (name % 3 != 0).then(|| key(name - 1));
        let time_to_live = (name % 5 == 0).then_some(Duration::from_secs(60));
        let room = Extent::room_for(len).unwrap();
        match what % 8 {
            0..4 => {
                let Ok(mut granted) = pool.grant(owner, GrantAsk { min: room, want: room + 4096 }, now) else {
                    continue;
                };
                let Some(carved) = granted.carve(room) else { continue };
                let extent = carved.carved;
                if what % 8 < 3 {
                    let record = PutRecord { key: key(*name), parent, extent, len, time_to_live };
                    pool.put(owner, record, now).unwrap();
                } else {
                    let teller = Teller::Pool;
                    let record = CreateRecord { slot, key: key(*name), parent, extent, len, time_to_live, teller };
                    pool.create(owner, record, now).unwrap();
                    pool.advance(owner, slot, len / 2).unwrap();
                }
            }
            4 | 5 => drop(pool.pin(owner, &key(*name), PinWhat::Readable, now)),
            6 => drop(pool.soft_pin(key(*name), (name % 2 == 0).then_some(Duration::from_secs(9)), now)),
            _ => drop(pool.delete(&key(*name), now)),
        }
    }
    (pool, now)
}

fn in_order(mut estate: Estate) -> Estate {
    estate.owners.sort_by_key(|owner| owner.id);
    for owner in &mut estate.owners {
        owner.pins.sort_unstable();
    }
    estate.soft_pins.sort_unstable();
    estate
}

/// Whether all is free once nobody holds anything.
fn can_be_emptied(mut pool: Pool, estate: &Estate) -> bool {
    estate.owners().for_each(|owner| pool.drop_owner(owner));
    let mut from = Some(0);
    while let Some(place) = from {
        from = pool.evict_all(crate::Whose::Everybody, place, 16).1;
    }
    pool.stats().free == pool.stats().capacity
}

proptest! {
    #[test]
    fn who_inherits_knows_all_that_was_known(calls in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..120)) {
        let start = Instant::now();
        let (pool, now) = lived_in(&calls, start);
        let left = in_order(pool.estate(now));
        let mut heir = Pool::new(CAPACITY);
        heir.inherit(&left, now).unwrap();
        prop_assert_eq!(in_order(heir.estate(now)), left.clone());
        let (before, after) = (pool.stats(), heir.stats());
        prop_assert_eq!((before.sealed, before.growing, before.detached), (after.sealed, after.growing, after.detached));
        prop_assert_eq!((before.pinned, before.soft_pinned), (after.pinned, after.soft_pinned));
        prop_assert_eq!((before.free, before.granted), (after.free, after.granted));
        prop_assert_eq!(pool.namespaces(), heir.namespaces());
        for name in 0..=u8::MAX {
            for later in [now, now + Duration::from_secs(61)] {
                prop_assert_eq!(pool.lookup(&key(name), later), heir.lookup(&key(name), later));
            }
        }
        prop_assert!(can_be_emptied(heir, &left));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_or_harmless(
        calls in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..60),
        changes in proptest::collection::vec(any::<(proptest::sample::Index, u8, u64)>(), 1..4),
    ) {
        let start = Instant::now();
        let (pool, now) = lived_in(&calls, start);
        let mut left = pool.estate(now);
        for (at, field, value) in changes {
            spoil(&mut left, at, field, value);
        }
        let mut heir = Pool::new(CAPACITY);
        if heir.inherit(&left, now).is_ok() {
            let _ = heir.grant(OwnerId(77), GrantAsk { min: CAPACITY / 2, want: CAPACITY / 2 }, now);
            heir.drop_owner(OwnerId(77));
            prop_assert!(can_be_emptied(heir, &left));
        }
    }
}

/// Changes something about it.
fn spoil(left: &mut Estate, at: proptest::sample::Index, field: u8, value: u64) {
    if !left.blocks.is_empty() {
        let at = at.index(left.blocks.len());
        let other = left.blocks[(value % left.blocks.len() as u64) as usize].clone();
        let block = &mut left.blocks[at];
        match field % 12 {
            0 => block.id = value,
            1 => block.id = other.id,
            2 => block.key = other.key,
            3 => block.parent = Some(other.key),
            4 => block.offset = value,
            5 => block.offset = other.offset,
            6 => block.len = value,
            7 => block.state = other.state,
            8 => block.naming = other.naming,
            9 => block.namespace = value as u16,
            10 => block.past = other.past,
            _ => {}
        }
    }
    if !left.owners.is_empty() {
        let at = at.index(left.owners.len());
        let owner = &mut left.owners[at];
        match field % 12 {
            6 => owner.grants.push((value % CAPACITY / 64 * 64, 64)),
            7 => owner.slots.push((value, value)),
            8 => owner.pins.push((value, 1)),
            9 => owner.pins.push((left.blocks.first().map_or(0, |block| block.id), u32::MAX)),
            11 => left.clock = value,
            _ => {}
        }
    }
}

#[test]
fn what_readers_have_pinned_stays_and_nothing_else_can_be_pinned() {
    let (reader, writer, now) = (OwnerId(1), OwnerId(2), Instant::now());
    let index = Index::create(2 * Extent::PAGE).unwrap();
    let (view, board) = (View::map(&index).unwrap(), index.board_file().try_clone_to_owned().unwrap());
    let mut pool = Pool::shared(2 * Extent::PAGE, index);
    let pins = Pins::map(pool.admit_reader(reader).unwrap().unwrap()).unwrap();
    let put = |pool: &mut Pool, name: u8| {
        let extent = pool.grant(writer, GrantAsk { min: Extent::PAGE, want: Extent::PAGE }, now)?;
        let record = PutRecord { key: key(name), parent: None, extent, len: Extent::PAGE, time_to_live: None };
        pool.put(writer, record, now).unwrap();
        pool.sweep();
        Ok::<_, crate::NoRoom>(extent)
    };
    put(&mut pool, 0).unwrap();
    put(&mut pool, 1).unwrap();
    let Pinning::Pinned(listing, held) = pins.pin(&view, &key(0), Want::Whole) else { panic!("it is there") };

    pool.hide_all();
    assert_eq!(view.find(&key(1)), Found::Unsure);
    assert_eq!(pins.pin(&view, &key(1), Want::Whole), Pinning::Unsure);
    pool.show_all();
    assert!(matches!(view.find(&key(1)), Found::Listed(_)));
    assert_eq!(view.find(&key(2)), Found::Absent);

    pool.hide_all();
    let mut heir = Pool::shared(2 * Extent::PAGE, Index::create_beside(2 * Extent::PAGE, board).unwrap());
    heir.inherit(&pool.estate(now), now).unwrap();
    let (_, table) = pool.readers().next().unwrap();
    heir.take_over_reader(reader, table.try_clone_to_owned().unwrap()).unwrap();
    for name in 2..9 {
        let extent = put(&mut heir, name).unwrap();
        assert_ne!(extent.offset, listing.offset, "it is being read");
    }
    assert!(pins.still_holds(&held));
    assert_eq!(heir.lookup(&key(0), now), Lookup::Sealed { len: Extent::PAGE });
    pins.release(held);
    put(&mut heir, 9).unwrap();
    put(&mut heir, 10).unwrap();
    assert_eq!(heir.lookup(&key(0), now), Lookup::Miss);
}
