//! Workers that are started with `--etcd_address`, with a real etcd.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use chariot_client::{Client, ConnectOptions, Put, Room, Wait};
use chariot_types::Key;
use serde_json::Value;

use crate::node::{Node, Ran, signal, state, wait_until};
use crate::start::assert_leaves_nothing;

#[allow(dead_code)]
#[path = "../../../cluster/tests/cluster/server.rs"]
mod server;

#[path = "../../../cluster/tests/cluster/certificates.rs"]
mod certificates;

use certificates::Certificates;
use server::{Etcd, Version};

fn newest() -> Version {
    Version::all().pop().unwrap()
}

pub(crate) fn newest_etcd() -> Etcd {
    Etcd::start(newest())
}

/// Starts a worker of the cluster; returns its process id.
fn start(node: &Node, etcd: &Etcd, more: &[&str]) -> u32 {
    let addresses = etcd.addresses().join(",");
    let arguments = [&["--etcd_address", &addresses], more].concat();
    node.start_with(&arguments).pid_of("Start", &node.address)
}

fn members(node: &Node) -> Vec<String> {
    let status = node.status();
    let members = status["cluster"]["members"].as_array().unwrap().iter();
    let mut addresses: Vec<_> = members.map(|member| member["address"].as_str().unwrap().to_owned()).collect();
    addresses.sort();
    addresses
}

fn wait_for_members(node: &Node, expected: &[&Node]) {
    let mut expected: Vec<_> = expected.iter().map(|node| node.address.clone()).collect();
    expected.sort();
    wait_until("the members are these", || members(node) == expected);
}

fn client(node: &Node) -> Client {
    Client::connect(&node.address.parse().unwrap(), ConnectOptions::default()).unwrap()
}

/// What the doctor says, by the name of the check.
fn verdicts(node: &Node, more: &[&str]) -> impl Fn(&str) -> Option<String> + use<> {
    let ran = node.dscli(&[&["doctor", "--json", "--worker_address", &node.address], more].concat());
    let findings: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = findings["checks"].as_array().unwrap().clone();
    move |name| {
        let check = checks.iter().find(|check| check["check"] == name)?;
        Some(check["verdict"].as_str().unwrap().to_owned())
    }
}

#[test]
fn what_is_put_at_one_worker_is_got_at_another_that_knows_only_etcd() {
    let etcd = Etcd::with_members(newest(), 3);
    let (first, second) = (Node::new(), Node::new());
    start(&first, &etcd, &[]);
    start(&second, &etcd, &[]);
    for node in [&first, &second] {
        wait_for_members(node, &[&first, &second]);
    }
    let key = Key::of_name(b"a block");
    let bytes = vec![7; 100_000];
    let put = Put { key, parent: None, bytes: &bytes, time_to_live: None };
    client(&first).put(&[put], Room::Now).unwrap();
    let client = client(&second);
    let found = client.get(&[key], Wait::Until(Instant::now() + Duration::from_secs(20))).unwrap();
    assert!(found[0].as_ref().unwrap().bytes() == bytes);

    let table = first.dscli(&["status", "--worker_address", &first.address]).succeeded().stdout;
    assert!(table.contains("default, 2 members") && table.contains(&second.address), "{table}");
    assert!(table.contains("requests so far"), "{table}");
    assert_eq!(first.status()["cluster"]["etcd"]["is_registered"], true);
}

#[test]
fn a_worker_that_is_stopped_leaves_at_once_and_one_that_is_killed_comes_back() {
    let etcd = Etcd::start(newest());
    let (first, second) = (Node::new(), Node::new());
    // Longer than the test takes: nobody goes because a lease runs out.
    let lease = ["--lease-seconds=600", "--cluster-name", "blue"];
    start(&first, &etcd, &lease);
    let killed = start(&second, &etcd, &lease);
    wait_for_members(&first, &[&first, &second]);
    let run = |node: &Node| {
        let status = first.status();
        let members = status["cluster"]["members"].as_array().unwrap().clone();
        members.iter().find(|member| member["address"] == node.address).unwrap()["run"].clone()
    };
    let before = run(&second);
    signal(killed, "KILL");
    wait_until("the killed worker is gone", || state(killed).is_none());
    start(&second, &etcd, &lease);
    wait_until("the other run is seen", || run(&second) != before);
    second.stop().succeeded();
    wait_for_members(&first, &[&first]);
    first.stop().succeeded();
    assert_eq!(etcd.ctl(&["get", "--prefix", "--keys-only", "/"]).trim(), "");
}

#[test]
fn a_worker_that_is_restarted_is_another_member_whose_blocks_are_found_from_the_others() {
    let etcd = Etcd::start(newest());
    let (first, second) = (Node::new(), Node::new());
    start(&first, &etcd, &[]);
    start(&second, &etcd, &[]);
    wait_for_members(&first, &[&first, &second]);
    let run = || {
        let status = first.status();
        let members = status["cluster"]["members"].as_array().unwrap().clone();
        members.iter().find(|member| member["address"] == second.address).map(|member| member["run"].clone())
    };
    let (before, key, bytes) = (run(), Key::of_name(b"a block"), vec![7; 100_000]);
    let holder = client(&second);
    holder.put(&[Put { key, parent: None, bytes: &bytes, time_to_live: None }], Room::Now).unwrap();
    let ran = second.dscli(&["restart", "-w", "--worker_address", &second.address]);
    ran.pid_of("Restart", &second.address);
    wait_until("the other run is seen", || run().is_some() && run() != before);
    let found = client(&first).get(&[key], Wait::Until(Instant::now() + Duration::from_secs(20))).unwrap();
    assert!(found[0].as_ref().unwrap().bytes() == bytes);
    assert_eq!(second.status()["cluster"]["etcd"]["is_registered"], true);
}

#[test]
fn an_etcd_that_cannot_be_reached_is_named_within_seconds() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = nobody.local_addr().unwrap().to_string();
    for etcd in ["127.0.0.1:1", &format!("{silent},127.0.0.1:1")] {
        let node = Node::new();
        let reason = format!("cannot join the cluster: cannot reach etcd at `{etcd}`: ");
        let ran = node.start_with(&["--etcd_address", etcd]);
        ran.failed_to("Start", &node.address, &reason, "check that etcd runs");
        assert_leaves_nothing(&node);
    }
}

#[test]
fn the_password_is_read_from_a_file_or_the_environment_and_told_nobody() {
    const PASSWORD: &str = "correct horse";
    let mut etcd = Etcd::start(newest());
    etcd.require_users(PASSWORD);
    let node = Node::new();
    let arguments = ["--etcd_address", &etcd.address(0), "--etcd_user", "root"];

    let file = node.path("cwd").join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let ran = node.start_with(&[&arguments[..], &["--etcd_password_file", "password"]].concat());
    let by_file = ran.pid_of("Start", &node.address);
    node.stop().succeeded();

    let mut command = node.command(node.start_arguments());
    let ran = Ran::from(command.args(arguments).env("CHARIOT_ETCD_PASSWORD", PASSWORD).output().unwrap());
    let by_environment = ran.pid_of("Start", &node.address);
    assert_ne!(by_file, by_environment);
    let line = fs::read(format!("/proc/{by_environment}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("horse"));
    node.stop().succeeded();
    assert!(!node.log().contains("horse"));

    fs::write(&file, "wrong").unwrap();
    let ran = node.start_with(&[&arguments[..], &["--etcd_password_file", file.to_str().unwrap()]].concat());
    ran.failed(1, "authentication failed", "check the user's name and password");
    node.start_with(&arguments).failed(2, "no password for etcd's user `root`", "--etcd_password_file");
    node.start_with(&arguments[..2]).failed(1, "user name is empty", "--etcd_user");
}

#[test]
fn an_etcd_with_certificates_is_joined_by_who_has_one_and_others_are_told_what_to_name() {
    let files = Certificates::new();
    let etcd = files.serve(newest());
    let file = |name: &str| files.path(name).to_str().unwrap().to_owned();
    let authority = ["--etcd_ca".to_owned(), file("ca.pem")];
    let identity = ["--etcd_cert".to_owned(), file("client.pem"), "--etcd_key".to_owned(), file("client.key")];
    let whole: Vec<&str> = authority.iter().chain(&identity).map(String::as_str).collect();
    let (first, second) = (Node::new(), Node::new());
    start(&first, &etcd, &whole);
    start(&second, &etcd, &whole);
    wait_for_members(&first, &[&first, &second]);

    let address = etcd.address(0);
    let verdict = verdicts(&first, &[&["--etcd_address", &address], &whole[..]].concat());
    for check in ["cluster", "etcd", "etcd leases"] {
        assert_eq!(verdict(check).as_deref(), Some("OK"), "{check}");
    }
    second.stop().succeeded();
    wait_for_members(&first, &[&first]);

    let plain = second.start_with(&["--etcd_address", &address]);
    plain.failed(1, "cannot join the cluster", "`--etcd_ca`");
    let unnamed = second.start_with(&[&["--etcd_address", &address], &whole[..2]].concat());
    unnamed.failed(1, "cannot join the cluster", "`--etcd_cert`");
    assert_leaves_nothing(&second);
}

#[test]
fn doctor_looks_at_etcd_and_at_what_the_worker_says_of_it() {
    let mut etcd = Etcd::start(newest());
    let node = Node::new();
    start(&node, &etcd, &[]);
    let address = etcd.address(0);
    let sound = verdicts(&node, &["--etcd_address", &address]);
    for check in ["cluster", "etcd", "etcd leases"] {
        assert_eq!(sound(check).as_deref(), Some("OK"), "{check}");
    }
    etcd.kill(0);
    wait_until("the worker misses etcd", || node.status()["cluster"]["etcd"]["is_connected"] == false);
    let broken = verdicts(&node, &["--etcd_address", &address]);
    assert_eq!(broken("cluster").as_deref(), Some("FAIL"));
    assert_eq!(broken("etcd").as_deref(), Some("FAIL"));
    assert_eq!(broken("etcd leases"), None);
    assert_eq!(verdicts(&node, &[])("etcd"), None);
    let table = node.dscli(&["status", "--worker_address", &node.address]).succeeded().stdout;
    assert!(table.contains("the last members stand"), "{table}");
}
