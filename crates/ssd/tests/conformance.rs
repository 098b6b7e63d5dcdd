//! What a caller sees is the same with io_uring and with threads: one suite runs on both.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use chariot_ssd::{Beginning, Block, IoEngine, Loaded, Refusal, SpillConfig, Stored, Wanted};
use chariot_types::NamespaceName;
use support::{MIB, SOON, TestSpill, block, bytes, eventually, key};

macro_rules! with_both_engines {
    ($($name:ident)*) => {
        mod uring {
            $(#[test] fn $name() { super::$name(super::IoEngine::Best); })*
        }
        mod threads {
            $(#[test] fn $name() { super::$name(super::IoEngine::Threads); })*
        }
    };
}

with_both_engines! {
    what_is_stored_is_loaded
    a_block_comes_back_with_its_parent_its_time_and_its_namespace
    blocks_asked_for_together_are_all_answered
    a_miss_is_an_answer
    a_block_that_does_not_fit_into_the_memory_is_a_miss
    a_block_can_be_loaded_from_the_moment_it_is_accepted
    a_second_store_of_a_block_changes_nothing
    memory_is_let_go_once_it_is_written
    everything_is_back_after_a_restart
    the_oldest_blocks_make_way_and_are_named
    what_is_used_again_is_written_anew_before_it_goes
    removed_blocks_stay_away_after_a_restart
    a_block_removed_on_its_way_is_not_found
    a_block_stored_again_after_its_removal_is_the_new_one
    a_time_that_is_over_ends_a_block
    a_full_queue_drops_and_hands_the_memory_back
    blocks_that_can_never_be_kept_are_refused
    many_threads_share_a_spill
}

const LENGTHS: [usize; 12] = [0, 1, 63, 3815, 3816, 3817, 4095, 4096, 4097, 65_536, 1 << 20, (3 << 20) + 7];

fn what_is_stored_is_loaded(engine: IoEngine) {
    let spill = TestSpill::open(engine);
    for len in LENGTHS {
        let (name, content) = (format!("block of {len}"), bytes(len as u64, len));
        spill.put(&name, &content);
        assert!(spill.get_one(&name).unwrap() == content, "{len}");
    }
    assert_eq!(spill.stats().hits, LENGTHS.len() as u64);
}

fn a_block_comes_back_with_its_parent_its_time_and_its_namespace(engine: IoEngine) {
    let mut spill = TestSpill::open(engine);
    let expires_at = SystemTime::UNIX_EPOCH + Duration::from_micros(4_000_000_000_123_456);
    let (parent, namespace) = (Some(key("parent")), "m".repeat(NamespaceName::MAX_LEN).parse().unwrap());
    let block = Block { parent, expires_at: Some(expires_at), namespace, ..block("child", 5000) };
    assert!(matches!(spill.store(block.clone(), spill.room.filled(&bytes(1, 5000))), Stored::Accepted));
    spill.wait_until_written();
    for _ in 0..2 {
        assert_eq!(spill.get(&[block.key])[&block.key].0, block);
        spill.reopen();
    }
}

fn blocks_asked_for_together_are_all_answered(engine: IoEngine) {
    let spill = TestSpill::open(engine);
    let contents: Vec<_> = (0..300).map(|i| bytes(i, 100 + 97 * i as usize)).collect();
    let blocks: Vec<_> =
        contents.iter().enumerate().map(|(i, content)| spill.offer(&format!("{i}"), content)).collect();
    let keys: Vec<_> = blocks.iter().rev().map(|block| block.key).collect();
    let got = spill.get(&keys);
    assert!(blocks.iter().zip(&contents).all(|(block, content)| got[&block.key].1 == *content));
    let stats = spill.stats();
    assert!(stats.writes < 300 && (stats.hits, stats.misses) == (300, 0), "{stats:?}");
}

fn a_miss_is_an_answer(engine: IoEngine) {
    let spill = TestSpill::open(engine);
    assert_eq!(spill.find(&[key("nothing")]), [None]);
    let (send, receive) = std::sync::mpsc::channel();
    let wanted = vec![Wanted { key: key("nothing"), memory: spill.room.memory(10) }];
    spill.load(wanted, Instant::now() + SOON, move |_, loaded| send.send(loaded).unwrap());
    assert!(matches!(receive.recv_timeout(SOON).unwrap(), Loaded::Miss { .. }));
    assert!(!spill.remove(&key("nothing")));
    spill.load(vec![], Instant::now(), |_, _| panic!("nothing was asked for"));
    assert_eq!(spill.stats().misses, 1);
}

fn a_block_that_does_not_fit_into_the_memory_is_a_miss(engine: IoEngine) {
    let spill = TestSpill::open(engine);
    let block = spill.put("long", &bytes(1, 10_000));
    let (send, receive) = std::sync::mpsc::channel();
    let wanted = vec![Wanted { key: block.key, memory: spill.room.memory(4096) }];
    spill.load(wanted, Instant::now() + SOON, move |_, loaded| send.send(loaded).unwrap());
    assert!(matches!(receive.recv_timeout(SOON).unwrap(), Loaded::Miss { .. }));
}

fn a_block_can_be_loaded_from_the_moment_it_is_accepted(engine: IoEngine) {
    let spill = TestSpill::open(engine);
    for i in 0..30 {
        let (name, content) = (format!("{i}"), bytes(i, 300_000));
        spill.offer(&name, &content);
        assert!(spill.holds(&key(&name)) && spill.get_one(&name).unwrap() == content);
    }
    assert_eq!(spill.stats().misses, 0);
}

fn a_second_store_of_a_block_changes_nothing(engine: IoEngine) {
    let spill = TestSpill::open(engine);
    let block = spill.put("a", &bytes(1, 5000));
    let again = spill.store(block, spill.room.filled(&bytes(2, 5000)));
    assert!(matches!(again, Stored::Kept { .. }), "{again:?}");
    assert!(spill.get_one("a").unwrap() == bytes(1, 5000));
    assert_eq!((spill.stats().stored, spill.stats().kept), (1, 1));
}

fn memory_is_let_go_once_it_is_written(engine: IoEngine) {
    let spill = TestSpill::open(engine);
    for i in 0..10 {
        spill.offer(&format!("{i}"), &bytes(i, 100_000));
    }
    eventually("all memory is let go", || spill.room.lent() == 0);
    spill.wait_until_written();
    assert_eq!(spill.stats().blocks, 10);
}

fn everything_is_back_after_a_restart(engine: IoEngine) {
    let mut spill = TestSpill::open(engine);
    assert_eq!(spill.recovered.beginning, Beginning::New);
    for len in LENGTHS {
        spill.offer(&format!("{len}"), &bytes(len as u64, len));
    }
    for _ in 0..2 {
        spill.reopen();
        let recovered = spill.recovered;
        assert_eq!((recovered.beginning, recovered.blocks), (Beginning::Continued, LENGTHS.len() as u64));
        assert_eq!(recovered.bytes, LENGTHS.iter().sum::<usize>() as u64);
        for len in LENGTHS {
            assert!(spill.get_one(&format!("{len}")).unwrap() == bytes(len as u64, len));
        }
    }
    // The log goes on where there is room, and harms nothing that is there.
    spill.put("one more", &bytes(9, 100_000));
    spill.reopen();
    assert_eq!(spill.recovered.blocks, LENGTHS.len() as u64 + 1);
}

fn the_oldest_blocks_make_way_and_are_named(engine: IoEngine) {
    let mut spill = TestSpill::open(engine);
    let mut keys = Vec::new();
    // Three fit into a segment, twelve into the file.
    for i in 0..40 {
        keys.push(spill.put(&format!("{i}"), &bytes(i, MIB as usize + 1)).key);
    }
    let held = |spill: &TestSpill| -> Vec<bool> { spill.find(&keys).iter().map(Option::is_some).collect() };
    let before = held(&spill);
    let first = before.iter().position(|held| *held).unwrap();
    assert!(before[first..].iter().all(|held| *held) && (9..=12).contains(&(40 - first)), "{before:?}");
    assert_eq!(spill.stats().reclaimed, first as u64);
    assert_eq!(spill.take_gone(), keys[..first]);
    spill.reopen();
    assert_eq!(held(&spill), before);
    assert_eq!(spill.keys(), keys[first..].iter().copied().collect::<HashSet<_>>());
}

fn what_is_used_again_is_written_anew_before_it_goes(engine: IoEngine) {
    let mut spill = TestSpill::open(engine);
    let used = spill.put("used", &bytes(7, 10_000));
    for i in 0..40 {
        spill.put(&format!("{i}"), &bytes(i, MIB as usize + 1));
        // Evicted from memory now and again, it comes here each time.
        let _ = spill.store(used.clone(), spill.room.filled(&bytes(7, 10_000)));
        spill.wait_until_written();
    }
    let stats = spill.stats();
    assert!(stats.kept > stats.stored - 41, "most of the time it stayed where it was: {stats:?}");
    spill.reopen();
    assert!(spill.get_one("used").unwrap() == bytes(7, 10_000));
}

fn removed_blocks_stay_away_after_a_restart(engine: IoEngine) {
    let mut spill = TestSpill::open(engine);
    let keys: Vec<_> = (0..20).map(|i| spill.put(&format!("{i}"), &bytes(i, 3000 * i as usize)).key).collect();
    for key in keys.iter().step_by(2) {
        assert!(spill.remove(key));
        assert!(!spill.remove(key));
    }
    for _ in 0..2 {
        let held: Vec<bool> = spill.find(&keys).iter().map(Option::is_some).collect();
        assert!(held.iter().enumerate().all(|(i, held)| *held == (i % 2 == 1)), "{held:?}");
        assert_eq!(spill.get(&keys).len(), 10);
        spill.reopen();
    }
}

fn a_block_removed_on_its_way_is_not_found(engine: IoEngine) {
    let mut spill = TestSpill::open(engine);
    for i in 0..50 {
        let block = spill.offer("a", &bytes(i, 500_000));
        assert!(spill.remove(&block.key));
        assert_eq!(spill.find(&[block.key]), [None]);
    }
    eventually("all memory is let go", || spill.room.lent() == 0);
    spill.reopen();
    assert_eq!(spill.find(&[key("a")]), [None]);
}

fn a_block_stored_again_after_its_removal_is_the_new_one(engine: IoEngine) {
    let mut spill = TestSpill::open(engine);
    for i in 0..20 {
        spill.put("a", &bytes(i, 100_000));
        assert!(spill.get_one("a").unwrap() == bytes(i, 100_000));
        assert!(spill.remove(&key("a")));
    }
    spill.put("a", &bytes(100, 200_000));
    for _ in 0..2 {
        spill.reopen();
        assert!(spill.get_one("a").unwrap() == bytes(100, 200_000));
    }
}

fn a_time_that_is_over_ends_a_block(engine: IoEngine) {
    let mut spill = TestSpill::open(engine);
    let expires_at = SystemTime::now() + Duration::from_millis(500);
    let brief = Block { expires_at: Some(expires_at), ..block("brief", 100) };
    assert!(matches!(spill.store(brief.clone(), spill.room.filled(&[1; 100])), Stored::Accepted));
    spill.put("lasting", &[2; 100]);
    eventually("its time is over", || spill.find(&[brief.key])[0].is_none());
    assert!(SystemTime::now() >= expires_at);
    assert!(spill.get_one("brief").is_none());
    let over = spill.store(brief.clone(), spill.room.filled(&[1; 100]));
    assert!(matches!(over, Stored::Dropped { why: Refusal::Expired, .. }), "{over:?}");
    spill.reopen();
    assert_eq!((spill.recovered.blocks, spill.get_one("lasting").unwrap()), (1, vec![2; 100]));
}

fn a_full_queue_drops_and_hands_the_memory_back(engine: IoEngine) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.spill");
    let config = SpillConfig { engine, queue: MIB, ..SpillConfig::new(path, 60 * MIB) };
    let spill = TestSpill::at(config);
    let content = bytes(1, MIB as usize - 1);
    let (mut accepted, mut dropped) = (0, 0);
    // Faster than any disk: what comes meanwhile does not wait for it.
    while dropped == 0 {
        match spill.store(block(&format!("{accepted}"), content.len() as u64), spill.room.filled(&content)) {
            Stored::Accepted => accepted += 1,
            Stored::Dropped { why: Refusal::Busy, .. } => dropped += 1,
            other => panic!("{other:?}"),
        }
        assert!(accepted < 10_000, "the disk is faster than memory");
        assert!(spill.stats().queued < 2 * MIB);
    }
    eventually("what was accepted is written", || spill.stats().stored == accepted);
    assert_eq!((spill.stats().dropped, spill.room.lent()), (dropped, 0));
}

fn blocks_that_can_never_be_kept_are_refused(engine: IoEngine) {
    let spill = TestSpill::open(engine);
    let longest = 4 * MIB - 4096;
    spill.put("fits", &bytes(1, longest as usize));
    let refused = spill.store(block("too long", longest + 1), spill.room.memory(longest + 1));
    assert!(matches!(refused, Stored::Dropped { why: Refusal::TooLong, .. }), "{refused:?}");
    assert!(spill.get_one("fits").unwrap() == bytes(1, longest as usize));
}

fn many_threads_share_a_spill(engine: IoEngine) {
    let spill = TestSpill::open_with(engine, 64 * MIB);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let spill = &spill;
            scope.spawn(move || {
                for i in 0..50 {
                    let (name, content) = (format!("{thread}/{i}"), bytes(thread * 1000 + i, 1000 * i as usize));
                    spill.put(&name, &content);
                    assert!(spill.get_one(&name).unwrap() == content);
                    if i % 3 == 0 {
                        assert!(spill.remove(&key(&name)));
                    }
                }
            });
        }
    });
    spill.wait_until_written();
    assert_eq!(spill.stats().blocks, 4 * 33);
}
