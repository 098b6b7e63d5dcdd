//! A worker with a disk: blocks for which memory has no room are there all the same.

#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "../../ssd/tests/support/mounted.rs"]
mod mounted;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::{Client, ClientError, Put, Room, Transport, Wait};
use chariot_types::{Key, Member};
use chariot_wire::SpillStatus;
use chariot_worker::{SpillTo, Worker, WorkerConfig};
use mounted::Mounted;
use support::{SOON, TestWorker, bytes, eventually, free_address, key, options};
use tokio::sync::watch;

const MIB: usize = 1 << 20;
const ARENA: u64 = 16 << 20;
const DISK: u64 = 128 << 20;
/// What is kept free of an arena of that size, and in larger ones not less.
const RESERVE: u64 = ARENA / 4;

over_both_transports! {
    what_memory_has_no_room_for_comes_back_from_the_disk
    what_is_on_the_disk_exists_and_is_part_of_prefixes
    blocks_of_any_length_come_back
    a_prefix_that_is_asked_for_is_read_ahead
    deleted_blocks_do_not_come_back_from_the_disk
    a_time_to_live_goes_on_on_the_disk
    everything_on_the_disk_is_back_after_a_restart
    what_comes_back_is_its_namespaces
    what_nobody_has_is_a_miss_at_once
    many_clients_get_the_same_block_from_the_disk
    what_comes_back_in_a_crowd_pushes_nothing_out_for_good
}

fn disk(client: &Client) -> SpillStatus {
    client.status().unwrap().spill.unwrap()
}

/// Puts a block, and waits until there is room for the next without a block that is lost.
fn put(client: &Client, name: &str, content: &[u8], parent: Option<Key>) {
    client.put(&[Put { key: key(name), parent, bytes: content, time_to_live: None }], Room::Now).unwrap();
    client.flush().unwrap();
    settle(client);
}

/// Waits until as much is free as the worker wants to be.
fn settle(client: &Client) {
    eventually("room was made", || {
        // Room to spare for the worker's other threads as well: the machine may have few processors.
        std::thread::sleep(Duration::from_millis(1));
        let status = client.status().unwrap();
        status.free_bytes >= RESERVE && status.spill.is_some_and(|disk| disk.coming == 0)
    });
}

/// Puts a chain of blocks of 1 MiB, of which memory has room for a part; their keys.
fn fill(client: &Client, count: u64) -> Vec<Key> {
    let mut parent = None;
    let name = |i| format!("block {i}");
    for i in 0..count {
        put(client, &name(i), &bytes(i, MIB), parent);
        parent = Some(key(name(i)));
    }
    (0..count).map(|i| key(name(i))).collect()
}

fn get(client: &Client, key: Key) -> Option<Vec<u8>> {
    client.get(&[key], Wait::No).unwrap().remove(0).map(|block| block.bytes().to_vec())
}

fn what_memory_has_no_room_for_comes_back_from_the_disk(transport: Transport) {
    let worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client(transport);
    let keys = fill(&client, 64);
    let stored = disk(&client).stored;
    assert!(stored > 40, "{stored} blocks were stored");
    for (i, key) in keys.iter().enumerate() {
        let content = get(&client, *key);
        assert!(content == Some(bytes(i as u64, MIB)), "block {i}: {:?}, {:?}", content.is_some(), client.status());
        // Room that is wanted sooner than it is made is made of blocks that are lost.
        settle(&client);
    }
    let status = disk(&client);
    assert!(status.hits > 40 && (status.misses, status.dropped, status.corrupt) == (0, 0, 0), "{status:?}");
    // Back in memory, they were evicted again; most were on the disk already.
    assert!(status.kept > 0, "{status:?}");
}

fn what_is_on_the_disk_exists_and_is_part_of_prefixes(transport: Transport) {
    let worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client(transport);
    let mut keys = fill(&client, 40);
    assert_eq!(client.exists(&keys).unwrap(), vec![true; 40]);
    let prefix = client.longest_prefix(&keys).unwrap();
    assert_eq!((prefix.sealed, prefix.present), (40, 40));
    keys.insert(20, key("not there"));
    assert_eq!(client.longest_prefix(&keys).unwrap().sealed, 20);
    assert_eq!(client.exists(&keys).unwrap().iter().filter(|exists| **exists).count(), 40);
}

fn blocks_of_any_length_come_back(transport: Transport) {
    // The longest must find room in one piece, between what the client was granted ahead.
    let worker = TestWorker::start_with_disk(4 * ARENA, DISK);
    let client = worker.client(transport);
    let lengths = [0, 1, 63, 64, 3816, 3817, 4095, 4096, 4097, 100_000, MIB, 3 * MIB + 7];
    for len in lengths {
        put(&client, &format!("of {len}"), &bytes(len as u64, len), None);
    }
    fill(&client, 80);
    assert!(disk(&client).stored > 12);
    for len in lengths {
        let content = get(&client, key(format!("of {len}")));
        assert!(content == Some(bytes(len as u64, len)), "{len}: {:?}", disk(&client));
    }
}

fn a_prefix_that_is_asked_for_is_read_ahead(transport: Transport) {
    let worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client(transport);
    let keys = fill(&client, 8);
    (100..130).for_each(|i| put(&client, &format!("other {i}"), &bytes(i, MIB), None));
    let before = disk(&client);
    assert_eq!(client.longest_prefix(&keys[..2]).unwrap().sealed, 2);
    eventually("both are in memory", || disk(&client).hits == before.hits + 2);
    assert!(get(&client, keys[0]).unwrap() == bytes(0, MIB));
    assert_eq!(disk(&client).hits, before.hits + 2);
}

fn deleted_blocks_do_not_come_back_from_the_disk(transport: Transport) {
    let mut worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client(transport);
    let keys = fill(&client, 40);
    let deleted: Vec<Key> = keys.iter().step_by(2).copied().collect();
    assert_eq!(client.delete(&deleted).unwrap(), 20);
    assert_eq!(client.delete(&deleted).unwrap(), 0);
    for _ in 0..2 {
        let exist = client.exists(&keys).unwrap();
        assert!(exist.iter().enumerate().all(|(i, exists)| !exists || i % 2 == 1), "{exist:?}");
        assert!(deleted.iter().all(|key| get(&client, *key).is_none()));
        worker.stop();
        worker.start_again();
        eventually("the client is back", || client.status().is_ok());
    }
    // The name is free for another block.
    put(&client, "block 0", &bytes(99, MIB), None);
    (100..130).for_each(|i| put(&client, &format!("other {i}"), &bytes(i, MIB), None));
    assert!(get(&client, keys[0]).unwrap() == bytes(99, MIB));
}

fn a_time_to_live_goes_on_on_the_disk(transport: Transport) {
    let worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client(transport);
    let time_to_live = Some(Duration::from_secs(2));
    let until = Instant::now() + Duration::from_secs(2);
    client.put(&[Put { key: key("brief"), parent: None, bytes: &[7; 5000], time_to_live }], Room::Now).unwrap();
    client.flush().unwrap();
    fill(&client, 30);
    let was_found = client.exists(&[key("brief")]).unwrap()[0];
    assert!(was_found || Instant::now() >= until);
    eventually("its time is over", || !client.exists(&[key("brief")]).unwrap()[0]);
    assert!(Instant::now() >= until && get(&client, key("brief")).is_none());
}

fn everything_on_the_disk_is_back_after_a_restart(transport: Transport) {
    let mut worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client(transport);
    let keys = fill(&client, 40);
    let blocks = disk(&client).blocks;
    worker.stop();
    worker.start_again();
    eventually("the client is back", || client.status().is_ok());
    assert_eq!(disk(&client).blocks, blocks);
    let found = keys.iter().enumerate().filter(|(i, key)| match get(&client, **key) {
        None => false,
        Some(content) => {
            assert!(content == bytes(*i as u64, MIB), "block {i}");
            true
        }
    });
    assert_eq!(found.count() as u64, blocks);
}

fn what_comes_back_is_its_namespaces(transport: Transport) {
    let mut worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client_of("a model".parse().unwrap(), transport);
    let keys = fill(&client, 40);
    let held = |client: &Client| {
        let namespaces = client.status().unwrap().namespaces;
        namespaces.into_iter().map(|held| (held.name, held.blocks)).collect::<Vec<_>>()
    };
    worker.stop();
    worker.start_again();
    let other = worker.client(transport);
    assert_eq!(held(&other), []);
    assert!(keys[..4].iter().all(|key| get(&other, *key).is_some()));
    assert_eq!(held(&other), [("a model".to_owned(), 4)], "whoever asks for them");
}

fn what_nobody_has_is_a_miss_at_once(transport: Transport) {
    let worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client(transport);
    let keys = [key("nothing"), key("nothing else")];
    assert!(client.get(&keys, Wait::No).unwrap().iter().all(Option::is_none));
    assert!(client.follow(&keys, Wait::No).unwrap().iter().all(Option::is_none));
    let soon = Wait::Until(Instant::now() + Duration::from_millis(50));
    assert!(client.get(&keys, soon).unwrap().iter().all(Option::is_none));
    assert_eq!(client.status().unwrap().waiting, 0);
}

fn many_clients_get_the_same_block_from_the_disk(transport: Transport) {
    let worker = TestWorker::start_with_disk(ARENA, DISK);
    let writer = worker.client(transport);
    let keys = fill(&writer, 40);
    let before = disk(&writer);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = worker.client(transport);
                for wait in [Wait::No, Wait::Until(Instant::now() + SOON)] {
                    let blocks = client.get(&keys[..4], wait).unwrap();
                    let mut contents = blocks.into_iter().map(|block| block.unwrap().bytes().to_vec());
                    assert!((0..4).all(|i| contents.next().unwrap() == bytes(i, MIB)));
                }
            });
        }
    });
    let after = disk(&writer);
    assert!(after.hits - before.hits <= 4 && after.misses == before.misses, "{before:?} {after:?}");
}

fn what_comes_back_in_a_crowd_pushes_nothing_out_for_good(transport: Transport) {
    let worker = TestWorker::start_with_disk(ARENA, DISK);
    let client = worker.client(transport);
    let keys = fill(&client, 40);
    // More than is kept free, and memory is full of what is not on the disk yet.
    let crowd = 10;
    let blocks = client.get(&keys[..crowd], Wait::No).unwrap();
    for (i, block) in blocks.iter().enumerate() {
        assert!(*block.as_ref().unwrap().bytes() == *bytes(i as u64, MIB), "block {i}: {:?}", client.status());
    }
    drop(blocks);
    settle(&client);
    assert_eq!(client.exists(&keys).unwrap(), vec![true; keys.len()]);
    assert!(keys.iter().enumerate().all(|(i, key)| get(&client, *key).unwrap() == bytes(i as u64, MIB)));
}

#[test]
fn a_worker_whose_disk_cannot_be_used_does_not_start_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("a file");
    std::fs::write(&in_the_way, b"").unwrap();
    let start = |directory: &std::path::Path, size_limit| {
        let config = WorkerConfig {
            spill: Some(SpillTo { directory: directory.to_owned(), size_limit: Some(size_limit) }),
            ..WorkerConfig::new(free_address(), ARENA, dir.path().join("run"), dir.path().to_owned())
        };
        let error = Worker::start(config).err().unwrap();
        assert!(!dir.path().join("run").exists(), "nothing is left behind");
        (error.to_string(), error.hint().unwrap())
    };
    let (error, hint) = start(&in_the_way, DISK);
    assert!(error.contains("a file") && hint.contains("--spill_directory"), "{error}; {hint}");
    let (error, hint) = start(&dir.path().join("disk"), 1000);
    assert!(error.contains("`1000` bytes") && hint.contains("MiB"), "{error}; {hint}");
    let (error, hint) = start(&dir.path().join("disk"), 1 << 50);
    assert!(error.contains("bytes") && hint.contains("iB"), "{error}; {hint}");
}

#[test]
fn puts_go_on_while_the_disk_hangs() {
    let Some(mounted) = Mounted::image("ext4", 80 << 20) else { return };
    let mut worker = TestWorker::start_with_disk(ARENA, DISK);
    worker.stop();
    worker.spill = Some(SpillTo { directory: mounted.path().to_owned(), size_limit: Some(40 << 20) });
    worker.start_again();
    let client = worker.client(Transport::Auto);
    let keys = fill(&client, 20);
    let frozen = mounted.freeze();
    let content = bytes(7, MIB);
    eventually("the disk is known not to answer", || {
        let name = format!("{:?}", Instant::now());
        match client.put(&[Put { key: key(&name), parent: None, bytes: &content, time_to_live: None }], Room::Now) {
            // What is on its way to the disk has its room until the disk answers, and no more than a sixteenth.
            Ok(()) | Err(ClientError::NoRoom { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(get(&client, key(&name)).is_none_or(|found| found == content));
        !disk(&client).takes_more
    });
    for i in 0..50 {
        let name = format!("while it hangs {i}");
        client.put(&[Put { key: key(&name), parent: None, bytes: &content, time_to_live: None }], Room::Now).unwrap();
        client.flush().unwrap();
        assert!(get(&client, key(&name)).unwrap() == content);
    }
    // What is on the disk is a miss until it answers, within a second and a little.
    let before = Instant::now();
    keys.iter().for_each(|key| drop(get(&client, *key)));
    assert!(before.elapsed() < SOON);
    drop(frozen);
    eventually("the disk is known to answer", || disk(&client).takes_more);
    settle(&client);
}

/// Workers of one cluster, each with a disk.
fn cluster_with_disks(dir: &std::path::Path, members: &watch::Sender<Arc<[Member]>>) -> Vec<Worker> {
    let start = |number: usize| start_in(dir, number, members);
    let workers: Vec<_> = (0..2).map(start).collect();
    members.send_replace(workers.iter().map(Worker::member).collect());
    workers
}

fn start_in(dir: &std::path::Path, number: usize, members: &watch::Sender<Arc<[Member]>>) -> Worker {
    let config = WorkerConfig {
        spill: Some(SpillTo { directory: dir.join(format!("disk {number}")), size_limit: Some(2 * DISK) }),
        ..WorkerConfig::new(free_address(), 4 * ARENA, dir.join(format!("run {number}")), dir.to_owned())
    };
    Worker::start_among(config, "test", members.subscribe()).unwrap()
}

fn client(worker: &Worker) -> Client {
    Client::connect(&worker.member().address, options(Transport::Auto)).unwrap()
}

#[test]
fn what_is_on_one_workers_disk_is_found_from_all_others() {
    let dir = tempfile::tempdir().unwrap();
    let members = watch::Sender::new(Arc::from([]));
    let workers = cluster_with_disks(dir.path(), &members);
    let (writer, reader) = (client(&workers[0]), client(&workers[1]));
    let keys = fill(&writer, 100);
    assert!(disk(&writer).stored > 40);
    eventually("all are known", || reader.exists(&keys).unwrap().iter().all(|exists| *exists));
    let wait = || Wait::Until(Instant::now() + SOON);
    for (i, key) in keys.iter().enumerate() {
        let block = reader.get(&[*key], wait()).unwrap().remove(0).unwrap();
        assert!(*block.bytes() == *bytes(i as u64, MIB), "block {i}");
    }
    assert_eq!(disk(&reader).stored, 0, "copies of what others have are not written");
    assert_eq!(writer.delete(&keys[..10]).unwrap(), 10);
    assert!(keys[..10].iter().all(|key| get(&reader, *key).is_none() && get(&writer, *key).is_none()));
}

#[test]
fn what_a_worker_finds_on_its_disk_is_announced_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let members = watch::Sender::new(Arc::from([]));
    let mut workers = cluster_with_disks(dir.path(), &members);
    let writer = client(&workers[0]);
    fill(&writer, 100);
    let address = workers[0].member().address;
    drop(workers.remove(0));
    let config = WorkerConfig {
        spill: Some(SpillTo { directory: dir.path().join("disk 0"), size_limit: Some(2 * DISK) }),
        ..WorkerConfig::new(address, 4 * ARENA, dir.path().join("run 0"), dir.path().to_owned())
    };
    let again = Worker::start_among(config, "test", members.subscribe()).unwrap();
    members.send_replace([again.member(), workers[0].member()].into());
    let (writer, reader) = (client(&again), client(&workers[0]));
    let blocks = disk(&writer).blocks as usize;
    let keys: Vec<Key> = (0..100).map(|i| key(format!("block {i}"))).collect();
    assert!(blocks > 40);
    eventually("all are known", || reader.exists(&keys).unwrap().iter().filter(|exists| **exists).count() == blocks);
    let found = keys.iter().enumerate().filter(|(i, key)| match get(&reader, **key) {
        None => false,
        Some(content) => {
            assert!(content == bytes(*i as u64, MIB), "block {i}");
            true
        }
    });
    assert_eq!(found.count(), blocks);
}
