//! The directory against a model: random calls by several workers, each answer compared with what plain sets would say.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::{BTreeMap, BTreeSet};

use chariot_directory::{Appeared, Counts, Directory, Enrolment, Limits, Sweep, Ticket, owner};
use chariot_types::{Key, Member, RunId};
use proptest::prelude::*;

const LIMITS: Limits = Limits { keys_a_holder: 6, waits_an_asker: 5 };
const RUNS: u8 = 5;
const KEYS: u8 = 12;

#[derive(Clone, Debug)]
enum Step {
    Announce { holder: u8, keys: Vec<u8> },
    Withdraw { holder: u8, keys: Vec<u8> },
    Enrol { asker: u8, ticket: u64, key: u8 },
    Strike { asker: u8, ticket: u64 },
    Forget { run: u8 },
    Retain { members: BTreeSet<u8> },
    Sweep { times: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (run, key, ticket) = (0..RUNS, 0..KEYS, 0u64..3);
    let keys = proptest::collection::vec(key.clone(), 0..5);
    prop_oneof![
        8 => (run.clone(), keys.clone()).prop_map(|(holder, keys)| Step::Announce { holder, keys }),
        4 => (run.clone(), keys).prop_map(|(holder, keys)| Step::Withdraw { holder, keys }),
        6 => (run.clone(), ticket.clone(), key).prop_map(|(asker, ticket, key)| Step::Enrol { asker, ticket, key }),
        2 => (run.clone(), ticket).prop_map(|(asker, ticket)| Step::Strike { asker, ticket }),
        1 => run.clone().prop_map(|run| Step::Forget { run }),
        1 => proptest::collection::btree_set(run, 1..5).prop_map(|members| Step::Retain { members }),
        2 => prop_oneof![1usize..900, Just(5_000)].prop_map(|times| Step::Sweep { times }),
    ]
}

proptest! {
    #[test]
    fn the_directory_does_what_plain_sets_would(steps in proptest::collection::vec(step(), 1..150)) {
        let mut run = Run::new();
        for step in &steps {
            run.take(step);
            run.compare();
        }
        run.end();
    }

    #[test]
    fn the_same_calls_give_the_same_answers_in_the_same_order(steps in proptest::collection::vec(step(), 1..100)) {
        let said = || {
            let mut directory = Directory::new(run_of(0), Limits::default());
            steps.iter().map(|step| say(&mut directory, step)).collect::<Vec<_>>()
        };
        prop_assert_eq!(said(), said());
    }
}

fn run_of(number: u8) -> RunId {
    RunId::from_bytes([number + 1; 16])
}

fn key_of(number: u8) -> Key {
    Key::of_name(&[number])
}

fn keys_of(numbers: &[u8]) -> Vec<Key> {
    numbers.iter().copied().map(key_of).collect()
}

fn members_of(numbers: &BTreeSet<u8>) -> Vec<Member> {
    let member = |number: &u8| Member { run: run_of(*number), address: format!("node{number}:1").parse().unwrap() };
    numbers.iter().map(member).collect()
}

/// A step, and everything that the directory says to it and of all keys.
fn say(directory: &mut Directory, step: &Step) -> (Vec<Appeared>, Option<Enrolment>, Vec<Vec<RunId>>) {
    let (mut appeared, mut enrolment) = (Vec::new(), None);
    match step {
        Step::Announce { holder, keys } => appeared = directory.announce(run_of(*holder), &keys_of(keys)),
        Step::Withdraw { holder, keys } => directory.withdraw(run_of(*holder), &keys_of(keys)),
        Step::Enrol { asker, ticket, key } => {
            enrolment = Some(directory.enrol(run_of(*asker), Ticket(*ticket), &key_of(*key)));
        }
        Step::Strike { asker, ticket } => directory.strike(run_of(*asker), Ticket(*ticket)),
        Step::Forget { run } => directory.forget(run_of(*run)),
        Step::Retain { members } => directory.retain(&members_of(members)),
        Step::Sweep { times } => (0..*times).for_each(|_| {
            directory.sweep();
        }),
    }
    (appeared, enrolment, (0..KEYS).map(|key| directory.holders(&key_of(key)).collect()).collect())
}

/// A record of the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Record {
    Known,
    /// Another owns its key: it is there until the sweep comes to it.
    Fading,
    /// Another owns its key, and it was announced during the sweep: it is there when the sweep was past it.
    Late,
}

/// A directory and its model.
struct Run {
    directory: Directory,
    records: BTreeMap<(u8, u8), Record>,
    waits: BTreeSet<(u8, u64, u8)>,
    /// By which keys are swept, as long as a sweep is under way.
    members: Option<Vec<Member>>,
    refused: (u64, u64),
}

impl Run {
    fn new() -> Self {
        let directory = Directory::new(run_of(0), LIMITS);
        Self { directory, records: BTreeMap::new(), waits: BTreeSet::new(), members: None, refused: (0, 0) }
    }

    fn take(&mut self, step: &Step) {
        self.settle();
        let (appeared, enrolment, _) = say(&mut self.directory, step);
        match step {
            Step::Announce { holder, keys } => self.announce(*holder, keys, appeared),
            Step::Withdraw { holder, keys } => {
                self.records.retain(|(key, of), _| of != holder || !keys.contains(key));
            }
            Step::Enrol { asker, ticket, key } => self.enrol((*asker, *ticket, *key), enrolment.unwrap()),
            Step::Strike { asker, ticket } => self.waits.retain(|(of, under, _)| (of, under) != (asker, ticket)),
            Step::Forget { run } => self.forget(*run),
            Step::Retain { members } => {
                self.members = Some(members_of(members));
                let record = |key| if self.is_mine(key) { Record::Known } else { Record::Fading };
                self.records = self.records.keys().map(|pair| (*pair, record(pair.0))).collect();
            }
            Step::Sweep { .. } => {
                if self.directory.sweep() == Sweep::Done {
                    self.members = None;
                    self.settle();
                    assert!(!self.records.values().any(|record| *record == Record::Fading), "a sweep left something");
                    self.records.values_mut().for_each(|record| *record = Record::Known);
                }
            }
        }
    }

    /// What fades may or may not be there: which of both, the directory says.
    fn settle(&mut self) {
        let there: Vec<_> = self.records.keys().copied().filter(|(key, holder)| self.finds(*key, *holder)).collect();
        self.records.retain(|pair, record| *record == Record::Known || there.contains(pair));
    }

    /// Whether the sweep under way spares this key.
    fn is_mine(&self, key: u8) -> bool {
        self.members.as_ref().is_none_or(|members| owner(members, &key_of(key)).unwrap().run == run_of(0))
    }

    fn announce(&mut self, holder: u8, keys: &[u8], mut appeared: Vec<Appeared>) {
        let mut told = Vec::new();
        for key in keys {
            let known = self.records.keys().filter(|(_, of)| *of == holder).count() as u64;
            if self.records.contains_key(&(*key, holder)) || known < LIMITS.keys_a_holder {
                let record = if self.is_mine(*key) { Record::Known } else { Record::Late };
                self.records.entry((*key, holder)).or_insert(record);
            } else {
                self.refused.0 += 1;
            }
            let waiting = self.waits.iter().filter(|(asker, _, waited)| *asker != holder && waited == key);
            told.extend(waiting.map(|(asker, ticket, _)| Appeared {
                asker: run_of(*asker),
                ticket: Ticket(*ticket),
                key: key_of(*key),
                holder: run_of(holder),
            }));
            self.waits.retain(|(asker, _, waited)| *asker == holder || waited != key);
        }
        told.sort();
        appeared.sort();
        assert_eq!(appeared, told);
    }

    fn enrol(&mut self, (asker, ticket, key): (u8, u64, u8), enrolment: Enrolment) {
        let held = self.records.keys().any(|(of, holder)| *of == key && *holder != asker);
        let waits = self.waits.iter().filter(|(of, ..)| *of == asker).count();
        match enrolment {
            Enrolment::Held(holder) => {
                assert!(holder != run_of(asker) && (0..RUNS).any(|run| run_of(run) == holder && self.finds(key, run)));
            }
            _ if held => panic!("a key that is held is held"),
            Enrolment::Waiting => {
                assert!(waits < LIMITS.waits_an_asker);
                self.waits.insert((asker, ticket, key));
            }
            Enrolment::Refused => {
                assert!(waits >= LIMITS.waits_an_asker);
                self.refused.1 += 1;
            }
        }
    }

    fn forget(&mut self, run: u8) {
        self.records.retain(|(_, holder), _| *holder != run);
        self.waits.retain(|(asker, ..)| *asker != run);
    }

    fn finds(&self, key: u8, holder: u8) -> bool {
        self.directory.holders(&key_of(key)).any(|found| found == run_of(holder))
    }

    fn compare(&mut self) {
        for key in 0..KEYS {
            for holder in 0..RUNS {
                match (self.records.get(&(key, holder)), self.finds(key, holder)) {
                    (Some(Record::Known), found) => assert!(found, "key {key} of holder {holder} is missing"),
                    (None, found) => assert!(!found, "key {key} of holder {holder} was forgotten"),
                    (Some(Record::Fading | Record::Late), _) => {}
                }
            }
            let mut holders: Vec<_> = self.directory.holders(&key_of(key)).collect();
            let all = holders.len();
            holders.sort();
            holders.dedup();
            assert_eq!(holders.len(), all, "a holder is named twice");
        }
        let counts = self.directory.counts();
        assert_eq!(counts.waits, self.waits.len());
        assert_eq!((counts.refused_records, counts.refused_waits), self.refused);
    }

    /// When all have gone, nothing is left, and no memory either.
    fn end(mut self) {
        (0..RUNS).for_each(|run| self.directory.forget(run_of(run)));
        while self.directory.sweep() == Sweep::More {}
        let (refused_records, refused_waits) = self.refused;
        assert_eq!(self.directory.counts(), Counts { refused_records, refused_waits, ..Counts::default() });
    }
}

#[test]
fn a_directory_forgets_at_once_and_gives_memory_back_in_steps() {
    let keys: Vec<Key> = (0..100_000u64).map(|number| Key::of_name(&number.to_le_bytes())).collect();
    let mut directory = Directory::new(run_of(0), Limits::default());
    directory.announce(run_of(1), &keys);
    directory.announce(run_of(2), &keys[..1_000]);
    directory.forget(run_of(1));
    assert_eq!(directory.holders(&keys[0]).collect::<Vec<_>>(), [run_of(2)]);
    assert_eq!(directory.holders(&keys[1_000]).count(), 0);
    let before = directory.counts();
    assert_eq!((before.records, before.holders), (101_000, 1));
    // Announced anew over the next connection, before the sweep has ended.
    directory.sweep();
    directory.announce(run_of(1), &keys[500..2_000]);
    while directory.sweep() == Sweep::More {}
    let after = directory.counts();
    assert_eq!((after.records, after.holders), (2_500, 2));
    assert!(after.record_bytes < before.record_bytes / 10, "{} bytes of {}", after.record_bytes, before.record_bytes);
    assert_eq!(directory.holders(&keys[700]).count(), 2);
}

#[test]
fn many_holders_of_one_key_are_all_known() {
    let hot = [Key::of_name(b"hot")];
    let mut directory = Directory::new(run_of(0), Limits::default());
    let runs: BTreeSet<RunId> =
        (0..300u16).map(|run| RunId::from_bytes([run.to_le_bytes(); 8].concat().try_into().unwrap())).collect();
    runs.iter().for_each(|run| drop(directory.announce(*run, &hot)));
    assert_eq!(directory.holders(&hot[0]).collect::<BTreeSet<_>>(), runs);
    runs.iter().for_each(|run| directory.withdraw(*run, &hot));
    assert_eq!(directory.holders(&hot[0]).count(), 0);
}

#[test]
fn what_is_beyond_a_holders_limit_is_counted_and_those_who_wait_are_told() {
    let keys = keys_of(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let mut directory = Directory::new(run_of(0), LIMITS);
    assert_eq!(directory.enrol(run_of(2), Ticket(1), &keys[7]), Enrolment::Waiting);
    let appeared = directory.announce(run_of(1), &keys);
    assert_eq!(appeared, [Appeared { asker: run_of(2), ticket: Ticket(1), key: keys[7], holder: run_of(1) }]);
    assert_eq!(directory.counts().refused_records, 2);
    directory.withdraw(run_of(1), &keys[..1]);
    directory.announce(run_of(1), &keys[7..]);
    assert_eq!(directory.holders(&keys[7]).count(), 1);
}
