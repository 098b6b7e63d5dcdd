//! A way in for fuzzers, and built for them alone (`--cfg fuzzing`): what etcd might answer, without etcd.

use chariot_types::{Member, RunId};
use prost::Message;

use crate::proto::{Event, KeyValue, LeaseResponse, RangeResponse, StatusResponse, TxnResponse, WatchResponse};
use crate::record::{MAX_RECORD, Record};
use crate::roster::Roster;

const PREFIX: &str = "/chariot/default/workers/";

/// Takes `bytes` for whatever etcd answers, and follows what they say of the members. This worker is one of them, whatever
/// stands there; and a record that is read is written and read again as the same.
pub fn answer(bytes: &[u8]) {
    let me = Member { run: RunId::from_bytes([7; 16]), address: "127.0.0.1:31501".parse().expect("it is an address") };
    let mut roster = Roster::new(me.clone(), PREFIX.to_owned());
    let mut listed = Vec::new();
    if let Ok(answer) = RangeResponse::decode(bytes) {
        listed = answer.kvs;
    }
    let _ = (TxnResponse::decode(bytes), LeaseResponse::decode(bytes), StatusResponse::decode(bytes));
    // Most of what is no answer at all is taken for the value of a record.
    listed.push(KeyValue {
        key: format!("{PREFIX}node-1:31501").into_bytes(),
        value: bytes.to_vec(),
        ..Default::default()
    });
    roster.list(&listed);
    check(&roster, &me);
    for Event { kind, kv } in WatchResponse::decode(bytes).map(|answer| answer.events).unwrap_or_default() {
        let Some(record) = kv else { continue };
        match kind == Event::DELETE {
            true => roster.remove(&record.key),
            false => roster.put(&record),
        }
        check(&roster, &me);
    }
    roster.list(&[]);
    roster.settle();
    assert_eq!(*roster.members(), [me]);
    for record in listed {
        let Ok(found) = Record::decode(&record.value) else { continue };
        let again = found.encode();
        // Others may have written the same in fewer bytes.
        if again.len() <= MAX_RECORD {
            assert_eq!(Record::decode(&again).expect("a record reads back"), found);
        }
    }
}

fn check(roster: &Roster, me: &Member) {
    let members = roster.members();
    assert!(members.contains(me));
    assert!(members.is_sorted_by(|one, next| one < next));
}
