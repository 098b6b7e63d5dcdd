//! A worker of its own for each test, and clients of it over both transports.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)] // each test file uses a part

use std::net::TcpListener;
use std::time::{Duration, Instant};

use chariot_client::{Client, ConnectOptions, Put, Room, Transport};
use chariot_types::{Key, NamespaceName, WorkerAddress};
use chariot_worker::{Quota, SpillTo, Worker, WorkerConfig};

/// Long enough for anything that happens at all, on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(20);

/// A worker with its own directory, which goes with it.
pub struct TestWorker {
    pub address: WorkerAddress,
    pub worker: Option<Worker>,
    pub dir: tempfile::TempDir,
    pub bytes: u64,
    pub quotas: Vec<Quota>,
    pub spill: Option<SpillTo>,
}

impl TestWorker {
    pub fn start(bytes: u64) -> Self {
        Self::start_with_quotas(bytes, Vec::new())
    }

    pub fn start_with_quotas(bytes: u64, quotas: Vec<Quota>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = Self { address: free_address(), worker: None, dir, bytes, quotas, spill: None };
        worker.start_again();
        worker
    }

    /// A worker with a disk of its own.
    pub fn start_with_disk(bytes: u64, disk: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spill = Some(SpillTo { directory: dir.path().join("disk"), size_limit: Some(disk) });
        let mut worker = Self { address: free_address(), worker: None, dir, bytes, quotas: Vec::new(), spill };
        worker.start_again();
        worker
    }

    pub fn start_again(&mut self) {
        self.worker = Some(Worker::start(self.config()).unwrap());
    }

    /// Has another worker go on for this one.
    pub fn restart(&mut self) {
        let next = Worker::take_over(self.config()).unwrap();
        self.worker.replace(next).unwrap().stop();
    }

    pub fn config(&self) -> WorkerConfig {
        let (run_dir, log_dir) = (self.dir.path().join("run"), self.dir.path().to_owned());
        let config = WorkerConfig::new(self.address.clone(), self.bytes, run_dir, log_dir);
        WorkerConfig { quotas: self.quotas.clone(), spill: self.spill.clone(), ..config }
    }

    pub fn stop(&mut self) {
        self.worker.take().unwrap().stop();
    }

    pub fn client(&self, transport: Transport) -> Client {
        self.client_of(NamespaceName::default(), transport)
    }

    /// A client whose blocks are that namespace's.
    pub fn client_of(&self, namespace: NamespaceName, transport: Transport) -> Client {
        let client = Client::connect(&self.address, ConnectOptions { namespace, ..options(transport) }).unwrap();
        assert_eq!(client.is_local(), transport == Transport::Auto);
        client
    }
}

/// An address that nobody listens at.
pub fn free_address() -> WorkerAddress {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("127.0.0.1:{port}").parse().unwrap()
}

pub fn options(transport: Transport) -> ConnectOptions {
    ConnectOptions { timeout: SOON, request_timeout: SOON, transport, name: "test".to_owned(), ..Default::default() }
}

pub fn key(name: impl AsRef<[u8]>) -> Key {
    Key::of_name(name.as_ref())
}

/// Bytes that tell their seed and their place.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| step()).collect()
}

pub fn put(client: &Client, name: &str, bytes: &[u8]) {
    client.put(&[Put { key: key(name), parent: None, bytes, time_to_live: None }], Room::Now).unwrap();
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "never came to pass: {what}");
        std::thread::yield_now();
    }
}

/// One test a transport.
#[macro_export]
macro_rules! over_both_transports {
    ($($name:ident)*) => {
        mod over_shared_memory { $(#[test] fn $name() { super::$name(chariot_client::Transport::Auto); })* }
        mod over_tcp { $(#[test] fn $name() { super::$name(chariot_client::Transport::Tcp); })* }
    };
}
