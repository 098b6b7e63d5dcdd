//! `dscli stop -w`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::node::{Node, signal, state, wait_until};

#[test]
fn a_stopped_worker_is_gone_when_stop_returns() {
    let node = Node::new();
    let pid = node.start();
    assert_eq!(node.stop().pid_of("Stop", &node.address), pid);
    assert_eq!(state(pid), None);
    assert!(!node.path("run").exists());
    assert!(node.log().contains("ended"));
}

#[test]
fn a_suspended_worker_is_stopped() {
    let node = Node::new();
    let pid = node.start();
    signal(pid, "STOP");
    wait_until("the worker is suspended", || state(pid) == Some('T'));
    assert_eq!(node.stop().pid_of("Stop", &node.address), pid);
    assert_eq!(state(pid), None);
    assert!(node.log().contains("ended"), "it ended by itself");
}

#[test]
fn stopping_nobody_fails() {
    let node = Node::new();
    let reason = "no data worker of this user runs there";
    node.stop().failed_to("Stop", &node.address, reason, "as it was for `dscli start`");
    node.start();
    node.stop().succeeded();
    node.stop().failed_to("Stop", &node.address, reason, "as it was for `dscli start`");
}

#[test]
fn a_worker_of_another_run_directory_is_named() {
    let node = Node::new();
    let pid = node.start();
    let mut command = node.command(["stop", "-w", "--worker_address", &node.address]);
    let ran = crate::node::Ran::from(command.env("CHARIOT_RUN_DIR", node.path("other")).output().unwrap());
    ran.failed_to("Stop", &node.address, "no data worker", &format!("a worker answers there as PID {pid}"));
    assert_eq!(node.status()["pid"], pid);
}

#[test]
fn a_process_that_only_has_a_dead_workers_number_is_not_touched() {
    let node = Node::new();
    let mut innocent = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::create_dir(node.path("run")).unwrap();
    fs::write(node.lock(), innocent.id().to_string()).unwrap();
    node.stop().failed_to("Stop", &node.address, "no data worker", "as it was for");
    // The same while the lock is held, as by a worker that has not yet written its own number.
    let lock = fs::File::open(node.lock()).unwrap();
    lock.lock().unwrap();
    node.stop().failed_to("Stop", &node.address, "the worker's lock is held, but process", "just starting");
    assert!(innocent.try_wait().unwrap().is_none());
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[test]
fn a_worker_that_does_not_end_is_killed() {
    let node = Node::new();
    fs::create_dir(node.path("run")).unwrap();
    let mut deaf = deaf_holder_of(&node);
    let ran = node.dscli(&["stop", "-w", "--worker_address", &node.address, "--timeout", "0"]).succeeded();
    assert!(ran.stderr.contains("[WARN] the worker did not end within 0 s and is killed"), "{ran:?}");
    let pid = deaf.id();
    assert_eq!(ran.stdout, format!("[INFO] [  OK  ] Stop worker service @ {} success, PID: {pid}\n", node.address));
    assert!(!deaf.wait().unwrap().success());
}

/// A process that holds the lock as a worker does, and ignores SIGTERM.
fn deaf_holder_of(node: &Node) -> Child {
    let script = r#"trap "" TERM; exec 9>"$0"; flock 9; echo $$ >&9; echo held; read -r line"#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(node.lock()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut deaf = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(deaf.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    deaf
}
