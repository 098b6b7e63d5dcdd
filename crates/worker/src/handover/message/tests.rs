use std::time::Instant;

use chariot_pool::{GrantAsk, OwnerId, Pool, PutRecord};
use chariot_types::Key;
use proptest::prelude::*;

use super::trial::{CAPACITY, heed, read};
use super::*;

fn legacy() -> Legacy {
    let (mut pool, now) = (Pool::new(CAPACITY), Instant::now());
    for name in 0..9u8 {
        let extent = pool.grant(OwnerId(1), GrantAsk { min: 4096, want: 4096 }, now).unwrap();
        let record = PutRecord { key: Key::of_name(&[name]), parent: None, extent, len: 4096, time_to_live: None };
        pool.put(OwnerId(1), record, now).unwrap();
    }
    let client = LeftClient {
        owner: 1,
        name: "client".to_owned(),
        pid: 7,
        namespace: "default".to_owned(),
        connected: Duration::from_secs(1),
        received: vec![1, 2, 3],
    };
    Legacy { arena: CAPACITY, touched: 0, next_session: 2, estate: pool.estate(now), clients: vec![client] }
}

#[test]
fn what_is_said_is_heard() {
    let said = legacy();
    let Message::Legacy(heard) = read(&Message::Legacy(Box::new(legacy())).encode()).unwrap() else { panic!() };
    assert_eq!(format!("{heard:?}"), format!("{said:?}"));
    let refused = read(&Message::Refused("no: `é`".to_owned()).encode()).unwrap();
    assert!(matches!(refused, Message::Refused(reason) if reason == "no: `é`"));
}

#[test]
fn another_version_is_told_by_its_number_and_its_refusals_are_understood() {
    let mut ready = Message::Ready.encode();
    ready[8] += 1;
    assert!(matches!(read(&ready), Err(HandoverError::Version { theirs }) if theirs == VERSION + 1));
    let mut refused = Message::Refused("no".to_owned()).encode();
    refused[8] += 1;
    assert!(matches!(read(&refused), Ok(Message::Refused(reason)) if reason == "no"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        heed(&bytes);
    }

    #[test]
    fn a_legacy_that_was_changed_anywhere_is_refused_or_harmless(
        changes in proptest::collection::vec(any::<(proptest::sample::Index, u8)>(), 1..5),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = Message::Legacy(Box::new(legacy())).encode();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        heed(&bytes);
    }
}
