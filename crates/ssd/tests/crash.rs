//! What a crash leaves in the file is found again, and nothing that was torn is taken for a block.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chariot_ssd::{Beginning, IoEngine, Record, SpillConfig};
use proptest::prelude::*;
use support::{MIB, TestSpill, block, bytes, key};

const PAGE: u64 = 4096;
const CAPACITY: u64 = 17 * MIB;

/// Blocks of a file that is then spoiled: a short one, which lies in its header's page, and two longer ones.
const CONTENTS: [(&str, usize); 3] = [("short", 900), ("middle", 5000), ("last", 9000)];

/// What the blocks take in the file, behind its first page.
const WRITTEN: u64 = (1 + 3 + 4) * PAGE;

/// A file with these blocks, in this order, in a folder.
fn written(dir: &Path) -> PathBuf {
    let path = dir.join("test.spill");
    let spill = open(&path);
    for (seed, (name, len)) in CONTENTS.into_iter().enumerate() {
        spill.put(name, &bytes(seed as u64, len));
    }
    path
}

fn open(path: &Path) -> TestSpill {
    TestSpill::at(SpillConfig { engine: IoEngine::Threads, ..SpillConfig::new(path, CAPACITY) })
}

/// Which blocks can be loaded. Fails if one is, and is not what was stored.
fn intact(spill: &TestSpill) -> [bool; 3] {
    let got = spill.get(&CONTENTS.map(|(name, _)| key(name)));
    let mut seeds = 0..;
    CONTENTS.map(|(name, len)| {
        let seed = seeds.next().unwrap();
        got.get(&key(name)).is_some_and(|(block, content)| {
            assert!(*content == bytes(seed, len) && block.len == len as u64, "{name} is not what was stored");
            true
        })
    })
}

/// Which block the byte at `at` belongs to, if it is one that says what it is or what is in it.
fn owner(at: u64) -> Option<usize> {
    let mut start = PAGE;
    for (i, (_, len)) in CONTENTS.into_iter().enumerate() {
        let (header, len) = (Record::LEN as u64, len as u64);
        let payload = if len <= Record::LONGEST_INLINE { start + header } else { start + PAGE };
        if (start..start + header).contains(&at) || (payload..payload + len).contains(&at) {
            return Some(i);
        }
        start += u64::from(Record::pages(len).unwrap()) * PAGE;
    }
    None
}

fn is_header(at: u64) -> bool {
    [1, 2, 5].iter().any(|page| (page * PAGE..page * PAGE + Record::LEN as u64).contains(&at))
}

/// What is to be found after the byte at `at` was spoiled: all but its block; and behind a header that cannot be read,
/// nothing, because nobody knows where the next one is.
fn expected(at: u64) -> [bool; 3] {
    let spoiled = owner(at);
    [0, 1, 2].map(|i| spoiled.is_none_or(|spoiled| i < spoiled || (i > spoiled && !is_header(at))))
}

#[test]
fn any_byte_of_a_header_that_is_spoiled_costs_no_more_than_it_must() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    for page in [1, 2, 5] {
        for at in page * PAGE..page * PAGE + Record::LEN as u64 {
            spoil_and_look(&file, &path, at, 0xff);
        }
    }
}

/// Spoils one byte, looks what is there, and repairs it.
fn spoil_and_look(file: &std::fs::File, path: &Path, at: u64, flip: u8) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    // The whole page is put back, because a block that proves spoiled is struck out.
    let mut pages = vec![0; (PAGE + WRITTEN) as usize];
    file.read_exact_at(&mut pages, 0).unwrap();
    file.write_all_at(&[byte[0] ^ flip], at).unwrap();
    let mut spill = open(path);
    assert_eq!(intact(&spill), expected(at), "byte {at}");
    spill.close();
    file.write_all_at(&pages, 0).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_spoiled_byte_anywhere_costs_no_more_than_it_must(at in PAGE..PAGE + WRITTEN, flip in 1u8..) {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        spoil_and_look(&file, &path, at, flip);
    }

    #[test]
    fn a_write_torn_at_any_byte_loses_what_was_behind_it(at in PAGE..PAGE + WRITTEN, garbage in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // What was there before the write: zeros, or anything.
        let len = (PAGE + WRITTEN - at) as usize;
        let old = if garbage % 2 == 0 { vec![0; len] } else { bytes(garbage, len) };
        file.write_all_at(&old, at).unwrap();
        let mut spill = open(&path);
        let found = intact(&spill);
        let whole = (at..PAGE + WRITTEN).find_map(owner).unwrap_or(3);
        prop_assert!(found.iter().enumerate().all(|(i, found)| *found == (i < whole)), "byte {at}: {found:?}");
        // It goes on from there.
        spill.put("next", &bytes(9, 70_000));
        spill.reopen();
        prop_assert!(spill.get_one("next").unwrap() == bytes(9, 70_000));
        prop_assert_eq!(intact(&spill), found);
    }

    #[test]
    fn a_file_cut_short_anywhere_is_made_whole_again(at in 0..PAGE + WRITTEN) {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        OpenOptions::new().write(true).open(&path).unwrap().set_len(at).unwrap();
        // A first page that is not whole says nothing: it may be anyone's file.
        if (1..PAGE).contains(&at) {
            let error = chariot_ssd::Spill::open(&SpillConfig::new(&path, CAPACITY), |_| {}).unwrap_err();
            prop_assert!(matches!(error, chariot_ssd::SpillError::Foreign { .. }), "{}", error);
            return Ok(());
        }
        let mut spill = open(&path);
        let whole = (at..PAGE + WRITTEN).find_map(owner).unwrap_or(3);
        prop_assert_eq!(intact(&spill), [0, 1, 2].map(|i| at > 0 && i < whole));
        spill.put("next", &bytes(9, 70_000));
        spill.reopen();
        prop_assert!(spill.get_one("next").is_some());
    }
}

#[test]
fn what_an_older_filling_left_in_a_segment_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.spill");
    let mut spill = open(&path);
    // Twice round, with lengths that differ, so that old headers lie between new ones.
    for i in 0..150 {
        spill.put(&format!("{i}"), &bytes(i, 100_000 + 1777 * i as usize));
    }
    let before = spill.keys();
    spill.reopen();
    assert_eq!(spill.keys(), before);
    for i in 0..150 {
        assert!(spill.get_one(&format!("{i}")).is_none_or(|content| content == bytes(i, 100_000 + 1777 * i as usize)));
    }
    assert_eq!(spill.stats().corrupt, 0);
}

const FILE: &str = "CHARIOT_TEST_SPILL_FILE";

/// Not a test by itself: what the process does that is killed below.
#[test]
fn one_that_is_killed() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let spill = TestSpill::at(SpillConfig::new(PathBuf::from(path), CAPACITY));
    for round in 0.. {
        for name in 0..NAMES {
            let len = length(name);
            let stored = spill.store(block(&name.to_string(), len as u64), spill.room.filled(&bytes(name, len)));
            drop(stored);
            if (round + name) % 7 == 0 {
                spill.remove(&key(name.to_string()));
            }
        }
    }
}

const NAMES: u64 = 60;

fn length(name: u64) -> usize {
    (name * name * 211) as usize
}

#[test]
fn a_process_killed_at_any_moment_leaves_what_it_wrote_and_no_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.spill");
    let (begin, mut found) = (Instant::now(), 0);
    for round in 0.. {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_that_is_killed", "--nocapture", "--test-threads=1"])
            .env(FILE, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(50 + 37 * round % 200));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it ended by itself");
        let spill = open(&path);
        assert!(round == 0 || spill.recovered.beginning == Beginning::Continued);
        for (name, content) in (0..NAMES).map(|name| (name, spill.get_one(&name.to_string()))) {
            found += u64::from(content.is_some());
            assert!(content.is_none_or(|content| content == bytes(name, length(name))), "{name}");
        }
        if begin.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    assert!(found > 0, "nothing was ever found");
}
