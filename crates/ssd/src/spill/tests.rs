//! What becomes of blocks on a disk that fails or does not answer. The disk is an injected one: its engine says so.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use chariot_types::Key;

use super::support::{MIB, SOON, TestSpill, block, bytes, eventually, key};
use crate::io::injecting::{Disk, Injecting, Mood};
use crate::io::{Way, choose};
use crate::{IoEngine, Loaded, Refusal, Spill, SpillConfig, Stored, Wanted};

/// A spill on a disk whose mood can be set, in a folder that is kept with it.
fn on_a_moody_disk() -> (TestSpill, Disk, tempfile::TempDir) {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::good());
    let config = SpillConfig { queue: 8 * MIB, ..SpillConfig::new(dir.path().join("test.spill"), 33 * MIB) };
    let (send, gone) = mpsc::channel();
    let moody = disk.clone();
    let (spill, recovered) = Spill::open_with(
        &config,
        move |keys| drop(send.send(keys)),
        move |file| {
            let inner = choose(&file.file, IoEngine::Threads, super::DEPTH)?;
            Ok(Box::new(Injecting::new(inner, moody)))
        },
    )
    .unwrap();
    assert_eq!(recovered.engine, "injecting");
    (TestSpill::of(config, spill, recovered, gone), disk, dir)
}

fn store(spill: &TestSpill, name: &str) -> Stored {
    let content = bytes(1, MIB as usize);
    spill.store(block(name, MIB), spill.room.filled(&content))
}

fn load(spill: &TestSpill, key: Key, patience: Duration) -> mpsc::Receiver<Loaded> {
    let (send, receive) = mpsc::channel();
    let wanted = vec![Wanted { key, memory: spill.room.memory(MIB) }];
    spill.load(wanted, Instant::now() + patience, move |_, loaded| send.send(loaded).unwrap());
    receive
}

#[test]
fn a_failed_read_is_a_miss_and_the_block_is_not_asked_for_again() {
    let (spill, disk, _dir) = on_a_moody_disk();
    let good = spill.put("good", &bytes(1, MIB as usize)).key;
    let bad = spill.put("bad", &bytes(2, MIB as usize)).key;
    disk.set(Mood::Fails(Way::Read));
    assert!(matches!(load(&spill, bad, SOON).recv_timeout(SOON).unwrap(), Loaded::Miss { .. }));
    assert_eq!(spill.take_gone(), [bad]);
    disk.set(Mood::Good);
    assert_eq!(spill.find(&[good, bad]).iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    assert!(matches!(load(&spill, good, SOON).recv_timeout(SOON).unwrap(), Loaded::Hit { .. }));
    let stats = spill.stats();
    assert_eq!((stats.read_errors, stats.misses, stats.corrupt, stats.hits), (1, 1, 0, 1));
}

#[test]
fn a_failed_write_drops_its_blocks_and_nothing_is_written_for_a_while() {
    let (mut spill, disk, _dir) = on_a_moody_disk();
    spill.put("before", &bytes(1, 1000));
    disk.set(Mood::Fails(Way::Write));
    assert!(matches!(store(&spill, "lost"), Stored::Accepted));
    eventually("the failure is known", || {
        matches!(store(&spill, "refused"), Stored::Dropped { why: Refusal::Unwell, .. })
    });
    eventually("all memory is let go", || spill.room.lent() == 0);
    assert!(!spill.holds(&key("lost")) && spill.take_gone().contains(&key("lost")));
    assert!(spill.get_one("before").is_some());
    disk.set(Mood::Good);
    eventually("it is tried again", || matches!(store(&spill, "after"), Stored::Accepted | Stored::Kept { .. }));
    spill.wait_until_written();
    assert!(spill.stats().write_errors > 0 && spill.stats().dropped > 0);
    // Records behind one that was not written would not be found: they went to another segment.
    spill.reopen();
    assert!(["before", "after"].iter().all(|name| spill.get_one(name).is_some()));
}

#[test]
fn a_load_that_is_not_answered_in_time_is_late_and_its_memory_stays() {
    let (spill, disk, _dir) = on_a_moody_disk();
    let slow = spill.put("slow", &bytes(1, MIB as usize)).key;
    disk.set(Mood::Silent);
    let begin = Instant::now();
    let answer = load(&spill, slow, Duration::from_millis(100)).recv_timeout(SOON).unwrap();
    assert!(matches!(answer, Loaded::Late), "{answer:?}");
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!((spill.room.lent(), spill.stats().late), (1, 1), "the disk may still write there");
    disk.set(Mood::Good);
    eventually("its memory is let go", || spill.room.lent() == 0);
    assert!(matches!(load(&spill, slow, SOON).recv_timeout(SOON).unwrap(), Loaded::Hit { .. }));
}

#[test]
fn a_disk_that_does_not_answer_costs_blocks_until_it_does() {
    let (spill, disk, _dir) = on_a_moody_disk();
    let held = spill.put("held", &bytes(1, MIB as usize)).key;
    disk.set(Mood::Silent);
    let late = load(&spill, held, SOON);
    let mut name = 0;
    eventually("it is known not to answer", || {
        name += 1;
        matches!(store(&spill, &format!("{name}")), Stored::Dropped { why: Refusal::Unwell, .. })
    });
    // Others need not wait to be told.
    assert!(matches!(load(&spill, held, SOON).recv_timeout(SOON).unwrap(), Loaded::Miss { .. }));
    assert!(spill.remove(&key("held")));
    disk.set(Mood::Good);
    // Whether the read or the removal comes first is the disk's affair.
    assert!(!matches!(late.recv_timeout(SOON).unwrap(), Loaded::Late));
    eventually("it is known to answer", || matches!(store(&spill, "new"), Stored::Accepted | Stored::Kept { .. }));
    spill.wait_until_written();
}

#[test]
fn a_spill_that_ends_answers_everyone() {
    let (spill, disk, _dir) = on_a_moody_disk();
    let held = spill.put("held", &bytes(1, MIB as usize)).key;
    disk.set(Mood::Silent);
    let answers: Vec<_> = (0..50).map(|_| load(&spill, held, SOON)).collect();
    assert!(matches!(store(&spill, "written in vain"), Stored::Accepted));
    assert_eq!(Spill::close(&spill, Duration::from_millis(50)), crate::Closed::Unfinished);
    for answer in answers {
        assert!(!matches!(answer.recv_timeout(SOON).unwrap(), Loaded::Hit { .. }));
    }
    assert!(matches!(store(&spill, "too late"), Stored::Dropped { why: Refusal::Closing, .. }));
    assert!(matches!(load(&spill, held, SOON).recv_timeout(SOON).unwrap(), Loaded::Miss { .. }));
}
