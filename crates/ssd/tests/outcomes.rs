//! Each way in which a file or a file system can be wrong, caused for real, and what comes of it.
//!
//! Some need a file system of their own, which root alone can mount: without that they say so and do nothing.

#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "support/mounted.rs"]
mod mounted;
mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chariot_ssd::{Beginning, Closed, Loaded, Refusal, Spill, SpillConfig, SpillError, Stored, Wanted};
use mounted::Mounted;
use support::{MIB, SOON, TestSpill, block, bytes, eventually, key};

const CAPACITY: u64 = 17 * MIB;

fn refused(config: &SpillConfig) -> SpillError {
    Spill::open(config, |_| {}).map(drop).unwrap_err()
}

fn in_a_folder() -> (tempfile::TempDir, SpillConfig) {
    let dir = tempfile::tempdir().unwrap();
    let config = SpillConfig::new(dir.path().join("test.spill"), CAPACITY);
    (dir, config)
}

#[test]
fn a_file_has_one_worker_at_a_time() {
    let (_dir, config) = in_a_folder();
    let first = TestSpill::at(config.clone());
    let error = refused(&config);
    assert!(matches!(&error, SpillError::InUse { path } if *path == config.path), "{error}");
    assert!(error.hint().is_some());
    first.put("a", b"still served");
    drop(first);
    assert!(TestSpill::at(config).get_one("a").is_some());
}

#[test]
fn a_file_of_another_version_is_begun_anew() {
    let (_dir, config) = in_a_folder();
    TestSpill::at(config.clone()).put("a", b"bytes");
    OpenOptions::new().write(true).open(&config.path).unwrap().write_all_at(&7u32.to_le_bytes(), 8).unwrap();
    let mut spill = TestSpill::at(config);
    assert_eq!(spill.recovered.beginning, Beginning::OtherVersion { version: 7 });
    assert_eq!((spill.recovered.blocks, spill.get_one("a")), (0, None));
    spill.put("b", b"bytes");
    spill.reopen();
    assert_eq!((spill.recovered.beginning, spill.recovered.blocks), (Beginning::Continued, 1));
}

#[test]
fn a_damaged_first_page_costs_the_content_and_nothing_else() {
    let (_dir, config) = in_a_folder();
    TestSpill::at(config.clone()).put("a", b"bytes");
    OpenOptions::new().write(true).open(&config.path).unwrap().write_all_at(b"?", 20).unwrap();
    let mut spill = TestSpill::at(config);
    assert_eq!((spill.recovered.beginning, spill.recovered.blocks), (Beginning::Damaged, 0));
    spill.reopen();
    assert_eq!((spill.recovered.beginning, spill.get_one("a")), (Beginning::Continued, None));
}

#[test]
fn a_file_of_someone_else_is_left_as_it_is() {
    let (_dir, config) = in_a_folder();
    for content in [b"my thesis".to_vec(), b"my thesis, all of it ".repeat(1000)] {
        fs::write(&config.path, &content).unwrap();
        let error = refused(&config);
        assert!(matches!(error, SpillError::Foreign { .. }), "{error}");
        assert!(error.hint().is_some());
        assert_eq!(fs::read(&config.path).unwrap(), content);
    }
}

#[test]
fn folders_and_capacities_that_cannot_be_used_are_told_apart() {
    let (dir, config) = in_a_folder();
    for capacity in [0, MIB, u64::MAX] {
        let error = refused(&SpillConfig { capacity, ..config.clone() });
        assert!(matches!(error, SpillError::Capacity { asked, .. } if asked == capacity), "{error}");
    }
    let nowhere = refused(&SpillConfig::new(dir.path().join("no/such/folder/test.spill"), CAPACITY));
    assert!(matches!(nowhere, SpillError::File { .. }), "{nowhere}");
    let folder = refused(&SpillConfig::new(dir.path(), CAPACITY));
    assert!(matches!(folder, SpillError::File { .. }), "{folder}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn another_capacity_keeps_what_lies_within_it() {
    let (_dir, config) = in_a_folder();
    let spill = TestSpill::at(config.clone());
    for i in 0..11 {
        spill.put(&format!("{i}"), &bytes(i, MIB as usize));
    }
    drop(spill);
    let longer = TestSpill::at(SpillConfig { capacity: 40 * MIB, ..config.clone() });
    assert_eq!((longer.recovered.beginning, longer.recovered.blocks), (Beginning::Continued, 11));
    assert_eq!(fs::metadata(&config.path).unwrap().len(), 36 * MIB + 4096);
    for i in 11..20 {
        longer.put(&format!("{i}"), &bytes(i, MIB as usize));
    }
    assert_eq!(longer.stats().blocks, 20);
    drop(longer);
    let shorter = TestSpill::at(config.clone());
    assert_eq!(fs::metadata(&config.path).unwrap().len(), 16 * MIB + 4096);
    let names: Vec<_> = (0..20).filter(|i| shorter.get_one(&format!("{i}")).is_some()).collect();
    assert_eq!(names.len() as u64, shorter.recovered.blocks);
    assert!(names.iter().all(|i| shorter.get_one(&format!("{i}")).unwrap() == bytes(*i, MIB as usize)));
}

#[test]
fn a_disk_without_room_is_told_at_the_start_and_nothing_is_left() {
    let Some(disk) = Mounted::tmpfs(8 * MIB) else { return };
    let config = SpillConfig::new(disk.path().join("test.spill"), CAPACITY);
    let error = refused(&config);
    assert!(matches!(error, SpillError::DiskFull { available, .. } if available <= 8 * MIB), "{error}");
    assert!(error.hint().is_some());
    assert!(!config.path.exists());
}

#[test]
fn a_disk_that_fills_up_later_drops_blocks_and_works_with_what_it_has() {
    // This file system cannot promise room, so others can take it.
    let Some(disk) = Mounted::image("ext2", 12 * MIB) else { return };
    let mut spill = TestSpill::at(SpillConfig::new(disk.path().join("test.spill"), CAPACITY));
    let mut name = 0;
    eventually("a write fails, and a later one does not", || {
        let content = bytes(name, MIB as usize);
        let _ = spill.store(block(&format!("{name}"), MIB), spill.room.filled(&content));
        name += 1;
        eventually("it is written or dropped", || spill.room.lent() == 0);
        let stats = spill.stats();
        stats.write_errors > 0 && stats.stored > 13
    });
    assert!(spill.stats().dropped > 0);
    // After the restart too: of the write that failed there may be a header without its block.
    for _ in 0..2 {
        let found: Vec<_> = (0..name).filter_map(|i| Some((i, spill.get_one(&format!("{i}"))?))).collect();
        assert!(found.len() > 5 && found.iter().all(|(i, content)| *content == bytes(*i, MIB as usize)));
        spill.reopen();
    }
}

#[test]
fn without_direct_io_and_promised_room_it_works_all_the_same() {
    let Some(disk) = Mounted::ramfs() else { return };
    let path = disk.path().join("test.spill");
    let direct = {
        use std::os::unix::fs::OpenOptionsExt;
        OpenOptions::new().create(true).write(true).truncate(false).custom_flags(libc::O_DIRECT).open(&path)
    };
    assert!(direct.is_err(), "this file system was to have no direct I/O");
    let _ = fs::remove_file(&path);
    let mut spill = TestSpill::at(SpillConfig::new(&path, CAPACITY));
    for (i, len) in [10, 5000, 3_000_000].into_iter().enumerate() {
        spill.put(&format!("{i}"), &bytes(i as u64, len));
    }
    spill.reopen();
    for (i, len) in [10, 5000, 3_000_000].into_iter().enumerate() {
        assert!(spill.get_one(&format!("{i}")).unwrap() == bytes(i as u64, len));
    }
}

#[test]
fn a_disk_that_hangs_costs_blocks_and_no_time() {
    let Some(disk) = Mounted::image("ext4", 80 * MIB) else { return };
    // Room for all that may be under way while the disk hangs, and for what was there before.
    let config = SpillConfig { queue: 4 * MIB, ..SpillConfig::new(disk.path().join("test.spill"), 61 * MIB) };
    let mut spill = TestSpill::at(config);
    spill.put("before", &bytes(1, MIB as usize));
    let frozen = disk.freeze();
    let content = bytes(2, MIB as usize);
    let mut name = 0;
    eventually("the disk is known not to answer", || {
        name += 1;
        let before = Instant::now();
        let stored = spill.store(block(&format!("{name}"), content.len() as u64), spill.room.filled(&content));
        assert!(before.elapsed() < Duration::from_secs(1), "a store has waited for the disk");
        matches!(stored, Stored::Dropped { why: Refusal::Unwell, .. })
    });
    // What waited behind the write that hangs is let go.
    eventually("nothing waits", || spill.stats().queued == 0);
    let (send, receive) = std::sync::mpsc::channel();
    let wanted = vec![Wanted { key: key("before"), memory: spill.room.memory(MIB) }];
    spill.load(wanted, Instant::now() + Duration::from_millis(100), move |_, loaded| send.send(loaded).unwrap());
    assert!(!matches!(receive.recv_timeout(SOON).unwrap(), Loaded::Hit { .. }));
    drop(frozen);
    eventually("the disk is known to answer again", || {
        name += 1;
        let stored = spill.store(block(&format!("{name}"), content.len() as u64), spill.room.filled(&content));
        matches!(stored, Stored::Accepted)
    });
    assert!(spill.get_one("before").unwrap() == bytes(1, MIB as usize));
    eventually("all memory is let go", || spill.room.lent() == 0);
    spill.reopen();
    assert!(spill.get_one("before").is_some());
}

#[test]
fn a_disk_that_hangs_does_not_keep_a_spill_from_closing() {
    let Some(disk) = Mounted::image("ext4", 40 * MIB) else { return };
    let spill = TestSpill::at(SpillConfig::new(disk.path().join("test.spill"), CAPACITY));
    let frozen = disk.freeze();
    spill.offer("a", &bytes(1, MIB as usize));
    let before = Instant::now();
    assert_eq!(Spill::close(&spill, Duration::from_millis(200)), Closed::Unfinished);
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(spill.room.lent(), 1, "the kernel may still read it");
    drop(frozen);
    // The file can be had again once the kernel is done.
    let config = spill.config.clone();
    eventually("the lock is free", || Spill::open(&config, |_| {}).is_ok());
}

const FORBIDDEN: &str = "CHARIOT_TEST_URING_FORBIDDEN";

#[test]
fn where_io_uring_is_forbidden_threads_do_the_work() {
    if let Some(path) = std::env::var_os(FORBIDDEN) {
        forbid_io_uring();
        let mut spill = TestSpill::at(SpillConfig::new(PathBuf::from(path), CAPACITY));
        assert_eq!(spill.recovered.engine, "threads");
        spill.put("a", &bytes(1, 100_000));
        spill.reopen();
        assert!(spill.get_one("a").unwrap() == bytes(1, 100_000));
        return;
    }
    let (_dir, config) = in_a_folder();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "where_io_uring_is_forbidden_threads_do_the_work", "--nocapture", "--test-threads=1"])
        .env(FORBIDDEN, &config.path)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// As container runtimes do: a filter answers the call with "operation not permitted", for this process for good.
fn forbid_io_uring() {
    let load_number = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    let is_setup = libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_io_uring_setup as u32 };
    let refuse = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | libc::EPERM as u32 };
    let allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let mut filter = [load_number, is_setup, refuse, allow];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: it changes what this process may do, and touches no memory.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the program, which lives until then.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
    assert_eq!(set, 0, "no filter: {}", std::io::Error::last_os_error());
}
