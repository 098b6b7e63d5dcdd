//! Workers with tenants, as their operator and their users see them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chariot_client::{Client, ConnectOptions, Put, Room, Wait};
use chariot_types::Key;

use crate::cluster::newest_etcd;
use crate::node::{Node, Ran, wait_until};
use crate::start::assert_leaves_nothing;

const TOKENS: [&str; 2] = ["0123456789-secret-a", "0123456789-secret-b"];

/// A file with two tenants, which this user alone can read.
fn file(node: &Node, text: &str) -> PathBuf {
    let path = node.path("cwd").join("tenants");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn start(node: &Node, more: &[&str]) -> Ran {
    let log_dir = node.log_dir().display().to_string();
    let arguments = ["start", "-w", "--worker_address", &node.address, "--log_dir", &log_dir];
    node.dscli(&[&arguments, more].concat())
}

fn client(node: &Node, token: &str) -> Client {
    let options = ConnectOptions { token: Some(token.parse().unwrap()), ..Default::default() };
    Client::connect(&node.address.parse().unwrap(), options).unwrap()
}

fn two() -> String {
    let [a, b] = TOKENS;
    format!("# who  megabytes  token\nteam-a 16 {a}\nteam-b 16 {b}\n")
}

#[test]
fn a_tenants_blocks_are_found_on_all_nodes_by_its_own_clients_alone() {
    let etcd = newest_etcd();
    let (first, second) = (Node::new(), Node::new());
    for node in [&first, &second] {
        file(node, &two());
        start(node, &["--tenants", "tenants", "--etcd_address", &etcd.addresses().join(",")])
            .pid_of("Start", &node.address);
    }
    let [ours, theirs] = TOKENS.map(|token| client(&second, token));
    for client in [&ours, &theirs] {
        wait_until("both workers are there", || client.status().unwrap().cluster.unwrap().members.len() == 2);
    }
    let key = Key::of_name(b"a block");
    let bytes = vec![7; 100_000];
    client(&first, TOKENS[0]).put(&[Put { key, parent: None, bytes: &bytes, time_to_live: None }], Room::Now).unwrap();
    let found = ours.get(&[key], Wait::Until(Instant::now() + Duration::from_secs(20))).unwrap();
    assert!(found[0].as_ref().unwrap().bytes() == bytes);
    for node in [&first, &second] {
        let stranger = client(node, TOKENS[1]);
        assert!(stranger.get(&[key], Wait::Until(Instant::now() + Duration::from_millis(200))).unwrap()[0].is_none());
        assert_eq!(stranger.exists(&[key]).unwrap(), [false]);
    }
}

#[test]
fn whose_a_command_is_its_environment_says_and_no_token_is_told() {
    let node = Node::new();
    let tenants = file(&node, &two());
    let pid = start(&node, &["--tenants", "tenants"]).pid_of("Start", &node.address);
    let status = ["status", "--worker_address", &node.address];
    node.dscli(&status).failed(1, "does not let this client in", "CHARIOT_TOKEN");
    let ran = Ran::from(node.command(status).env("CHARIOT_TOKEN", TOKENS[1]).output().unwrap()).succeeded();
    assert!(ran.stdout.contains("team-b") && !ran.stdout.contains("team-a"), "{}", ran.stdout);
    let named = node.path("cwd").join("token");
    fs::write(&named, format!("{}\n", TOKENS[0])).unwrap();
    let ran = Ran::from(node.command(status).env("CHARIOT_TOKEN_FILE", &named).output().unwrap()).succeeded();
    assert!(ran.stdout.contains("team-a"), "{}", ran.stdout);
    let wrong = Ran::from(node.command(status).env("CHARIOT_TOKEN", "short").output().unwrap());
    wrong.failed(1, "`CHARIOT_TOKEN` holds is no token", "has given your tenant one");
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("secret"));
    node.stop().succeeded();
    assert!(!node.log().contains("secret"));
    fs::remove_file(named).unwrap();
    fs::remove_file(tenants).unwrap();
    assert_leaves_nothing(&node);
}

#[test]
fn a_file_that_cannot_be_used_is_told_and_leaves_nothing() {
    let node = Node::new();
    let path = file(&node, &two());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    start(&node, &["--tenants", "tenants"]).failed(1, "others can read it", "chmod 600 tenants");
    file(&node, "team-a 16 short\n");
    start(&node, &["--tenants", "tenants"]).failed(1, "line 1: not a token", "NAME MEGABYTES TOKEN");
    file(&node, "team-a 16 0123456789abcdef\nteam-b 16 0123456789abcdef\n");
    start(&node, &["--tenants", "tenants"]).failed(1, "`team-b` has the name or the token of another", "of its own");
    start(&node, &["--tenants", "nowhere"]).failed(1, "cannot take tenants from `nowhere`", "NAME MEGABYTES TOKEN");
    let both = start(&node, &["--tenants", "tenants", "--shared_memory_size_mb", "16"]);
    assert!(both.code == Some(2) && both.stderr.contains("cannot be used with"), "{both:?}");
    fs::remove_file(path).unwrap();
    assert_leaves_nothing(&node);
}
