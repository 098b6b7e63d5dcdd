//! [`Roster`]: the members of a cluster, from what etcd tells of their records. Pure state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chariot_types::Member;

use crate::proto::KeyValue;
use crate::questions::MOST_RECORDS;
use crate::record::Record;

/// The members of a cluster. This worker is one of them, whatever its record says.
pub(crate) struct Roster {
    me: Member,
    prefix: String,
    /// By what follows the prefix in their keys.
    others: BTreeMap<String, Standing>,
    /// Revisions of records that are none, each of which was logged.
    odd: HashMap<Vec<u8>, i64>,
}

struct Standing {
    member: Member,
    /// Whether the record was there when all were listed last, or has come since.
    is_listed: bool,
}

impl Roster {
    pub(crate) fn new(me: Member, prefix: String) -> Self {
        Self { me, prefix, others: BTreeMap::new(), odd: HashMap::new() }
    }

    /// All records there are. Members whose records are missing stay until [`settle`](Self::settle): after a time
    /// without etcd, they may be about to register anew.
    pub(crate) fn list(&mut self, records: &[KeyValue]) {
        self.others.values_mut().for_each(|standing| standing.is_listed = false);
        records.iter().for_each(|record| self.put(record));
    }

    /// Whether there are members whose records were missing.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.others.values().any(|standing| !standing.is_listed)
    }

    /// Forgets members whose records were missing and have not come back.
    pub(crate) fn settle(&mut self) {
        self.others.retain(|_, standing| standing.is_listed);
    }

    /// A record was put.
    pub(crate) fn put(&mut self, record: &KeyValue) {
        let Some(name) = self.name(&record.key) else { return self.skip(record, &"its key is no worker's") };
        if self.others.len() >= MOST_RECORDS && !self.others.contains_key(&name) {
            return self.skip(record, &"there are too many");
        }
        match Record::member(&name, &record.value) {
            Ok(_) if name == self.me.address.to_string() => {}
            Ok(member) => {
                self.others.insert(name, Standing { member, is_listed: true });
            }
            Err(error) => {
                self.others.remove(&name);
                self.skip(record, &error);
            }
        }
    }

    /// The record at `key` is gone.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some(name) = self.name(key) {
            self.others.remove(&name);
        }
        self.odd.remove(key);
    }

    /// All members, sorted.
    pub(crate) fn members(&self) -> Arc<[Member]> {
        let mut members: Vec<Member> = self.others.values().map(|standing| standing.member.clone()).collect();
        members.retain(|member| member.run != self.me.run);
        members.push(self.me.clone());
        members.sort();
        members.dedup_by_key(|member| member.run);
        members.into()
    }

    fn name(&self, key: &[u8]) -> Option<String> {
        let name = str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        Some(name.to_owned())
    }

    fn skip(&mut self, record: &KeyValue, why: &dyn std::fmt::Display) {
        if self.odd.len() >= MOST_RECORDS {
            self.odd.clear();
        }
        if self.odd.insert(record.key.clone(), record.mod_revision) != Some(record.mod_revision) {
            let key = String::from_utf8_lossy(&record.key[..record.key.len().min(200)]).into_owned();
            tracing::warn!(key, %why, "skipped a record in etcd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use chariot_types::RunId;
    use proptest::prelude::*;

    const PREFIX: &str = "/chariot/test/workers/";

    fn member(number: u8, run: u8) -> Member {
        Member { run: RunId::from_bytes([run; 16]), address: format!("node{number}:1").parse().unwrap() }
    }

    fn key(number: u8) -> Vec<u8> {
        format!("{PREFIX}node{number}:1").into_bytes()
    }

    fn record(number: u8, run: u8) -> KeyValue {
        let value = Record::new(&member(number, run), Host::default()).encode();
        KeyValue { key: key(number), value, ..Default::default() }
    }

    fn roster() -> Roster {
        Roster::new(member(0, 0), PREFIX.into())
    }

    #[test]
    fn this_worker_is_a_member_whatever_stands_in_etcd() {
        let mut roster = roster();
        assert_eq!(*roster.members(), [member(0, 0)]);
        roster.put(&record(0, 9));
        roster.remove(&key(0));
        assert_eq!(*roster.members(), [member(0, 0)]);
    }

    #[test]
    fn a_member_that_is_missing_after_a_time_without_etcd_may_come_back() {
        let mut roster = roster();
        roster.list(&[record(1, 1), record(2, 2)]);
        roster.list(&[record(2, 2)]);
        assert!(roster.is_unsettled());
        assert_eq!(*roster.members(), [member(0, 0), member(1, 1), member(2, 2)]);
        roster.put(&record(1, 3));
        assert!(!roster.is_unsettled());
        roster.list(&[]);
        roster.settle();
        assert_eq!(*roster.members(), [member(0, 0)]);
    }

    #[test]
    fn what_is_no_record_hides_no_member_but_the_one_it_stands_for() {
        let mut roster = roster();
        roster.list(&[record(1, 1), record(2, 2)]);
        roster.put(&KeyValue { value: b"{".to_vec(), ..record(1, 1) });
        roster.put(&KeyValue { key: b"\xff".to_vec(), ..record(3, 3) });
        roster.put(&KeyValue { key: key(4), ..record(3, 3) });
        assert_eq!(*roster.members(), [member(0, 0), member(2, 2)]);
    }

    proptest! {
        #[test]
        fn members_are_those_whose_records_stand(steps in proptest::collection::vec((1_u8..6, any::<Option<u8>>()), 0..40)) {
            let mut roster = roster();
            let mut stand = BTreeMap::new();
            for (number, run) in steps {
                match run {
                    Some(run) => {
                        // Runs are random: no two workers have the same.
                        let run = 1 + number + 6 * (run % 8);
                        roster.put(&record(number, run));
                        stand.insert(number, member(number, run));
                    }
                    None => {
                        roster.remove(&key(number));
                        stand.remove(&number);
                    }
                }
                let mut expected: Vec<Member> = stand.values().cloned().chain([member(0, 0)]).collect();
                expected.sort();
                prop_assert_eq!(&*roster.members(), expected);
            }
        }
    }
}
