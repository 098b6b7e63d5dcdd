//! What happens when workers and clients come, go, and break the rules.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use chariot_client::{Client, ClientError, ConnectOptions, Progress, Reserve, Room, Transport, Wait};
use chariot_types::Extent;
use chariot_wire::{FrameWriter, HEADER_LEN, Hello, InlineRecord, PROTOCOL_VERSION, PutRecord, Request, SlotReadable};
use chariot_worker::{Place, Worker, WorkerConfig, WorkerError};
use proptest::prelude::*;
use support::{SOON, TestWorker, bytes, eventually, key, options, put};
use zerocopy::little_endian::U64;

over_both_transports! {
    a_client_finds_a_worker_that_came_back
    a_call_that_waits_ends_when_the_worker_does
}

fn a_client_finds_a_worker_that_came_back(transport: Transport) {
    let mut worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    put(&client, "before", b"bytes");
    let block = client.get(&[key("before")], Wait::No).unwrap().remove(0).unwrap();
    worker.stop();
    eventually("the client knows", || !client.is_connected());
    let begin = Instant::now();
    assert!(matches!(client.exists(&[key("before")]), Err(ClientError::Unavailable { .. })));
    assert!(matches!(client.put(&[], Room::Now), Err(ClientError::Unavailable { .. })));
    assert!(begin.elapsed() < SOON, "a call without a worker must not wait");
    assert_eq!(block.bytes(), b"bytes");
    assert_eq!(block.is_intact(), transport == Transport::Tcp);
    worker.start_again();
    eventually("the client is back", || client.is_connected());
    assert_eq!(client.exists(&[key("before")]).unwrap(), [false]);
    drop(block);
    put(&client, "after", b"more bytes");
    assert_eq!(client.get(&[key("after")], Wait::No).unwrap()[0].as_ref().unwrap().bytes(), b"more bytes");
}

fn a_call_that_waits_ends_when_the_worker_does(transport: Transport) {
    let mut worker = TestWorker::start(16 << 20);
    let client = worker.client(transport);
    let pending = client.start_get(&[key("never")], Wait::Until(Instant::now() + 100 * SOON)).unwrap();
    client.flush().unwrap();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || pending.wait());
        worker.stop();
        // The worker may answer that it ends, or be gone before.
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Unavailable { .. } | ClientError::Refused { .. }), "{error}");
    });
    assert!(begin.elapsed() < 10 * SOON);
}

#[test]
fn a_client_may_come_before_its_worker() {
    let mut worker = TestWorker::start(16 << 20);
    worker.stop();
    let client = Client::connect_later(&worker.address, options(Transport::Auto)).unwrap();
    assert!(matches!(client.exists(&[]), Err(ClientError::Unavailable { .. })));
    let error = Client::connect(&worker.address, options(Transport::Auto)).unwrap_err();
    assert!(error.to_string().contains(&worker.address.to_string()));
    worker.start_again();
    eventually("the client is there", || client.is_connected());
    put(&client, "a", b"bytes");
    assert_eq!(client.exists(&[key("a")]).unwrap(), [true]);
}

#[test]
fn a_growing_block_of_a_client_that_goes_is_lost() {
    let worker = TestWorker::start(16 << 20);
    let (writer, reader) = (worker.client(Transport::Auto), worker.client(Transport::Auto));
    let reserve = Reserve { key: key("growing"), parent: None, len: 100, time_to_live: None };
    let growing = writer.reserve(&[reserve], Room::Now).unwrap();
    writer.flush().unwrap();
    let block = reader.follow(&[key("growing")], Wait::No).unwrap().remove(0).unwrap();
    // As when its process is killed: the block is not abandoned, the connection just ends.
    growing.into_iter().for_each(std::mem::forget);
    let waiting = std::thread::spawn(move || block.wait_beyond(0, Instant::now() + SOON));
    let sessions = || reader.status().unwrap().sessions.len();
    // The connections over which they asked the way are gone soon.
    eventually("two are connected", || sessions() == 2);
    drop(writer);
    // The forgotten block still holds the connection, so end the worker's side of it by ending the worker.
    drop(worker);
    let progress = waiting.join().unwrap();
    assert!(matches!(
        progress,
        Ok(Progress::Lost) | Err(ClientError::Unavailable { .. } | ClientError::Refused { .. })
    ));
}

#[test]
fn a_second_worker_at_the_address_is_refused_and_the_first_lives_on() {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(Transport::Auto);
    put(&client, "a", b"bytes");
    let config =
        WorkerConfig::new(worker.address.clone(), 1 << 20, worker.dir.path().join("run"), worker.dir.path().to_owned());
    let error = Worker::start(config.clone()).err().unwrap();
    assert!(matches!(error, WorkerError::AlreadyRunning { pid: Some(_), .. }), "{error}");
    assert!(error.hint().unwrap().contains("dscli stop"));
    let elsewhere = WorkerConfig { run_dir: worker.dir.path().join("elsewhere"), ..config };
    assert!(matches!(Worker::start(elsewhere), Err(WorkerError::PortTaken { .. })));
    assert_eq!(client.exists(&[key("a")]).unwrap(), [true]);
}

#[test]
fn a_worker_that_cannot_start_says_why_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let start = |address: &str, shared_memory| {
        Worker::start(WorkerConfig::new(
            address.parse().unwrap(),
            shared_memory,
            dir.path().join("run"),
            dir.path().to_owned(),
        ))
        .err()
        .unwrap()
    };
    let error = start("127.0.0.1:31599", 1 << 60);
    assert!(matches!(error, WorkerError::Arena { .. }) && error.hint().unwrap().contains("--shared_memory_size_mb"));
    assert!(matches!(start("192.0.2.1:31599", 1 << 20), WorkerError::Listen { .. }));
    assert!(!dir.path().join("run").exists());
}

#[test]
fn an_end_leaves_no_file() {
    let mut worker = TestWorker::start(16 << 20);
    let run_dir = worker.dir.path().join("run");
    assert!(Place::of(&worker.address, &run_dir).socket().exists());
    worker.stop();
    assert!(!run_dir.exists());
}

/// A client that says what it likes.
struct Rude(UnixStream);

impl Rude {
    fn connect(worker: &TestWorker) -> Self {
        let stream = UnixStream::connect(Place::of(&worker.address, &worker.dir.path().join("run")).socket()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut rude = Self(stream);
        rude.say(1, &Request::Hello(Hello { version: PROTOCOL_VERSION, pid: 1, name: b"rude", token: b"" }));
        let mut welcome = [0; HEADER_LEN + 32];
        rude.0.read_exact(&mut welcome).unwrap();
        rude
    }

    fn say(&mut self, id: u64, request: &Request<'_>) {
        let mut frame = Vec::new();
        FrameWriter::new(&mut frame).request(id, request, 0);
        // The worker may have hung up already.
        let _ = self.0.write_all(&frame);
    }

    /// What the worker says until it hangs up.
    fn last_words(mut self) -> String {
        let mut words = Vec::new();
        let _ = self.0.read_to_end(&mut words);
        String::from_utf8_lossy(&words).into_owned()
    }
}

#[test]
fn a_client_that_breaks_the_rules_is_shown_out_and_harms_nobody() {
    let worker = TestWorker::start(16 << 20);
    let client = worker.client(Transport::Auto);
    put(&client, "a", b"bytes");
    client.flush().unwrap();
    let rest = client.status().unwrap();
    let anywhere = Extent { offset: 0, len: 4096 };
    let block = InlineRecord::new(key("forged"), None, 4096, None);
    let rudenesses: [Request<'_>; 7] = [
        Request::Put(&[PutRecord::new(block, anywhere)]),
        Request::Put(&[PutRecord::new(block, Extent { offset: u64::MAX - 64, len: u64::MAX })]),
        Request::GiveBack(anywhere),
        Request::Release(&[U64::new(7)]),
        Request::Advance(&[SlotReadable::new(3, 5)]),
        Request::Seal(&[U64::new(9)]),
        Request::Hello(Hello { version: PROTOCOL_VERSION, pid: 1, name: b"again", token: b"" }),
    ];
    for rudeness in &rudenesses {
        let mut rude = Rude::connect(&worker);
        rude.say(0, rudeness);
        assert!(!rude.last_words().is_empty(), "the worker says why: {rudeness:?}");
    }
    eventually("all is as before", || {
        let status = client.status().unwrap();
        status.misuses == rudenesses.len() as u64
            && status.sessions.len() == 1
            && (status.free_bytes, status.granted_bytes) == (rest.free_bytes, rest.granted_bytes)
    });
    assert_eq!(client.get(&[key("a")], Wait::No).unwrap()[0].as_ref().unwrap().bytes(), b"bytes");
    assert_eq!(client.exists(&[key("forged")]).unwrap(), [false]);
}

#[test]
fn another_version_is_told_so() {
    let worker = TestWorker::start(16 << 20);
    let mut stream = TcpStream::connect(worker.address.to_string()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut frame = Vec::new();
    FrameWriter::new(&mut frame).request(1, &Request::Hello(Hello { version: 99, pid: 1, name: b"", token: b"" }), 0);
    stream.write_all(&frame).unwrap();
    let mut words = Vec::new();
    stream.read_to_end(&mut words).unwrap();
    assert!(String::from_utf8_lossy(&words).contains("version 99"));
}

#[test]
fn a_client_without_the_right_timeout_does_not_hang_on_a_silent_listener() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string().parse().unwrap();
    let timeout = Duration::from_millis(50);
    let options = ConnectOptions { timeout, ..ConnectOptions::default() };
    let error = Client::connect(&address, options).unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { source: Some(_), .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn garbage_on_either_door_harms_nobody(garbage in proptest::collection::vec(any::<u8>(), 1..600), has_met in any::<bool>()) {
        thread_local! { static WORKER: TestWorker = TestWorker::start(16 << 20); }
        WORKER.with(|worker| {
            if has_met {
                let mut rude = Rude::connect(worker);
                let _ = rude.0.write_all(&garbage);
                let _ = rude.0.shutdown(std::net::Shutdown::Write);
                rude.last_words();
            } else {
                let mut stream = TcpStream::connect(worker.address.to_string()).unwrap();
                let _ = stream.write_all(&garbage);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
            let client = worker.client(Transport::Auto);
            let content = bytes(garbage.len() as u64, 2000);
            put(&client, "block", &content);
            client.flush().unwrap();
            client.delete(&[key("block")]).unwrap();
        });
    }
}
