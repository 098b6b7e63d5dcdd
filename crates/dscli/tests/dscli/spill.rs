//! `dscli start --spill_directory`: what memory has no room for outlives the worker, and a directory that will not do is refused.

use std::fs;

use chariot_client::{Client, ConnectOptions, Put, Room, Wait};
use chariot_types::Key;

use crate::node::{Node, signal, state, wait_until};
use crate::start::assert_leaves_nothing;

const MIB: usize = 1 << 20;
const BLOCKS: u8 = 40;

fn client(node: &Node) -> Client {
    Client::connect(&node.address.parse().unwrap(), ConnectOptions::default()).unwrap()
}

fn key(number: u8) -> Key {
    Key::of_name(&[number])
}

fn start(node: &Node) -> u32 {
    let directory = node.path("disk");
    let ran = node.start_with(&["--spill_directory", directory.to_str().unwrap(), "--spill_size_limit", "128 MiB"]);
    ran.pid_of("Start", &node.address)
}

/// Puts more than memory has room for, each block when there is room for it without a loss.
fn flood(node: &Node, client: &Client) {
    for number in 0..BLOCKS {
        let bytes = vec![number; MIB];
        client.put(&[Put { key: key(number), parent: None, bytes: &bytes, time_to_live: None }], Room::Now).unwrap();
        client.flush().unwrap();
        wait_until("there is room again", || {
            let status = node.status();
            status["spill"]["coming"] == 0 && status["free_bytes"].as_u64().unwrap() >= 4 << 20
        });
    }
}

/// How many there are; each as it was put.
fn found(client: &Client) -> u64 {
    let found = (0..BLOCKS).filter(|number| {
        let block = client.get(&[key(*number)], Wait::No).unwrap().remove(0);
        block.is_some_and(|block| {
            assert!(*block.bytes() == vec![*number; MIB], "block {number}");
            true
        })
    });
    found.count() as u64
}

#[test]
fn what_is_on_the_disk_outlives_a_killed_worker() {
    let node = Node::new();
    let first = start(&node);
    let before = client(&node);
    flood(&node, &before);
    assert_eq!(found(&before), u64::from(BLOCKS));
    wait_until("all is written", || node.status()["spill"]["coming"] == 0);
    let on_disk = node.status()["spill"]["blocks"].as_u64().unwrap();
    assert!(on_disk > 20);
    signal(first, "KILL");
    wait_until("the killed worker is gone", || state(first).is_none());
    start(&node);
    assert_eq!(node.status()["spill"]["blocks"], on_disk);
    assert_eq!(found(&client(&node)), on_disk);
    let table = node.dscli(&["status", "--worker_address", &node.address]).succeeded().stdout;
    let line = format!("{on_disk} blocks ");
    assert!(table.contains(".spill (") && table.contains(&line) && table.contains("0 dropped"), "{table}");
    node.stop();
    assert!(node.files("disk").iter().any(|path| path.extension().is_some_and(|end| end == "spill")));
}

#[test]
fn what_is_in_memory_and_on_the_disk_goes_on_in_another_process() {
    let node = Node::new();
    start(&node);
    let before = client(&node);
    flood(&node, &before);
    wait_until("all is written", || node.status()["spill"]["coming"] == 0);
    let on_disk = node.status()["spill"]["blocks"].as_u64().unwrap();
    let ran = node.dscli(&["restart", "-w", "--worker_address", &node.address]);
    ran.pid_of("Restart", &node.address);
    wait_until("the file is this process's", || node.status()["spill"]["blocks"] == on_disk);
    assert_eq!(found(&before), u64::from(BLOCKS));
}

#[test]
fn a_directory_that_will_not_do_is_refused() {
    let node = Node::new();
    fs::write(node.path("a file"), b"").unwrap();
    let inside = node.path("a file").join("disk").display().to_string();
    let reason = format!("cannot make the spill directory `{inside}`: ");
    node.start_with(&["--spill_directory", &inside]).failed_to("Start", &node.address, &reason, "--spill_directory");
    assert_leaves_nothing(&node);

    let directory = node.path("disk").display().to_string();
    let too_much = ["--spill_directory", directory.as_str(), "--spill_size_limit", "4095TiB"];
    node.start_with(&too_much).failed_to("Start", &node.address, "", "iB");
    assert_leaves_nothing(&node);

    let ran = node.start_with(&["--spill_size_limit", "1GiB"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--spill_directory"), "{ran:?}");
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    let node = Node::new();
    let directory = node.path("disk");
    fs::create_dir(&directory).unwrap();
    let name = format!("chariot-{}.spill", node.address.replace(':', "_"));
    fs::write(directory.join(&name), b"somebody's diary").unwrap();
    let ran = node.start_with(&["--spill_directory", directory.to_str().unwrap(), "--spill_size_limit", "128MiB"]);
    let reason = format!("`{}` is there and is no spill file", directory.join(&name).display());
    ran.failed_to("Start", &node.address, &reason, "choose another folder");
    assert_eq!(fs::read(directory.join(&name)).unwrap(), b"somebody's diary");
    assert_leaves_nothing(&node);
}
