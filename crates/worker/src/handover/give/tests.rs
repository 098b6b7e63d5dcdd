//! A new worker that dies, hangs or talks nonsense at each point of the conversation.

use std::io::Write;
use std::time::Instant;

use chariot_client::{Block, Client, ConnectOptions, Put, Room, Wait};
use chariot_types::{Key, WorkerAddress};

use super::*;
use crate::{Place, Worker, WorkerConfig};

const SOON: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

/// A worker with a block that is read, and one who can reach it.
struct Old {
    worker: Worker,
    config: WorkerConfig,
    client: Client,
    held: Block,
    _dir: tempfile::TempDir,
}

fn put(client: &Client, name: &str) {
    let put = Put { key: Key::of_name(name.as_bytes()), parent: None, bytes: name.as_bytes(), time_to_live: None };
    client.put(&[put], Room::Now).unwrap();
}

fn get(client: &Client, name: &str) -> Option<Block> {
    client.get(&[Key::of_name(name.as_bytes())], Wait::No).unwrap().remove(0)
}

impl Old {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address: WorkerAddress = format!("127.0.0.1:{port}").parse().unwrap();
        let (run_dir, log_dir) = (dir.path().join("run"), dir.path().to_owned());
        let config = WorkerConfig::new(address.clone(), 16 * MIB, run_dir, log_dir);
        let worker = Worker::start(config.clone()).unwrap();
        let options = ConnectOptions { timeout: SOON, request_timeout: SOON, ..Default::default() };
        let client = Client::connect(&address, options).unwrap();
        put(&client, "held");
        let held = get(&client, "held").unwrap();
        Self { worker, config, client, held, _dir: dir }
    }

    /// Someone who is about to ask.
    fn heir(&self) -> UnixStream {
        UnixStream::connect(Place::of(&self.config.address, &self.config.run_dir).heir()).unwrap()
    }

    fn ask(&self) -> Channel {
        let channel = Channel::new(self.heir());
        let ask = Ask { address: self.config.address.to_string(), shared_memory: 16 * MIB, pid: 0 };
        channel.send(&Message::Ask(ask), &[], Instant::now() + SOON).unwrap();
        channel
    }

    /// Whether everything is as if nobody had ever asked.
    fn assert_goes_on(&self, name: &str) {
        assert!(self.client.is_connected() && self.held.is_intact() && self.held.bytes() == b"held");
        put(&self.client, name);
        self.client.flush().unwrap();
        assert_eq!(get(&self.client, name).unwrap().bytes(), name.as_bytes());
        assert!(get(&self.client, "held").is_some() && get(&self.client, "absent").is_none());
        assert_eq!(self.client.status().unwrap().misuses, 0);
    }
}

/// Hears all that a worker has to hand over.
fn hear(channel: &Channel) -> Vec<OwnedFd> {
    let (legacy, mut files) = match channel.receive(Instant::now() + SOON).unwrap() {
        (Message::Legacy(legacy), files) => (legacy, files),
        other => panic!("{other:?}"),
    };
    assert_eq!((legacy.clients.len(), files.len()), (1, 6));
    let (Message::Files, more) = channel.receive(Instant::now() + SOON).unwrap() else { panic!() };
    files.extend(more);
    files
}

#[test]
fn a_new_worker_that_dies_at_any_point_leaves_the_old_one_serving() {
    let old = Old::start();
    drop(old.heir());
    old.assert_goes_on("before it asked");
    drop(old.ask());
    old.assert_goes_on("after it asked");
    let channel = old.ask();
    let (Message::Legacy(_), _files) = channel.receive(Instant::now() + SOON).unwrap() else { panic!() };
    drop(channel);
    old.assert_goes_on("as it was told");
    let channel = old.ask();
    let files = hear(&channel);
    drop(channel);
    old.assert_goes_on("when it knew everything");
    drop(files);
    old.assert_goes_on("when it was gone");
    let next = Worker::take_over(old.config.clone()).unwrap();
    old.worker.stop();
    assert_eq!(get(&old.client, "when it was gone").unwrap().bytes(), b"when it was gone");
    next.stop();
}

#[test]
fn a_new_worker_that_says_nothing_or_no_is_not_waited_for() {
    let old = Old::start();
    let silent = old.ask();
    let _files = hear(&silent);
    let reason = match silent.receive(Instant::now() + SOON).unwrap() {
        (Message::Refused(reason), _) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason.contains("too long"), "{reason}");
    // It is too late for that.
    let _ = silent.send(&Message::Ready, &[], Instant::now() + SOON);
    assert!(matches!(silent.receive(Instant::now() + SOON), Err(HandoverError::Gone)));
    old.assert_goes_on("after silence");
    let channel = old.ask();
    let _files = hear(&channel);
    channel.send(&Message::Left, &[], Instant::now() + SOON).unwrap();
    assert!(matches!(channel.receive(Instant::now() + SOON), Ok((Message::Refused(_), _))));
    old.assert_goes_on("after nonsense");
}

#[test]
fn who_asks_in_another_version_or_for_another_worker_is_told_so() {
    let old = Old::start();
    let mut other = Message::Ready.encode();
    other[8] += 1;
    let stream = old.heir();
    (&stream).write_all(&other).unwrap();
    let answer = Channel::new(stream).receive(Instant::now() + SOON);
    assert!(matches!(answer, Ok((Message::Refused(reason), _)) if reason.contains("version `2`")));
    for (address, shared_memory, said) in [("127.0.0.1:1", 16 * MIB, "it serves"), ("", 8 * MIB, "it serves")] {
        let channel = Channel::new(old.heir());
        let ask = Ask { address: address.to_owned(), shared_memory, pid: 0 };
        channel.send(&Message::Ask(ask), &[], Instant::now() + SOON).unwrap();
        let answer = channel.receive(Instant::now() + SOON);
        assert!(matches!(&answer, Ok((Message::Refused(reason), _)) if reason.contains(said)), "{answer:?}");
    }
    old.assert_goes_on("after all");
}
