//! A worker that goes on in another: its blocks, its clients, and those who hold or write something of it meanwhile.

#![allow(clippy::unwrap_used, missing_docs, reason = "all of this is a test")]

#[macro_use]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chariot_client::{Client, ClientError, Put, Reserve, Room, Transport, Wait};
use chariot_types::Key;
use chariot_worker::{Quota, Worker, WorkerConfig, WorkerError};

use support::{SOON, TestWorker, bytes, eventually, key, options, put};

const MIB: u64 = 1 << 20;

over_both_transports! {
    blocks_are_found_by_those_who_were_there_and_by_those_who_come
    a_get_that_waits_is_answered_by_the_worker_that_goes_on
    all_that_is_got_under_load_is_right_and_nothing_that_was_put_is_lost
}

fn blocks_are_found_by_those_who_were_there_and_by_those_who_come(transport: Transport) {
    let mut worker = TestWorker::start(32 * MIB);
    let client = worker.client(transport);
    for name in 0..20u64 {
        put(&client, &name.to_string(), &bytes(name, 300_000 + name as usize));
    }
    for round in 0..3 {
        worker.restart();
        let newcomer = worker.client(transport);
        for client in [&client, &newcomer] {
            for name in 0..20u64 {
                let block = client.get(&[key(name.to_string())], Wait::No).unwrap().remove(0).unwrap();
                assert!(block.bytes() == bytes(name, 300_000 + name as usize) && block.is_intact(), "round {round}");
            }
        }
        assert_eq!(client.is_local(), transport == Transport::Auto);
        let after = format!("after {round}");
        put(&client, &after, after.as_bytes());
        assert_eq!(client.get(&[key(&after)], Wait::No).unwrap()[0].as_ref().unwrap().bytes(), after.as_bytes());
    }
}

fn a_get_that_waits_is_answered_by_the_worker_that_goes_on(transport: Transport) {
    let mut worker = TestWorker::start(8 * MIB);
    let (client, other) = (worker.client(transport), worker.client(transport));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.get(&[key("awaited")], Wait::Until(Instant::now() + SOON)));
        let mut collected = other.start_get(&[key("awaited")], Wait::Until(Instant::now() + SOON)).unwrap();
        assert!(!collected.is_ready());
        worker.restart();
        let newcomer = worker.client(transport);
        put(&newcomer, "awaited", b"it came");
        let block = waiting.join().unwrap().unwrap().remove(0).expect("it came");
        assert_eq!(block.bytes(), b"it came");
        assert_eq!(collected.wait().unwrap().remove(0).expect("it came").bytes(), b"it came");
    });
}

fn all_that_is_got_under_load_is_right_and_nothing_that_was_put_is_lost(transport: Transport) {
    let mut worker = TestWorker::start(64 * MIB);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (worker, is_over) = (&mut worker, &is_over);
        let clients = [0, 1].map(|_| worker.client(transport));
        let load = clients.map(|client| {
            scope.spawn(move || {
                let mut done = 0u64;
                while !is_over.load(Ordering::Relaxed) {
                    let name = format!("{:?} {}", std::thread::current().id(), done % 40);
                    let content = bytes(done % 40, 100_000);
                    put(&client, &name, &content);
                    let block = client.get(&[key(&name)], Wait::Until(Instant::now() + SOON)).unwrap().remove(0);
                    assert!(block.expect("it was put").bytes() == content, "wrong bytes");
                    done += 1;
                }
                done
            })
        });
        for _ in 0..5 {
            worker.restart();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(load.map(|load| load.join().unwrap()).into_iter().all(|done| done > 0));
    });
}

#[test]
fn a_block_that_is_read_meanwhile_stays_while_the_next_worker_is_flooded() {
    let mut worker = TestWorker::start(16 * MIB);
    let reader = worker.client(Transport::Auto);
    let content = bytes(1, MIB as usize);
    put(&reader, "held", &content);
    let held = reader.get(&[key("held")], Wait::No).unwrap().remove(0).unwrap();
    for round in 0..3u64 {
        worker.restart();
        let writer = worker.client(Transport::Auto);
        assert_eq!(writer.delete(&[key("held")]).unwrap(), usize::from(round == 0));
        for flood in 0..60u64 {
            put(&writer, &format!("{round} {flood}"), &bytes(flood + 2, MIB as usize));
        }
        assert!(held.bytes() == content && held.is_intact(), "round {round}");
    }
    let used = |worker: &TestWorker| worker.client(Transport::Auto).status().unwrap().detached_blocks;
    assert_eq!(used(&worker), 1);
    drop(held);
    eventually("what is not read any more is free", || used(&worker) == 0);
}

#[test]
fn room_that_a_writer_has_is_not_anothers_before_it_lets_go() {
    let mut worker = TestWorker::start(16 * MIB);
    let writer = worker.client(Transport::Auto);
    let reserve = Reserve { key: key("growing"), parent: None, len: MIB, time_to_live: None };
    let mut growing = writer.reserve(&[reserve], Room::Now).unwrap().remove(0);
    growing.advance(0).unwrap();
    worker.restart();
    let flood = worker.client(Transport::Auto);
    let content = bytes(7, MIB as usize);
    for name in 0..40u64 {
        put(&flood, &name.to_string(), &content);
        // It has not noticed yet, for all that anyone knows.
        growing.write_at(0, &bytes(8, MIB as usize));
        let block = flood.get(&[key(name.to_string())], Wait::No).unwrap().remove(0).unwrap();
        assert!(block.bytes() == content, "two wrote at one place");
    }
    drop(growing);
    let status = || flood.status().unwrap();
    eventually("what the writer held is free", || status().growing_blocks == 0);
    assert!(flood.get(&[key("growing")], Wait::No).unwrap()[0].is_none());
}

#[test]
fn what_is_said_of_blocks_goes_with_them() {
    let mut worker =
        TestWorker::start_with_quotas(16 * MIB, vec![Quota { namespace: "a".parse().unwrap(), bytes: 8 * MIB }]);
    let client = worker.client_of("a".parse().unwrap(), Transport::Auto);
    let content = bytes(3, MIB as usize);
    let mut parent = None;
    for name in ["root", "leaf"] {
        client.put(&[Put { key: key(name), parent, bytes: &content, time_to_live: None }], Room::Now).unwrap();
        parent = Some(key(name));
    }
    let time_to_live = Some(Duration::from_millis(1500));
    client.put(&[Put { key: key("short"), parent: None, bytes: b"short", time_to_live }], Room::Now).unwrap();
    assert_eq!(client.soft_pin(&[key("leaf")], None).unwrap(), 1);
    let before = client.status().unwrap();
    worker.restart();
    let after = client.status().unwrap();
    assert_eq!(before.namespaces, after.namespaces);
    assert_eq!((before.soft_pinned_blocks, before.sealed_blocks), (after.soft_pinned_blocks, after.sealed_blocks));
    let other = worker.client_of("b".parse().unwrap(), Transport::Auto);
    for name in 0..40u64 {
        put(&other, &name.to_string(), &content);
    }
    let found = client.get(&[key("root"), key("leaf")], Wait::No).unwrap();
    assert!(found.iter().all(|block| block.as_ref().is_some_and(|block| block.bytes() == content)));
    drop(found);
    eventually("its time is over", || !client.exists(&[key("short")]).unwrap()[0]);
}

fn refused(config: WorkerConfig) -> String {
    match Worker::take_over(config) {
        Ok(_) => panic!("it was handed over"),
        Err(WorkerError::Handover { source }) => source.to_string(),
        Err(other) => other.to_string(),
    }
}

#[test]
fn a_worker_that_cannot_go_on_leaves_the_old_one_serving() {
    let worker = TestWorker::start(16 * MIB);
    let client = worker.client(Transport::Auto);
    put(&client, "kept", b"kept");
    let held = client.get(&[key("kept")], Wait::No).unwrap().remove(0).unwrap();
    let smaller = refused(WorkerConfig { shared_memory: 8 * MIB, ..worker.config() });
    assert!(smaller.contains("`16` MiB") && smaller.contains("`8`"), "{smaller}");
    let quotas = vec![Quota { namespace: "a".parse().unwrap(), bytes: 99 * MIB }];
    refused(WorkerConfig { quotas, ..worker.config() });
    let elsewhere = worker.dir.path().join("elsewhere");
    assert!(refused(WorkerConfig { run_dir: elsewhere, ..worker.config() }).contains("elsewhere"));
    assert!(client.is_connected() && held.is_intact());
    assert_eq!(client.get(&[key("kept")], Wait::No).unwrap()[0].as_ref().unwrap().bytes(), b"kept");
    put(&client, "more", b"more");
    client.flush().unwrap();
    assert_eq!(client.exists(&[key("more"), key("absent")]).unwrap(), [true, false]);
}

#[test]
fn a_client_that_comes_while_nobody_serves_is_let_in() {
    let mut worker = TestWorker::start(8 * MIB);
    let address = worker.address.clone();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let comers = scope.spawn(|| {
            let mut came = 0;
            while !is_over.load(Ordering::Relaxed) {
                let client = Client::connect(&address, options(Transport::Auto)).unwrap();
                let key: Key = key("absent");
                assert_eq!(client.exists(&[key]).unwrap(), [false]);
                came += 1;
            }
            came
        });
        for _ in 0..5 {
            worker.restart();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(comers.join().unwrap() > 0);
    });
}

#[test]
fn a_worker_that_is_gone_is_told_from_one_that_moves() {
    let mut worker = TestWorker::start(8 * MIB);
    let client = worker.client(Transport::Auto);
    worker.restart();
    put(&client, "block", b"block");
    worker.stop();
    eventually("it is gone", || matches!(client.get(&[key("block")], Wait::No), Err(ClientError::Unavailable { .. })));
    assert!(!worker.dir.path().join("run").exists());
}
