//! Tenants of one worker: each finds what is its own, and nothing says that there is more.

#![allow(clippy::unwrap_used)] // a test

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use chariot_client::{Client, ClientError, ConnectOptions, Evict, Put, Room, Transport, Wait};
use chariot_types::{Token, WorkerAddress};
use chariot_wire::{FrameWriter, HEADER_LEN, Header, Hello, PROTOCOL_VERSION, Reply, Request};
use chariot_worker::{SpillTo, Tenant, Worker, WorkerConfig, WorkerError};
use support::{SOON, bytes, eventually, free_address, key, options, put};

const MIB: usize = 1 << 20;
const NAMES: [&str; 2] = ["team-a", "team-b"];

fn token(name: &str) -> Token {
    format!("secret-of-{name}-0123").parse().unwrap()
}

/// A worker with a tenant for each of [`NAMES`].
struct Shared {
    address: WorkerAddress,
    worker: Worker,
    dir: tempfile::TempDir,
}

fn config(dir: &tempfile::TempDir, megabytes: u64) -> WorkerConfig {
    let tenant =
        |name: &str| Tenant { name: name.parse().unwrap(), token: token(name), shared_memory: megabytes << 20 };
    let config = WorkerConfig::new(free_address(), 0, dir.path().join("run"), dir.path().to_owned());
    WorkerConfig { tenants: NAMES.map(tenant).into(), ..config }
}

impl Shared {
    fn start(megabytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, megabytes);
        Self { address: config.address.clone(), worker: Worker::start(config).unwrap(), dir }
    }

    fn client(&self, name: &str, transport: Transport) -> Client {
        let client = self.connect(Some(token(name)), transport).unwrap();
        assert_eq!(client.is_local(), transport == Transport::Auto);
        client
    }

    fn connect(&self, token: Option<Token>, transport: Transport) -> Result<Client, ClientError> {
        Client::connect(&self.address, ConnectOptions { token, ..options(transport) })
    }
}

fn get(client: &Client, name: &str, wait: Wait) -> Option<Vec<u8>> {
    client.get(&[key(name)], wait).unwrap().remove(0).map(|block| block.bytes().to_vec())
}

/// Whether this token opens this socket.
fn is_let_in(mut socket: UnixStream, token: &Token) -> bool {
    let hello = Hello { version: PROTOCOL_VERSION, pid: 1, name: b"test", token: token.secret().as_bytes() };
    let mut frame = Vec::new();
    FrameWriter::new(&mut frame).request(1, &Request::Hello(hello), 0);
    socket.write_all(&frame).unwrap();
    let mut head = [0; HEADER_LEN];
    socket.read_exact(&mut head).unwrap();
    let header = Header::decode(&head).unwrap();
    let mut body = vec![0; header.body];
    socket.read_exact(&mut body).unwrap();
    matches!(Reply::decode(header.kind, &body).unwrap(), Reply::Welcome(_))
}

over_both_transports! {
    what_is_one_tenants_is_no_others
    one_tenants_flood_takes_nothing_of_anothers
    who_shows_no_token_of_a_tenant_is_turned_away
    a_get_that_waits_is_answered_by_its_own_tenant
}

fn what_is_one_tenants_is_no_others(transport: Transport) {
    let shared = Shared::start(16);
    let [ours, theirs] = NAMES.map(|name| shared.client(name, transport));
    put(&ours, "block", b"ours");
    assert_eq!(theirs.exists(&[key("block")]).unwrap(), [false]);
    assert_eq!(theirs.longest_prefix(&[key("block")]).unwrap().present, 0);
    assert_eq!(get(&theirs, "block", Wait::No), None);
    assert_eq!(theirs.delete(&[key("block")]).unwrap(), 0);
    assert_eq!(theirs.evict(Evict::All).unwrap(), 0);
    assert_eq!(theirs.soft_pin(&[key("block")], None).unwrap(), 0);
    let status = theirs.status().unwrap();
    assert_eq!((status.sealed_blocks, status.puts, status.tenant.as_deref()), (0, 0, Some("team-b")));
    assert_eq!(status.sessions.len(), 1, "others' clients are not listed");
    // The same key is another block there.
    put(&theirs, "block", b"theirs");
    assert_eq!(get(&theirs, "block", Wait::No).unwrap(), b"theirs");
    assert_eq!(get(&ours, "block", Wait::No).unwrap(), b"ours");
}

fn one_tenants_flood_takes_nothing_of_anothers(transport: Transport) {
    let shared = Shared::start(8);
    let [ours, theirs] = NAMES.map(|name| shared.client(name, transport));
    let content = bytes(1, 6 * MIB);
    put(&ours, "kept", &content);
    for number in 0..20 {
        let flood = bytes(number, 3 * MIB);
        let block = Put { key: key(format!("flood {number}")), parent: None, bytes: &flood, time_to_live: None };
        theirs.put(&[block], Room::Until(Instant::now() + SOON)).unwrap();
    }
    assert!(get(&ours, "kept", Wait::No).unwrap() == content);
    assert_eq!(ours.status().unwrap().evictions, 0);
}

fn who_shows_no_token_of_a_tenant_is_turned_away(transport: Transport) {
    let shared = Shared::start(8);
    for shown in [None, Some(token("team-c")), Some("secret-of-team-a-012".parse().unwrap())] {
        let refused = shared.connect(shown, transport).unwrap_err();
        assert!(matches!(refused, ClientError::Stranger { .. }), "{refused:?}");
        assert!(!refused.is_retryable() && !refused.to_string().contains("secret"), "{refused}");
    }
    let client = shared.client("team-a", transport);
    eventually("strangers are counted", || client.status().unwrap().misuses >= 3);
}

fn a_get_that_waits_is_answered_by_its_own_tenant(transport: Transport) {
    let shared = Shared::start(8);
    let [ours, theirs] = NAMES.map(|name| shared.client(name, transport));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| get(&theirs, "late", Wait::Until(Instant::now() + SOON)));
        put(&ours, "late", b"ours");
        ours.flush().unwrap();
        put(&shared.client("team-b", transport), "late", b"theirs");
        assert_eq!(waiting.join().unwrap().unwrap(), b"theirs");
    });
}

#[test]
fn one_tenants_token_opens_no_others_socket() {
    let shared = Shared::start(8);
    let run_dir = shared.dir.path().join("run");
    let sockets: Vec<_> = fs::read_dir(&run_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains(".sock"))
        .collect();
    assert_eq!(sockets.len(), NAMES.len());
    for socket in &sockets {
        for name in NAMES {
            let answer = is_let_in(UnixStream::connect(socket).unwrap(), &token(name));
            assert_eq!(answer, socket.to_str().unwrap().ends_with(name), "{name} at {}", socket.display());
        }
    }
    drop(shared.worker);
    assert!(!run_dir.exists(), "no socket stays behind");
}

#[test]
fn tenants_that_could_not_be_told_apart_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for change in [
        |tenant: &mut Tenant| tenant.name = NAMES[0].parse().unwrap(),
        |tenant: &mut Tenant| {
            tenant.token = token(NAMES[0]);
        },
    ] {
        let mut config = config(&dir, 8);
        change(&mut config.tenants[1]);
        let refused = Worker::start(config).err().unwrap();
        assert!(matches!(refused, WorkerError::TenantTwice { .. }), "{refused:?}");
        assert!(!refused.to_string().contains("secret") && refused.hint().is_some());
    }
    assert!(!dir.path().join("run").exists());
}

#[test]
fn each_tenant_has_its_part_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir, 16);
    config.tenants[1].shared_memory *= 3;
    config.spill = Some(SpillTo { directory: dir.path().join("disk"), size_limit: Some(256 << 20) });
    let address = config.address.clone();
    let worker = Worker::start(config).unwrap();
    let [ours, theirs] = NAMES.map(|name| {
        Client::connect(&address, ConnectOptions { token: Some(token(name)), ..options(Transport::Auto) }).unwrap()
    });
    let limit = |client: &Client| client.status().unwrap().spill.unwrap().capacity_bytes;
    assert!(limit(&ours) <= 64 << 20 && limit(&theirs) > 2 * limit(&ours), "{} {}", limit(&ours), limit(&theirs));
    for number in 0..30 {
        let content = bytes(number, MIB);
        let block = Put { key: key(format!("block {number}")), parent: None, bytes: &content, time_to_live: None };
        ours.put(&[block], Room::Until(Instant::now() + SOON)).unwrap();
    }
    eventually("some are on the disk", || ours.status().unwrap().spill.unwrap().blocks > 0);
    for number in 0..30 {
        if let Some(found) = get(&ours, &format!("block {number}"), Wait::No) {
            assert!(found == bytes(number, MIB));
        }
        assert_eq!(get(&theirs, &format!("block {number}"), Wait::No), None);
    }
    assert_eq!(theirs.status().unwrap().spill.unwrap().blocks, 0);
    drop((ours, theirs));
    worker.stop();
}
