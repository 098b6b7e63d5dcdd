//! `dscli evict`, `dscli pin` and `dscli unpin`, and the quotas that `dscli start` sets.

use chariot_client::{Client, ConnectOptions, Put, Room};
use chariot_types::Key;

use crate::node::{Node, Ran};

const MIB: usize = 1 << 20;

/// A client of the node's worker whose blocks are that namespace's.
fn client(node: &Node, namespace: &str) -> Client {
    let options = ConnectOptions { namespace: namespace.parse().unwrap(), ..Default::default() };
    Client::connect(&node.address.parse().unwrap(), options).unwrap()
}

fn put(client: &Client, names: std::ops::Range<u32>) {
    for name in names {
        let key = Key::of_name(name.to_string().as_bytes());
        client.put(&[Put { key, parent: None, bytes: &vec![7; MIB], time_to_live: None }], Room::Now).unwrap();
    }
    client.flush().unwrap();
}

fn has(client: &Client, name: u32) -> bool {
    client.exists(&[Key::of_name(name.to_string().as_bytes())]).unwrap()[0]
}

fn run(node: &Node, arguments: &[&str]) -> Ran {
    node.dscli(&[arguments, &["--worker_address", &node.address]].concat())
}

#[test]
fn what_is_named_is_evicted_and_the_rest_stays() {
    let node = Node::new();
    node.start();
    let (client, other) = (client(&node, "default"), client(&node, "some/model"));
    put(&client, 0..4);
    put(&other, 4..6);
    let key = Key::of_name(b"0").to_string();
    let ran = run(&node, &["evict", &key, "--name", "1", "--name", "nothing"]).succeeded();
    assert!(ran.stdout.starts_with("evicted 2 blocks; "), "{ran:?}");
    assert!(!has(&client, 0) && !has(&client, 1) && has(&client, 2));
    let ran = run(&node, &["evict", "--namespace", "some/model"]).succeeded();
    assert!(ran.stdout.starts_with("evicted 2 blocks; "), "{ran:?}");
    run(&node, &["evict", "--namespace", "another"]).failed(1, "no namespace `another`", "`default`");
    drop((client, other));
    let ran = run(&node, &["evict", "--all"]).succeeded();
    assert_eq!(ran.stdout, "evicted 2 blocks; 16.0 MiB of 16.0 MiB free\n");
}

#[test]
fn room_is_made_as_far_as_it_can_be() {
    let node = Node::new();
    node.start();
    let client = client(&node, "default");
    put(&client, 0..12);
    drop(client);
    let ran = run(&node, &["evict", "--until-free-mb", "8"]).succeeded();
    assert!(ran.stdout.contains("of 16.0 MiB free"), "{ran:?}");
    assert!(node.status()["free_bytes"].as_u64().unwrap() >= 8 << 20);
    let ran = run(&node, &["evict", "--until-free-mb", "8"]).succeeded();
    assert!(ran.stdout.starts_with("evicted 0 blocks; "), "{ran:?}");
    let ran = run(&node, &["evict", "--until-free-mb", "17"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("17.0 MiB are not free") && ran.stderr.contains("hint: "), "{ran:?}");
}

#[test]
fn pinned_blocks_outlive_a_flood_until_they_are_unpinned() {
    let node = Node::new();
    node.start();
    let client = client(&node, "default");
    put(&client, 0..2);
    let ran = run(&node, &["pin", "--name", "0", &Key::of_name(b"1").to_string()]).succeeded();
    assert_eq!(ran.stdout, "pinned 2 blocks, each with all that leads up to it\n");
    put(&client, 10..50);
    assert!(has(&client, 0) && has(&client, 1));
    assert_eq!(node.status()["soft_pinned_bytes"], 2 * MIB);
    run(&node, &["unpin", "--name", "0"]).succeeded();
    let ran = run(&node, &["unpin", "--name", "0"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("1 of those named is not there"), "{ran:?}");
    put(&client, 50..90);
    assert!(!has(&client, 0) && has(&client, 1));
}

#[test]
fn a_pin_that_cannot_be_says_what_to_do() {
    let node = Node::new();
    node.start();
    let client = client(&node, "default");
    put(&client, 0..6);
    let ran = run(&node, &["pin", "--name", "nothing"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("hint: a block can be pinned once it is there"), "{ran:?}");
    let names: Vec<String> = (0..5).map(|name| name.to_string()).collect();
    let named: Vec<&str> = names.iter().flat_map(|name| ["--name", name]).collect();
    let ran = run(&node, &[&["pin"], &named[..]].concat());
    ran.failed(1, "a quarter of the pool", "end others with `dscli unpin`");
}

#[test]
fn who_says_nothing_is_asked_what_is_meant() {
    let node = Node::new();
    run(&node, &["evict"]).failed(2, "not told what to evict", "--until_free_mb N");
    run(&node, &["pin"]).failed(2, "not told what to pin", "last block");
    run(&node, &["unpin"]).failed(2, "not told what to unpin", "`dscli pin`");
    for arguments in
        [&["evict", "--all", "--name", "x"][..], &["evict", "--all", "--until_free_mb", "1"], &["pin", "x"]]
    {
        assert_eq!(run(&node, arguments).code, Some(2), "{arguments:?}");
    }
    run(&node, &["evict", "--all"]).failed(1, "cannot be reached", "dscli start -w");
}

#[test]
fn a_quota_keeps_one_model_from_pushing_out_another() {
    let node = Node::new();
    node.start_with(&["--namespace_quota_mb", "guarded/model=6", "--namespace-quota-mb=other=2"]).succeeded();
    let (guarded, other) = (client(&node, "guarded/model"), client(&node, "other"));
    put(&guarded, 0..6);
    put(&other, 6..60);
    assert!((0..6).all(|name| has(&guarded, name)));
    let table = run(&node, &["status"]).succeeded().stdout;
    let line = table.lines().find(|line| line.contains("guarded/model")).unwrap();
    assert!(line.contains("6.0 MiB in 6 blocks, quota 6.0 MiB, 100.0% of it"), "{table}");
}

#[test]
fn quotas_that_cannot_be_kept_are_refused() {
    let node = Node::new();
    let ran = node.start_with(&["--namespace_quota_mb", "a=10", "--namespace_quota_mb", "b=10"]);
    let reason = "the quotas of all namespaces are `20` MiB together, and the shared memory is `16`";
    ran.failed_to("Start", &node.address, reason, "lower a `--namespace_quota_mb`");
    for wrong in ["a", "a=", "=5", "a=many", "a=-1"] {
        assert_eq!(node.start_with(&["--namespace_quota_mb", wrong]).code, Some(2), "{wrong}");
    }
}
