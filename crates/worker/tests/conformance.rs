//! What a client sees is the same through shared memory and over TCP: one suite runs on both.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::time::{Duration, Instant};

use chariot_client::{ClientError, Evict, GrowingBlock, Prefix, Progress, Put, Reserve, Room, Transport, Wait};
use chariot_types::NamespaceName;
use chariot_worker::Quota;
use support::{SOON, TestWorker, bytes, eventually, key, put};

over_both_transports! {
    what_is_put_is_got
    a_batch_is_put_and_got_in_order
    a_miss_is_an_answer
    an_empty_block_is_a_block
    a_second_put_of_a_key_changes_nothing
    the_longest_prefix_stops_at_the_first_gap
    a_growing_block_is_followed_to_its_end
    an_abandoned_block_is_lost_to_its_readers
    a_get_waits_for_a_block_that_comes_later
    a_get_waits_for_a_block_to_be_sealed
    a_get_gives_up_at_its_deadline_with_what_there_is
    what_a_glance_shows_is_what_the_worker_says
    a_started_get_is_collected_later_or_cancelled
    a_started_question_is_answered_later_or_cancelled
    deleted_blocks_are_gone_and_pinned_bytes_stay
    a_full_pool_evicts_and_spares_what_is_pinned
    children_are_evicted_before_their_parents
    a_soft_pinned_chain_outlives_a_flood
    what_is_demanded_is_evicted
    one_namespace_does_not_push_out_another
    a_put_without_room_says_so_or_waits
    a_block_larger_than_the_pool_is_refused_at_once
    time_to_live_ends_a_block
    what_a_client_held_is_taken_back_when_it_goes
    many_threads_share_a_client
    what_was_put_is_there_when_its_client_has_gone
}

fn what_is_put_is_got(transport: Transport) {
    let worker = TestWorker::start(64 << 20);
    let (writer, reader) = (worker.client(transport), worker.client(transport));
    for len in [1, 63, 64, 65, 4095, 4096, 4097, 1 << 20, (3 << 20) + 7] {
        let (name, content) = (format!("block of {len}"), bytes(len as u64, len));
        put(&writer, &name, &content);
        writer.flush().unwrap();
        let block = reader.get(&[key(&name)], Wait::No).unwrap().remove(0).expect("a hit");
        assert_eq!((block.len(), block.readable(), block.is_sealed()), (len, len, true));
        assert!(block.bytes() == content && block.is_intact());
    }
}

fn a_batch_is_put_and_got_in_order(transport: Transport) {
    let worker = TestWorker::start(64 << 20);
    let client = worker.client(transport);
    let contents: Vec<_> = (0..300u64).map(|i| bytes(i, 1000 + 37 * i as usize)).collect();
    let keys: Vec<_> = (0..300).map(|i| key(format!("block {i}"))).collect();
    let puts: Vec<_> = keys
        .iter()
        .zip(&contents)
        .map(|(key, bytes)| Put { key: *key, parent: None, bytes, time_to_live: None })
        .collect();
    client.put(&puts, Room::Now).unwrap();
    let mut asked = keys.clone();
    asked.insert(150, key("not there"));
    let got = client.get(&asked, Wait::No).unwrap();
    assert!(got[150].is_none());
    let got: Vec<_> = got.into_iter().flatten().collect();
    assert_eq!(got.len(), 300);
    assert!(got.iter().zip(&contents).all(|(block, content)| block.bytes() == content));
    let exists = client.exists(&asked).unwrap();
    assert_eq!(exists.iter().filter(|exists| **exists).count(), 300);
    assert!(!exists[150]);
}

fn a_miss_is_an_answer(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    assert!(client.get(&[key("nothing")], Wait::No).unwrap()[0].is_none());
    assert!(client.follow(&[key("nothing")], Wait::No).unwrap()[0].is_none());
    assert_eq!(client.exists(&[key("nothing")]).unwrap(), [false]);
    assert_eq!(client.delete(&[key("nothing")]).unwrap(), 0);
    assert!(client.get(&[], Wait::No).unwrap().is_empty());
}

fn an_empty_block_is_a_block(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    put(&client, "empty", b"");
    let block = client.get(&[key("empty")], Wait::No).unwrap().remove(0).expect("a hit");
    assert!(block.is_empty() && block.bytes().is_empty() && block.is_sealed());
}

fn a_second_put_of_a_key_changes_nothing(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    put(&client, "same", b"first");
    put(&client, "same", b"other");
    assert_eq!(client.get(&[key("same")], Wait::No).unwrap()[0].as_ref().unwrap().bytes(), b"first");
    assert_eq!(client.status().unwrap().duplicates, 1);
}

fn the_longest_prefix_stops_at_the_first_gap(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    let keys: Vec<_> = (0..6).map(|i| key(format!("{i}"))).collect();
    for i in [0, 1, 5] {
        put(&client, &i.to_string(), b"bytes");
    }
    let reserve = |i: usize| Reserve { key: keys[i], parent: None, len: 10, time_to_live: None };
    let growing = client.reserve(&[reserve(2), reserve(3)], Room::Now).unwrap();
    assert_eq!(client.longest_prefix(&keys).unwrap(), Prefix { sealed: 2, present: 4 });
    drop(growing);
    assert_eq!(client.longest_prefix(&keys).unwrap(), Prefix { sealed: 2, present: 2 });
    assert_eq!(client.longest_prefix(&[]).unwrap(), Prefix { sealed: 0, present: 0 });
}

fn a_growing_block_is_followed_to_its_end(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let (writer, reader) = (worker.client(transport), worker.client(transport));
    let content = bytes(7, 300_000);
    let step = 30_000;
    let reserve = Reserve { key: key("growing"), parent: None, len: content.len() as u64, time_to_live: None };
    let mut growing = writer.reserve(&[reserve], Room::Now).unwrap().remove(0);
    writer.flush().unwrap();
    let block = reader.follow(&[key("growing")], Wait::No).unwrap().remove(0).expect("a growing block");
    assert_eq!((block.len(), block.readable(), block.is_sealed()), (content.len(), 0, false));
    let soon = Instant::now() + SOON;
    assert_eq!(block.wait_beyond(0, Instant::now()).unwrap(), Progress::TimedOut);
    for (index, piece) in content.chunks(step).enumerate() {
        growing.write_at(index * step, piece);
        let readable = index * step + piece.len();
        if readable == content.len() {
            break;
        }
        growing.advance(readable).unwrap();
        assert_eq!(block.wait_beyond(index * step, soon).unwrap(), Progress::Readable(readable as u64));
        assert!(block.bytes() == &content[..readable]);
    }
    growing.seal().unwrap();
    assert_eq!(block.wait_beyond(content.len() - step, soon).unwrap(), Progress::Sealed);
    assert!(block.is_sealed() && block.bytes() == content);
    assert!(reader.get(&[key("growing")], Wait::No).unwrap()[0].as_ref().unwrap().bytes() == content);
}

fn an_abandoned_block_is_lost_to_its_readers(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let (writer, reader) = (worker.client(transport), worker.client(transport));
    let reserve = Reserve { key: key("lost"), parent: None, len: 1000, time_to_live: None };
    let mut growing = writer.reserve(&[reserve], Room::Now).unwrap().remove(0);
    growing.write_at(0, &[7; 100]);
    growing.advance(100).unwrap();
    let block = reader.follow(&[key("lost")], Wait::Until(Instant::now() + SOON)).unwrap().remove(0).unwrap();
    drop(growing);
    eventually("the block is lost", || block.wait_beyond(100, Instant::now() + SOON).unwrap() == Progress::Lost);
    assert!(reader.follow(&[key("lost")], Wait::No).unwrap()[0].is_none());
}

fn a_get_waits_for_a_block_that_comes_later(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let (writer, reader) = (worker.client(transport), worker.client(transport));
    put(&writer, "early", b"early bytes");
    writer.flush().unwrap();
    let keys = [key("early"), key("late"), key("early")];
    let pending = reader.start_get(&keys, Wait::Until(Instant::now() + SOON)).unwrap();
    eventually("the get has what is there, or waits with the worker", || {
        let status = writer.status().unwrap();
        status.waiting + status.pinned_blocks > 0
    });
    put(&writer, "late", b"late bytes");
    let got: Vec<_> = pending.wait().unwrap().into_iter().map(Option::unwrap).collect();
    assert_eq!(
        got.iter().map(|block| block.bytes()).collect::<Vec<_>>(),
        [&b"early bytes"[..], b"late bytes", b"early bytes"]
    );
    assert_eq!(writer.status().unwrap().waiting, 0);
}

fn a_get_waits_for_a_block_to_be_sealed(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let (writer, reader) = (worker.client(transport), worker.client(transport));
    let reserve = Reserve { key: key("growing"), parent: None, len: 4, time_to_live: None };
    let mut growing = writer.reserve(&[reserve], Room::Now).unwrap().remove(0);
    writer.flush().unwrap();
    let mut pending = reader.start_get(&[key("growing")], Wait::Until(Instant::now() + SOON)).unwrap();
    eventually("the get has the block in sight, or waits with the worker", || {
        let status = writer.status().unwrap();
        status.waiting + status.pinned_blocks > 0
    });
    growing.write_at(0, b"ab");
    growing.advance(2).unwrap();
    writer.flush().unwrap();
    assert!(!pending.is_ready());
    growing.write_at(2, b"cd");
    growing.seal().unwrap();
    eventually("the get is ready", || pending.is_ready());
    assert_eq!(pending.wait().unwrap()[0].as_ref().unwrap().bytes(), b"abcd");
}

fn what_a_glance_shows_is_what_the_worker_says(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    put(&client, "there", b"bytes");
    let growing = client
        .reserve(&[Reserve { key: key("growing"), parent: None, len: 4, time_to_live: None }], Room::Now)
        .unwrap();
    client.flush().unwrap();
    let keys = ["there", "growing", "missing"].map(key);
    let seen = client.exists_at_a_glance(&keys).unwrap();
    assert_eq!(seen, client.is_local().then_some(vec![true, false, false]));
    let prefix = client.longest_prefix_at_a_glance(&keys).unwrap();
    assert_eq!(prefix, client.is_local().then_some(Prefix { sealed: 1, present: 2 }));
    let got = client.get_at_a_glance(&keys).unwrap();
    let found = got.map(|blocks| blocks.iter().map(Option::is_some).collect::<Vec<_>>());
    assert_eq!(found, client.is_local().then_some(vec![true, false, false]));
    drop(growing);
    // What this client has told the worker and the worker may not have done yet is not to be seen.
    assert_eq!(client.exists_at_a_glance(&keys[1..]).unwrap(), None);
}

fn a_get_gives_up_at_its_deadline_with_what_there_is(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    put(&client, "there", b"bytes");
    let wait = Wait::Until(Instant::now() + Duration::from_millis(20));
    let got = client.get(&[key("there"), key("never")], wait).unwrap();
    assert_eq!(got[0].as_ref().unwrap().bytes(), b"bytes");
    assert!(got[1].is_none());
    assert_eq!(client.status().unwrap().waiting, 0);
}

fn a_started_get_is_collected_later_or_cancelled(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    put(&client, "there", b"bytes");
    let first = client.start_get(&[key("there")], Wait::No).unwrap();
    let second = client.start_get(&[key("there"), key("never")], Wait::Until(Instant::now() + SOON)).unwrap();
    let second = match second.wait_until(Instant::now() + Duration::from_millis(5)) {
        Err(pending) => pending,
        Ok(result) => panic!("answered early: {result:?}"),
    };
    drop(second);
    assert_eq!(first.wait().unwrap()[0].as_ref().unwrap().bytes(), b"bytes");
    eventually("nothing waits and nothing is pinned", || {
        let status = client.status().unwrap();
        status.waiting == 0 && status.pinned_blocks == 0
    });
}

fn a_started_question_is_answered_later_or_cancelled(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    put(&client, "there", b"bytes");
    // What was just put is in the worker's hands and not yet in the index, so that these are asked on both transports.
    let keys = [key("there"), key("never")];
    let mut prefix = client.start_longest_prefix(&keys).unwrap();
    let exists = client.start_exists(&keys).unwrap();
    drop(client.start_longest_prefix(&keys).unwrap());
    drop(client.start_exists(&keys).unwrap());
    eventually("the answer is there", || prefix.is_ready());
    assert_eq!(prefix.wait().unwrap(), Prefix { sealed: 1, present: 1 });
    assert_eq!(exists.wait_until(Instant::now() + SOON).unwrap().unwrap(), [true, false]);
    // Now the index shows it, and the question is answered before it is asked.
    assert!(client.start_exists(&keys).unwrap().is_ready() || transport == Transport::Tcp);
}

fn deleted_blocks_are_gone_and_pinned_bytes_stay(transport: Transport) {
    let worker = TestWorker::start(8 << 20);
    let client = worker.client(transport);
    let content = bytes(1, 1 << 20);
    put(&client, "block", &content);
    let block = client.get(&[key("block")], Wait::No).unwrap().remove(0).unwrap();
    assert_eq!(client.delete(&[key("block"), key("other")]).unwrap(), 1);
    assert_eq!(client.exists(&[key("block")]).unwrap(), [false]);
    for i in 0..30 {
        put(&client, &format!("filler {i}"), &bytes(i + 100, 1 << 20));
    }
    client.flush().unwrap();
    assert!(block.bytes() == content && block.is_intact());
}

fn a_full_pool_evicts_and_spares_what_is_pinned(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    let contents: Vec<_> = (0..40u64).map(|i| bytes(i, 1 << 20)).collect();
    put(&client, "0", &contents[0]);
    let pinned = client.get(&[key("0")], Wait::No).unwrap().remove(0).unwrap();
    for (i, content) in contents.iter().enumerate().skip(1) {
        put(&client, &i.to_string(), content);
    }
    client.flush().unwrap();
    let status = client.status().unwrap();
    assert!(status.evictions > 0, "{status:?}");
    assert!(pinned.bytes() == contents[0]);
    for (i, content) in contents.iter().enumerate() {
        if let Some(block) = client.get(&[key(i.to_string())], Wait::No).unwrap().remove(0) {
            assert!(block.bytes() == content, "block {i}");
        }
    }
    // Over TCP a whole block has been carried to its reader, and needs no pin in the pool.
    assert_eq!(client.exists(&[key("0"), key("39")]).unwrap(), [client.is_local(), true]);
}

fn children_are_evicted_before_their_parents(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    let content = bytes(1, 1 << 20);
    let keys: Vec<_> = (0..8).map(|i| key(format!("chain {i}"))).collect();
    for (i, own) in keys.iter().enumerate() {
        let parent = i.checked_sub(1).map(|before| keys[before]);
        client.put(&[Put { key: *own, parent, bytes: &content, time_to_live: None }], Room::Now).unwrap();
    }
    for i in 0..12 {
        put(&client, &format!("filler {i}"), &content);
        client.flush().unwrap();
        let exists = client.exists(&keys).unwrap();
        let prefix = client.longest_prefix(&keys).unwrap().sealed;
        assert_eq!(exists.iter().filter(|exists| **exists).count(), prefix, "a child outlived its parent: {exists:?}");
    }
    assert!(client.longest_prefix(&keys).unwrap().sealed < 8);
}

fn a_soft_pinned_chain_outlives_a_flood(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    let content = bytes(1, 1 << 20);
    let (parent, child) = (key("parent"), key("child"));
    let put = |key, parent| client.put(&[Put { key, parent, bytes: &content, time_to_live: None }], Room::Now).unwrap();
    put(parent, None);
    put(child, Some(parent));
    assert_eq!(client.soft_pin(&[child, key("nothing")], Some(Duration::from_secs(3600))).unwrap(), 1);
    (0..40).for_each(|i| put(key(format!("flood {i}")), None));
    assert_eq!(client.exists(&[parent, child]).unwrap(), [true, true]);
    let status = client.status().unwrap();
    assert_eq!((status.soft_pinned_blocks, status.soft_pinned_bytes), (2, 2 << 20));
    let many: Vec<_> = (37..40).map(|i| key(format!("flood {i}"))).collect();
    match client.soft_pin(&many, None) {
        Err(ClientError::Refused { text }) => assert!(text.contains("a quarter of the pool"), "{text}"),
        other => panic!("more than a quarter was soft-pinned: {other:?}"),
    }
    assert_eq!(client.soft_unpin(&[child]).unwrap(), 1);
    (40..80).for_each(|i| put(key(format!("flood {i}")), None));
    assert_eq!(client.exists(&[parent, child]).unwrap(), [false, false]);
}

fn what_is_demanded_is_evicted(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let name: NamespaceName = "model".parse().unwrap();
    let (client, other) = (worker.client(transport), worker.client_of(name.clone(), transport));
    let content = bytes(1, 1 << 20);
    (0..4).for_each(|i| put(&client, &i.to_string(), &content));
    (4..8).for_each(|i| put(&other, &i.to_string(), &content));
    other.flush().unwrap();
    let held = client.get(&[key("0")], Wait::No).unwrap().remove(0).unwrap();
    assert_eq!(client.evict(Evict::Keys(&[key("1"), key("nothing")])).unwrap(), 1);
    assert_eq!(client.evict(Evict::Namespace(&name)).unwrap(), 4);
    assert_eq!(client.evict(Evict::Namespace(&"nobody".parse().unwrap())).unwrap(), 0);
    let before = client.status().unwrap();
    assert_eq!(client.evict(Evict::UntilFree(before.free_bytes + 1)).unwrap(), 1);
    // Over TCP nobody reads any more what has been carried.
    let left = if client.is_local() { 1 } else { 2 };
    assert_eq!(client.evict(Evict::All).unwrap(), left);
    assert_eq!(client.exists(&[key("0")]).unwrap(), [client.is_local()]);
    assert!(held.bytes() == content && held.is_intact());
}

fn one_namespace_does_not_push_out_another(transport: Transport) {
    let guarded: NamespaceName = "guarded".parse().unwrap();
    let quotas = vec![Quota { namespace: guarded.clone(), bytes: 6 << 20 }];
    let worker = TestWorker::start_with_quotas(16 << 20, quotas);
    let (client, other) = (worker.client_of(guarded, transport), worker.client(transport));
    let content = bytes(1, 1 << 20);
    (0..6).for_each(|i| put(&client, &i.to_string(), &content));
    client.flush().unwrap();
    (6..60).for_each(|i| put(&other, &i.to_string(), &content));
    other.flush().unwrap();
    let keys: Vec<_> = (0..6).map(|i| key(i.to_string())).collect();
    assert_eq!(client.exists(&keys).unwrap(), [true; 6]);
    let status = client.status().unwrap();
    let guarded = status.namespaces.iter().find(|namespace| namespace.name == "guarded").unwrap();
    assert_eq!((guarded.blocks, guarded.bytes, guarded.quota_bytes), (6, 6 << 20, Some(6 << 20)));
    assert!(status.sessions.iter().any(|session| session.namespace == "guarded"));
}

fn what_was_put_is_there_when_its_client_has_gone(transport: Transport) {
    let worker = TestWorker::start(64 << 20);
    let reader = worker.client(transport);
    let content = bytes(1, 10_000);
    let names: Vec<String> = (0..300).map(|number| format!("block {number}")).collect();
    for names in names.chunks(3) {
        let writer = worker.client(transport);
        // It goes with answers that it has not read, or that it is not there to be sent any more.
        (0..20).for_each(|_| drop(writer.start_get(&[key("nothing")], Wait::Until(Instant::now() + SOON)).unwrap()));
        names.iter().for_each(|name| put(&writer, name, &content));
    }
    let all: Vec<_> = names.iter().map(key).collect();
    eventually("all is found", || reader.exists(&all).unwrap().iter().all(|is_there| *is_there));
}

fn a_put_without_room_says_so_or_waits(transport: Transport) {
    let worker = TestWorker::start(8 << 20);
    let client = worker.client(transport);
    let content = bytes(1, 1 << 20);
    let mut growing = Vec::new();
    loop {
        let name = format!("growing {}", growing.len());
        let one = Reserve { key: key(&name), parent: None, len: 1 << 20, time_to_live: None };
        match client.reserve(&[one], Room::Now) {
            Ok(blocks) => growing.extend(blocks),
            Err(error) => {
                assert!(matches!(error, ClientError::NoRoom { .. }) && error.is_retryable(), "{error}");
                break;
            }
        }
        assert!(growing.len() <= 8);
    }
    assert!(growing.len() >= 6);
    let soon = Room::Until(Instant::now() + Duration::from_millis(20));
    let one = [Put { key: key("late"), parent: None, bytes: &content, time_to_live: None }];
    assert!(matches!(client.put(&one, soon), Err(ClientError::NoRoom { .. })));
    // Room that the same client makes while it waits for it; or before, should this thread be late: both must do.
    let last = growing.pop();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.put(&one, Room::Until(Instant::now() + SOON)));
        std::thread::sleep(Duration::from_millis(30));
        drop(last);
        growing.clear();
        waiting.join().unwrap().unwrap();
    });
    assert!(client.get(&[key("late")], Wait::No).unwrap()[0].as_ref().unwrap().bytes() == content);
}

fn a_block_larger_than_the_pool_is_refused_at_once(transport: Transport) {
    let worker = TestWorker::start(8 << 20);
    let client = worker.client(transport);
    let content = vec![1; 9 << 20];
    let one = [Put { key: key("large"), parent: None, bytes: &content, time_to_live: None }];
    let error = client.put(&one, Room::Until(Instant::now() + SOON)).unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }) && !error.is_retryable(), "{error}");
    let reserve = Reserve { key: key("large"), parent: None, len: u64::MAX - 5, time_to_live: None };
    let error = client.reserve(&[reserve], Room::Now).unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
    put(&client, "small", b"still served");
    assert_eq!(client.exists(&[key("small")]).unwrap(), [true]);
}

fn time_to_live_ends_a_block(transport: Transport) {
    let worker = TestWorker::start(8 << 20);
    let client = worker.client(transport);
    let time_to_live = Some(Duration::from_millis(30));
    client.put(&[Put { key: key("brief"), parent: None, bytes: b"bytes", time_to_live }], Room::Now).unwrap();
    put(&client, "lasting", b"bytes");
    eventually("the block ends", || client.exists(&[key("brief"), key("lasting")]).unwrap() == [false, true]);
    eventually("its room is free", || client.status().unwrap().sealed_blocks == 1);
}

fn what_a_client_held_is_taken_back_when_it_goes(transport: Transport) {
    let worker = TestWorker::start(16 << 20);
    let observer = worker.client(transport);
    let rest = observer.status().unwrap();
    let client = worker.client(transport);
    put(&client, "sealed", &bytes(1, 1 << 20));
    let block = client.get(&[key("sealed")], Wait::No).unwrap().remove(0).unwrap();
    let reserve = Reserve { key: key("growing"), parent: None, len: 1 << 20, time_to_live: None };
    let growing = client.reserve(&[reserve], Room::Now).unwrap();
    client.flush().unwrap();
    assert_eq!(observer.exists(&[key("sealed"), key("growing")]).unwrap(), [true, false]);
    assert_eq!(observer.status().unwrap().growing_blocks, 1);
    // The last of these to go ends the connection.
    drop((client, growing, block));
    observer.delete(&[key("sealed")]).unwrap();
    eventually("all room is free again", || {
        let status = observer.status().unwrap();
        status.sessions.len() == 1 && status.free_bytes == rest.free_bytes && status.pinned_blocks == 0
    });
}

fn many_threads_share_a_client(transport: Transport) {
    let worker = TestWorker::start(64 << 20);
    let client = worker.client(transport);
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let client = client.clone();
            scope.spawn(move || {
                for round in 0..60 {
                    let name = format!("{thread}/{round}");
                    let content = bytes(thread * 1000 + round, 5000);
                    put(&client, &name, &content);
                    let wait = if round % 3 == 0 { Wait::Until(Instant::now() + SOON) } else { Wait::No };
                    let block = client.get(&[key(&name)], wait).unwrap().remove(0).expect("its own put");
                    assert!(block.bytes() == content);
                    // Another thread's block, waited for: answers must find the thread that wants them.
                    let other = format!("{}/{round}", (thread + 1) % 6);
                    let soon = Wait::Until(Instant::now() + SOON);
                    assert!(client.get(&[key(other)], soon).unwrap()[0].is_some());
                }
            });
        }
    });
}

#[test]
fn a_batch_too_large_for_a_message_is_refused() {
    let worker = TestWorker::start(8 << 20);
    let client = worker.client(Transport::Auto);
    let error = client.exists(&vec![key("k"); 70_000]).unwrap_err();
    assert!(matches!(error, ClientError::BatchTooLarge { count: 70_000 }));
}

#[test]
fn a_batch_of_growing_blocks_is_advanced_and_sealed_in_one_message() {
    let worker = TestWorker::start(8 << 20);
    let client = worker.client(Transport::Auto);
    let keys: Vec<_> = (0..5).map(|i| key(format!("{i}"))).collect();
    let reserves: Vec<_> =
        keys.iter().map(|key| Reserve { key: *key, parent: None, len: 100, time_to_live: None }).collect();
    let mut growing = client.reserve(&reserves, Room::Now).unwrap();
    for (index, block) in growing.iter_mut().enumerate() {
        block.write_at(0, &[index as u8; 100]);
    }
    GrowingBlock::advance_all(&mut growing, 50).unwrap();
    let followed = client.follow(&keys, Wait::No).unwrap();
    assert!(followed.iter().flatten().all(|block| block.readable() == 50));
    GrowingBlock::seal_all(growing).unwrap();
    let got = client.get(&keys, Wait::No).unwrap();
    assert!(got.iter().enumerate().all(|(i, block)| block.as_ref().unwrap().bytes() == [i as u8; 100]));
}
