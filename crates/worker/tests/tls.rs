//! Workers that speak TLS with each other, and with nobody who does not.

#![allow(clippy::unwrap_used)] // a test

#[path = "../../fabric/tests/support/papers.rs"]
#[allow(dead_code, unreachable_pub)]
mod papers;
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::{Client, Transport, Wait};
use chariot_types::{Member, WorkerAddress};
use chariot_wire::{FrameWriter, HEADER_LEN, Hello, PROTOCOL_VERSION, Request};
use chariot_worker::{Credentials, Plain, Security, Worker, WorkerConfig, WorkerError};
use papers::Authority;
use rustix::net::{AddressFamily, SocketType};
use support::{SOON, bytes, eventually, free_address, key, options, put};
use tokio::sync::watch;

fn config(dir: &tempfile::TempDir, address: WorkerAddress, tls: Option<Credentials>, plain: Plain) -> WorkerConfig {
    let run_dir = dir.path().join(address.port().to_string());
    let config = WorkerConfig::new(address, 16 << 20, run_dir, dir.path().to_owned());
    WorkerConfig { security: Security { tls, plain }, ..config }
}

fn client(worker: &Worker) -> Client {
    Client::connect(&worker.member().address, options(Transport::Auto)).unwrap()
}

fn get(client: &Client, name: &str, wait: Duration) -> Option<Vec<u8>> {
    let found = client.get(&[key(name)], Wait::Until(Instant::now() + wait)).unwrap().remove(0);
    found.map(|block| block.bytes().to_vec())
}

/// A worker for each, which are told of each other.
fn cluster(dir: &tempfile::TempDir, tls: Vec<Option<Credentials>>) -> Vec<Worker> {
    let members = watch::Sender::new(Arc::from([]));
    let start = |tls| {
        let config = config(dir, free_address(), tls, Plain::Allowed);
        Worker::start_among(config, "test", members.subscribe()).unwrap()
    };
    let workers: Vec<_> = tls.into_iter().map(start).collect();
    let all: Arc<[Member]> = workers.iter().map(Worker::member).collect();
    members.send_replace(all);
    workers
}

fn reached(client: &Client) -> usize {
    client.status().unwrap().cluster.unwrap().members.iter().filter(|member| member.is_reached).count()
}

#[test]
fn what_is_put_at_one_worker_is_found_at_another_within_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let one = authority.credentials(&["127.0.0.1"]);
    let workers = cluster(&dir, vec![Some(one.clone()), Some(one)]);
    let [first, second] = [0, 1].map(|number| client(&workers[number]));
    let content = bytes(7, 3 << 20);
    put(&first, "whole", &content);
    assert!(get(&second, "whole", SOON) == Some(content));
    assert_eq!(reached(&second), 2);
}

#[test]
fn a_worker_without_a_certificate_of_the_authority_finds_and_is_found_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let credentials = [ours.credentials(&["127.0.0.1"]), theirs.credentials(&["127.0.0.1"])];
    let [one, other] = credentials;
    let workers = cluster(&dir, vec![Some(one.clone()), Some(one), Some(other), None]);
    let clients: Vec<_> = workers.iter().map(client).collect();
    eventually("those of the authority reach each other", || reached(&clients[0]) == 2 && reached(&clients[1]) == 2);
    for (number, name) in ["ours", "ours too", "of another authority", "plain"].iter().enumerate() {
        put(&clients[number], name, &bytes(number as u64, 1000));
    }
    for stranger in [2, 3] {
        assert_eq!(get(&clients[stranger], "ours", Duration::from_millis(300)), None);
        assert_eq!(reached(&clients[stranger]), 1);
    }
    for name in ["of another authority", "plain"] {
        assert_eq!(get(&clients[0], name, Duration::from_millis(300)), None);
    }
    assert_eq!(reached(&clients[0]), 2);
}

#[test]
fn where_tls_is_required_a_worker_that_others_could_reach_does_not_start_without() {
    let dir = tempfile::tempdir().unwrap();
    let everywhere: WorkerAddress = format!("0.0.0.0:{}", free_address().port()).parse().unwrap();
    let refused = Worker::start(config(&dir, everywhere.clone(), None, Plain::Refused)).err().unwrap();
    assert!(matches!(refused, WorkerError::NoTls { .. }), "{refused:?}");
    assert!(refused.hint().unwrap().contains("--tls_cert"));
    // On loopback nobody else could, and with a certificate nobody else may.
    Worker::start(config(&dir, free_address(), None, Plain::Refused)).unwrap().stop();
    let authority = Authority::new();
    let credentials = authority.credentials(&["127.0.0.1"]);
    Worker::start(config(&dir, everywhere, Some(credentials), Plain::Refused)).unwrap().stop();
}

#[test]
fn where_tls_is_required_clients_on_other_hosts_are_turned_away_and_those_on_this_one_are_not() {
    let Some(outside) = own_address() else { return };
    let dir = tempfile::tempdir().unwrap();
    let port = free_address().port();
    let authority = Authority::new();
    let credentials = authority.credentials(&["127.0.0.1"]);
    let everywhere = format!("0.0.0.0:{port}").parse().unwrap();
    let _worker = Worker::start(config(&dir, everywhere, Some(credentials), Plain::Refused)).unwrap();
    let connect = |host: &str| {
        let address = format!("{host}:{port}").parse().unwrap();
        Client::connect(&address, options(Transport::Tcp)).map(|client| put(&client, "block", b"bytes"))
    };
    assert!(connect("127.0.0.1").is_ok());
    assert!(connect(&outside.to_string()).is_ok());
    assert!(is_welcome(outside, (outside, port).into()));
    // As another host would be seen: it is reached at one address, and comes from another.
    assert!(!is_welcome(outside, (Ipv4Addr::LOCALHOST, port).into()));
}

/// Whether a client that comes from an address is answered.
fn is_welcome(from: IpAddr, to: SocketAddr) -> bool {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    let mut stream = TcpStream::from(socket);
    let mut hello = Vec::new();
    FrameWriter::new(&mut hello).request(
        1,
        &Request::Hello(Hello { version: PROTOCOL_VERSION, pid: 1, name: b"", token: b"" }),
        0,
    );
    stream.write_all(&hello).is_ok() && stream.read_exact(&mut [0; HEADER_LEN]).is_ok()
}

#[test]
fn files_that_cannot_be_used_are_told_before_anything_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let good = authority.credentials(&["127.0.0.1"]);
    let missing = dir.path().join("missing.pem");
    let bad = Credentials { cert: missing.clone(), ..good };
    let refused = Worker::start(config(&dir, free_address(), Some(bad), Plain::Allowed)).err().unwrap();
    assert!(refused.to_string().contains(missing.to_str().unwrap()), "{refused}");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

/// An address of this host at which others could reach it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the kernel says from where it would be.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}
