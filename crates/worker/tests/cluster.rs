//! Several workers as one cluster: what is put at one is found at all, whatever happens to the others.

#![allow(clippy::unwrap_used)] // a test

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::{Client, ConnectOptions, Reserve, Room, Transport, Wait};
use chariot_types::{Key, Member};
use chariot_worker::{Worker, WorkerConfig};
use support::{SOON, bytes, eventually, free_address, key, options, put};
use tokio::sync::watch;

const MIB: usize = 1 << 20;

/// Workers that are told of each other by the test.
struct Cluster {
    members: watch::Sender<Arc<[Member]>>,
    workers: Vec<Option<Worker>>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    fn of(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let members = watch::Sender::new(Arc::from([]));
        let workers = (0..count)
            .map(|number| {
                let config = WorkerConfig::new(
                    free_address(),
                    64 * MIB as u64,
                    dir.path().join(number.to_string()),
                    dir.path().to_owned(),
                );
                Some(Worker::start_among(config, "test", members.subscribe()).unwrap())
            })
            .collect();
        let cluster = Self { members, workers, _dir: dir };
        cluster.tell();
        cluster
    }

    /// Tells all workers who is there.
    fn tell(&self) {
        let members: Arc<[Member]> = self.workers.iter().flatten().map(Worker::member).collect();
        self.members.send_replace(members);
    }

    fn client(&self, number: usize, transport: Transport) -> Client {
        Client::connect(&self.workers[number].as_ref().unwrap().member().address, options(transport)).unwrap()
    }

    /// Ends a worker; the others are told only by [`tell`](Self::tell).
    fn stop(&mut self, number: usize) {
        self.workers[number].take().unwrap().stop();
    }
}

fn wait() -> Wait {
    Wait::Until(Instant::now() + SOON)
}

fn get(client: &Client, name: &str, wait: Wait) -> Option<Vec<u8>> {
    client.get(&[key(name)], wait).unwrap().remove(0).map(|block| block.bytes().to_vec())
}

over_both_transports! {
    what_is_put_at_one_is_found_at_all
    a_get_that_waits_is_told_when_the_block_appears_elsewhere
    a_growing_block_is_followed_from_another_worker
    what_nobody_has_is_a_miss_at_once
    existence_and_prefixes_are_known_across_workers
    a_writer_sees_what_its_own_worker_holds
    a_deleted_block_is_gone_everywhere
    a_copy_survives_its_source
    a_block_that_is_forwarded_is_there_before_anyone_asks
    a_copy_is_charged_to_whose_it_is
    blocks_of_a_lost_writer_are_asked_for_again
}

fn what_is_put_at_one_is_found_at_all(transport: Transport) {
    let cluster = Cluster::of(3);
    let clients: Vec<_> = (0..3).map(|number| cluster.client(number, transport)).collect();
    for (number, len) in [0, 1, 4095, 70_000, 5 * MIB].into_iter().enumerate() {
        let (name, content) = (format!("block {number}"), bytes(number as u64, len));
        put(&clients[number % 3], &name, &content);
        for client in &clients {
            assert_eq!(get(client, &name, wait()).unwrap(), content, "{name}");
        }
    }
}

fn a_get_that_waits_is_told_when_the_block_appears_elsewhere(transport: Transport) {
    let cluster = Cluster::of(3);
    let readers: Vec<_> = (0..3).map(|number| cluster.client(number, transport)).collect();
    let names: Vec<String> = (0..9).map(|number| format!("late {number}")).collect();
    let keys: Vec<Key> = names.iter().map(key).collect();
    std::thread::scope(|scope| {
        for reader in &readers {
            let (names, keys) = (&names, &keys);
            scope.spawn(move || {
                let blocks = reader.get(keys, wait()).unwrap();
                for (name, block) in names.iter().zip(blocks) {
                    assert_eq!(*block.unwrap().bytes(), *bytes(7, 100_000), "{name}");
                }
            });
        }
        let writer = cluster.client(1, transport);
        // Not before all wait.
        eventually("all wait", || readers.iter().all(|reader| reader.status().is_ok_and(|status| status.waiting >= 9)));
        names.iter().for_each(|name| put(&writer, name, &bytes(7, 100_000)));
    });
}

fn a_growing_block_is_followed_from_another_worker(transport: Transport) {
    let cluster = Cluster::of(2);
    let (writer, reader) = (cluster.client(0, transport), cluster.client(1, transport));
    for round in 0..4 {
        let content = bytes(round, 3 * MIB);
        let name = key(format!("growing {round}"));
        let reserve = Reserve { key: name, parent: None, len: content.len() as u64, time_to_live: None };
        let mut growing = writer.reserve(&[reserve], Room::Now).unwrap().remove(0);
        let block = reader.follow(&[name], wait()).unwrap().remove(0).unwrap();
        let mut readable = 0;
        for layer in content.chunks(MIB) {
            growing.write_at(readable, layer);
            growing.advance(readable + layer.len()).unwrap();
            readable += layer.len();
            while block.readable() < readable {
                block.wait_beyond(block.readable(), Instant::now() + SOON).unwrap();
            }
            assert_eq!(block.bytes()[..readable], content[..readable]);
        }
        growing.seal().unwrap();
        assert_eq!(get(&reader, &format!("growing {round}"), wait()).unwrap(), content);
    }
}

fn what_nobody_has_is_a_miss_at_once(transport: Transport) {
    let cluster = Cluster::of(3);
    let client = cluster.client(0, transport);
    for number in 0..20 {
        assert_eq!(get(&client, &format!("nothing {number}"), Wait::No), None);
    }
    assert_eq!(get(&client, "nothing", Wait::Until(Instant::now() + Duration::from_millis(50))), None);
}

fn existence_and_prefixes_are_known_across_workers(transport: Transport) {
    let cluster = Cluster::of(3);
    let clients: Vec<_> = (0..3).map(|number| cluster.client(number, transport)).collect();
    let names: Vec<String> = (0..30).map(|number| format!("chain {number}")).collect();
    for (number, name) in names.iter().enumerate().take(20) {
        put(&clients[number % 2], name, b"bytes");
    }
    clients.iter().for_each(|client| client.flush().unwrap());
    let keys: Vec<Key> = names.iter().map(key).collect();
    for client in &clients {
        eventually("all is known", || client.longest_prefix(&keys).unwrap().present == 20);
        let exists = client.exists(&keys).unwrap();
        assert!(exists[..20].iter().all(|exists| *exists) && exists[20..].iter().all(|exists| !exists), "{exists:?}");
    }
}

fn a_writer_sees_what_its_own_worker_holds(transport: Transport) {
    let cluster = Cluster::of(2);
    let clients = [cluster.client(0, transport), cluster.client(1, transport)];
    put(&clients[0], "here", b"bytes");
    put(&clients[1], "there", b"bytes");
    clients.iter().for_each(|client| client.flush().unwrap());
    let keys = ["here", "there", "nowhere"].map(key);
    eventually("all is known", || clients[0].exists(&keys).unwrap() == [true, true, false]);
    let others = transport == Transport::Tcp;
    assert_eq!(clients[0].holds(&keys).unwrap(), [true, others, false]);
}

fn a_deleted_block_is_gone_everywhere(transport: Transport) {
    let cluster = Cluster::of(3);
    let clients: Vec<_> = (0..3).map(|number| cluster.client(number, transport)).collect();
    put(&clients[0], "doomed", b"bytes");
    clients.iter().for_each(|client| assert!(get(client, "doomed", wait()).is_some()));
    assert_eq!(clients[1].delete(&[key("doomed"), key("never there")]).unwrap(), 1);
    for client in &clients {
        assert_eq!(get(client, "doomed", Wait::No), None);
    }
}

fn a_copy_survives_its_source(transport: Transport) {
    let mut cluster = Cluster::of(3);
    let content = bytes(3, MIB);
    let names: Vec<String> = (0..10).map(|number| format!("copied {number}")).collect();
    {
        let writer = cluster.client(0, transport);
        names.iter().for_each(|name| put(&writer, name, &content));
    }
    let reader = cluster.client(1, transport);
    names.iter().for_each(|name| assert_eq!(get(&reader, name, wait()).unwrap(), content));
    cluster.stop(0);
    let other = cluster.client(2, transport);
    // Some of their owners are gone with the source; the others know at once.
    cluster.tell();
    names.iter().for_each(|name| assert_eq!(get(&other, name, wait()).unwrap(), content, "{name}"));
}

fn a_block_that_is_forwarded_is_there_before_anyone_asks(transport: Transport) {
    let cluster = Cluster::of(2);
    let (writer, reader) = (cluster.client(0, transport), cluster.client(1, transport));
    let to = cluster.workers[1].as_ref().unwrap().member().address;
    let content = bytes(11, 2 * MIB);
    let reserve = Reserve { key: key("pushed"), parent: None, len: content.len() as u64, time_to_live: None };
    let mut growing = writer.reserve(&[reserve], Room::Now).unwrap().remove(0);
    put(&writer, "pushed whole", &content);
    writer.forward(&to, &[key("pushed"), key("pushed whole"), key("not there")]).unwrap();
    growing.write_at(0, &content);
    growing.seal().unwrap();
    writer.flush().unwrap();
    eventually("both arrive", || reader.status().unwrap().sealed_blocks == 2);
    assert_eq!(get(&reader, "pushed", Wait::No).unwrap(), content);
    assert_eq!(get(&reader, "pushed whole", Wait::No).unwrap(), content);
    eventually("nothing stays pinned at the source", || writer.status().unwrap().pinned_blocks == 0);
}

fn a_copy_is_charged_to_whose_it_is(transport: Transport) {
    let cluster = Cluster::of(2);
    let reader = cluster.client(1, transport);
    let source = cluster.workers[0].as_ref().unwrap().member().address;
    let namespace = "some/model".parse().unwrap();
    let writer = Client::connect(&source, ConnectOptions { namespace, ..options(transport) }).unwrap();
    put(&writer, "pulled", &bytes(1, 100_000));
    put(&writer, "pushed", &bytes(2, 100_000));
    writer.flush().unwrap();
    writer.forward(&cluster.workers[1].as_ref().unwrap().member().address, &[key("pushed")]).unwrap();
    assert_eq!(get(&reader, "pulled", wait()).unwrap(), bytes(1, 100_000));
    assert_eq!(get(&reader, "pushed", wait()).unwrap(), bytes(2, 100_000));
    let held = |name: &str| {
        let namespaces = reader.status().unwrap().namespaces;
        namespaces.iter().find(|held| held.name == name).map_or(0, |held| held.blocks)
    };
    eventually("both are there", || held("some/model") == 2);
    assert_eq!(held("default"), 0);
}

fn blocks_of_a_lost_writer_are_asked_for_again(transport: Transport) {
    let cluster = Cluster::of(2);
    let reader = cluster.client(1, transport);
    let content = bytes(12, MIB);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(get(&reader, "second try", wait()).unwrap(), content));
        let writer = cluster.client(0, transport);
        let reserve = Reserve { key: key("second try"), parent: None, len: content.len() as u64, time_to_live: None };
        let mut growing = writer.reserve(&[reserve], Room::Now).unwrap().remove(0);
        growing.write_at(0, &content[..1000]);
        growing.advance(1000).unwrap();
        let there = || reader.status().unwrap().growing_blocks == 1;
        eventually("it comes", there);
        drop(growing);
        drop(writer);
        put(&cluster.client(0, transport), "second try", &content);
    });
}
