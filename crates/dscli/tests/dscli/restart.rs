//! `dscli restart -w`: another process goes on with the blocks and the clients of a worker.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chariot_client::{Client, ConnectOptions, Put, Room, Wait};
use chariot_types::Key;

use crate::node::{Node, Ran, signal, state, wait_until};

const MIB: usize = 1 << 20;

fn client(node: &Node) -> Client {
    Client::connect(&node.address.parse().unwrap(), ConnectOptions::default()).unwrap()
}

fn key(number: u8) -> Key {
    Key::of_name(&[number])
}

fn put(client: &Client, number: u8) {
    let bytes = vec![number; MIB / 2];
    client.put(&[Put { key: key(number), parent: None, bytes: &bytes, time_to_live: None }], Room::Now).unwrap();
}

fn is_there(client: &Client, number: u8) -> bool {
    let block = client.get(&[key(number)], Wait::No).unwrap().remove(0);
    block.is_some_and(|block| {
        assert!(*block.bytes() == vec![number; MIB / 2] && block.is_intact(), "block {number}");
        true
    })
}

fn restart(node: &Node, more: &[&str]) -> Ran {
    node.dscli(&[&["restart", "-w", "--worker_address", &node.address], more].concat())
}

#[test]
fn blocks_and_clients_go_on_in_another_process() {
    let node = Node::new();
    let first = node.start();
    let before = client(&node);
    (0..10).for_each(|number| put(&before, number));
    let mut last = first;
    for _ in 0..2 {
        let next = restart(&node, &[]).pid_of("Restart", &node.address);
        assert_ne!(next, last);
        assert_eq!((state(last), node.status()["pid"].as_u64()), (None, Some(next.into())));
        for client in [&before, &client(&node)] {
            assert!((0..10).all(|number| is_there(client, number)));
        }
        last = next;
    }
    let log = node.log();
    assert!(log.contains("handing over") && log.contains("going on in another process"), "{log}");
    assert_eq!(node.stop().pid_of("Stop", &node.address), last);
    assert!(!node.path("run").exists() && node.processes().is_empty());
}

#[test]
fn a_get_that_waits_meanwhile_is_answered_and_what_is_held_stays() {
    let node = Node::new();
    node.start();
    let reader = client(&node);
    put(&reader, 1);
    let held = reader.get(&[key(1)], Wait::No).unwrap().remove(0).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.get(&[key(2)], Wait::Until(Instant::now() + Duration::from_secs(60))));
        restart(&node, &[]).succeeded();
        let writer = client(&node);
        put(&writer, 2);
        assert!(waiting.join().unwrap().unwrap()[0].as_ref().is_some_and(|block| *block.bytes() == vec![2; MIB / 2]));
        for flood in 3..100 {
            put(&writer, flood);
        }
    });
    assert!(*held.bytes() == vec![1; MIB / 2] && held.is_intact());
}

#[test]
fn under_load_every_get_is_right_and_what_was_put_is_there() {
    let node = Node::new();
    node.start();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = [0u8, 8].map(|from| {
            let (node, is_over) = (&node, &is_over);
            scope.spawn(move || {
                let client = client(node);
                let mut done = 0u64;
                while !is_over.load(Ordering::Relaxed) {
                    let number = from + (done % 8) as u8;
                    put(&client, number);
                    assert!(is_there(&client, number), "{number} was put, and there is room");
                    done += 1;
                }
                done
            })
        });
        for _ in 0..4 {
            restart(&node, &[]).succeeded();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(load.map(|load| load.join().unwrap()).iter().all(|done| *done > 0));
    });
}

#[test]
fn what_is_said_anew_counts_and_the_rest_is_as_before() {
    let node = Node::new();
    node.start_with(&["--namespace_quota_mb", "a=4", "--log_level", "warn"]).succeeded();
    assert_eq!(node.status()["namespaces"][0]["quota_bytes"], 4 << 20);
    restart(&node, &["--log_level", "debug"]).succeeded();
    assert_eq!(node.status()["namespaces"][0]["quota_bytes"], 4 << 20);
    restart(&node, &["--namespace-quota-mb", "a=5", "--log_dir", node.path("other").to_str().unwrap()]).succeeded();
    assert_eq!(node.status()["namespaces"][0]["quota_bytes"], 5 << 20);
    assert_eq!(node.status()["log_dir"], node.path("other").to_str().unwrap());
    assert!(node.log().contains("serving"), "at the level of the first restart");
}

#[test]
fn a_process_that_cannot_go_on_leaves_the_running_one_serving() {
    let node = Node::new();
    let pid = node.start();
    let client = client(&node);
    put(&client, 1);
    let is_as_before = || {
        assert!(client.is_connected() && is_there(&client, 1));
        assert_eq!(node.status()["pid"], pid);
        wait_until("the other is gone", || node.processes() == [pid]);
    };
    restart(&node, &["--log_level", "chariot=loud"]);
    restart(&node, &["--shared_memory_size_mb", "8"]);
    is_as_before();
    let missing = ["--tls_ca", "/no", "--tls_cert", "/no", "--tls_key", "/no"];
    restart(&node, &missing).failed(1, "/no", "");
    is_as_before();
    // It is refused what it asks of the kernel while the other waits for it.
    let mut limited = Command::new("sh");
    let dscli = node.command(["restart", "-w", "--worker_address", &node.address]);
    limited.args(["-c", "ulimit -n 12; exec \"$0\" \"$@\""]).arg(dscli.get_program()).args(dscli.get_args());
    limited.envs(dscli.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let ran = Ran::from(limited.output().unwrap());
    assert_ne!(ran.code, Some(0), "{ran:?}");
    is_as_before();
    restart(&node, &[]).succeeded();
    assert!(is_there(&client, 1));
}

#[test]
fn nobody_and_a_worker_in_the_foreground_are_not_restarted() {
    let node = Node::new();
    restart(&node, &[]).failed_to("Restart", &node.address, "no data worker of this user runs there", "dscli start");
    node.dscli(&["restart"]).failed(2, "not told what to restart", "add `-w`");
    let mut foreground = node.command(node.start_arguments()).arg("--foreground").spawn().unwrap();
    wait_until("it serves", || Client::connect(&node.address.parse().unwrap(), ConnectOptions::default()).is_ok());
    restart(&node, &[]).failed(1, "runs in the foreground", "stop it and start it again");
    signal(foreground.id(), "TERM");
    foreground.wait().unwrap();
}
