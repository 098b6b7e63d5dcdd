//! `dscli start -w`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::node::{Node, signal, state, wait_until};

#[test]
fn a_worker_serves_when_start_returns() {
    let node = Node::new();
    let pid = node.start();
    let status = node.status();
    assert_eq!(status["pid"], pid);
    assert_eq!(status["worker_address"], node.address);
    assert_eq!(status["capacity_bytes"], 16 << 20);
    assert_eq!(status["log_dir"], node.log_dir().to_str().unwrap());
    assert!(node.log().contains("serving"));
}

#[test]
fn options_may_have_dashes_and_equals_signs() {
    let node = Node::new();
    let log_dir = format!("--log-dir={}", node.log_dir().display());
    let address = format!("--worker-address={}", node.address);
    let ran = node.dscli(&["start", "-w", &address, &log_dir, "--shared-memory-size-mb=16"]);
    let pid = ran.pid_of("Start", &node.address);
    assert_eq!(node.dscli(&["stop", "--worker", &address]).pid_of("Stop", &node.address), pid);
}

#[test]
fn a_daemon_leaves_its_starters_session_and_directory() {
    let node = Node::new();
    let pid = node.start();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[3], pid.to_string(), "session");
    assert_eq!(fields[4], "0", "terminal");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(), Some("/dev/null"));
}

#[test]
fn a_daemon_keeps_nothing_open_of_its_starter() {
    let node = Node::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // As in a shell's `9>pipe`: a descriptor that programs started from there inherit.
    let inherited = OwnedFd::from(writer);
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    node.start();
    drop(inherited);
    // Hangs when the daemon has the pipe open.
    reader.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn nothing_is_written_but_to_the_stated_places() {
    let node = Node::new();
    node.start();
    node.status();
    node.stop().succeeded();
    assert_eq!(node.files("cwd"), Vec::<std::path::PathBuf>::new());
    assert_eq!(node.files("home"), Vec::<std::path::PathBuf>::new());
    assert!(!node.path("run").exists(), "{:?}", node.files("run"));
    assert_eq!(node.files("log").len(), 1);
}

#[test]
fn the_log_goes_to_the_home_directory_where_nothing_is_said() {
    let node = Node::new();
    let ran = node.dscli(&["start", "-w", "--worker_address", &node.address, "--shared_memory_size_mb", "16"]);
    ran.succeeded();
    let files = node.files("home/.local/state/chariot/log");
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(node.files("cwd"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_relative_log_directory_is_the_starters() {
    let node = Node::new();
    let ran = node.dscli(&[
        "start",
        "-w",
        "--worker_address",
        &node.address,
        "--shared_memory_size_mb",
        "16",
        "--log_dir",
        "logs",
    ]);
    ran.succeeded();
    assert_eq!(node.files("cwd").len(), 2);
}

#[test]
fn a_second_start_leaves_the_live_worker_as_it_was() {
    let node = Node::new();
    let pid = node.start();
    let log = node.log();
    node.start_with(&[]).failed_to(
        "Start",
        &node.address,
        &format!("a data worker already serves `{}`, PID {pid}", node.address),
        &format!("dscli stop -w --worker_address {}", node.address),
    );
    assert_eq!(node.processes(), [pid]);
    assert_eq!(node.status()["pid"], pid);
    assert!(node.log().starts_with(&log));
    assert_eq!(node.stop().pid_of("Stop", &node.address), pid);
}

#[test]
fn a_port_of_another_program_is_refused() {
    let node = Node::new();
    let _other = TcpListener::bind(&node.address).unwrap();
    let reason = format!("port `31501` of `{}` is taken by another program", node.address);
    node.start_with(&[]).failed_to("Start", &node.address, &reason, "choose another port");
    assert_leaves_nothing(&node);
}

#[test]
fn more_memory_than_there_is_is_refused() {
    let node = Node::new();
    let arguments = ["start", "-w", "--worker_address", &node.address, "--shared_memory_size_mb", "1000000000"];
    let ran = node.dscli(&[&arguments[..], &["--log_dir", node.log_dir().to_str().unwrap()]].concat());
    ran.failed_to("Start", &node.address, "cannot set up the shared memory: ", "at most `--shared_memory_size_mb ");
    assert_leaves_nothing(&node);
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let mut node = Node::new();
    node.address = "192.0.2.1:31501".into();
    node.start_with(&[]).failed_to("Start", &node.address, "cannot listen on `192.0.2.1:31501`", "ip -brief address");
    assert_leaves_nothing(&node);
}

#[test]
fn an_unknown_host_is_refused() {
    let mut node = Node::new();
    node.address = "no-such-host.invalid:31501".into();
    node.start_with(&[]).failed_to("Start", &node.address, "cannot listen on", "check that the host's name is spelt");
    assert_leaves_nothing(&node);
}

#[test]
fn a_log_directory_that_cannot_be_made_is_refused() {
    let node = Node::new();
    File::create(node.log_dir()).unwrap();
    node.start_with(&[]).failed_to("Start", &node.address, "cannot write the log", "--log_dir");
    assert_leaves_nothing(&node);
}

#[test]
fn a_worker_that_was_killed_does_not_hinder_the_next() {
    let node = Node::new();
    let first = node.start();
    signal(first, "KILL");
    wait_until("the killed worker is gone", || state(first).is_none());
    let second = node.start();
    assert_ne!(first, second);
    assert_eq!(node.stop().pid_of("Stop", &node.address), second);
}

#[test]
fn a_worker_in_the_foreground_serves_until_it_is_told_to_end() {
    let node = Node::new();
    for end in ["TERM", "INT"] {
        let arguments =
            ["start", "-w", "--foreground", "--worker_address", &node.address, "--shared-memory-size-mb=16"];
        let mut command = node.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = &node.address;
        assert_eq!(line, format!("[INFO] [  OK  ] Start worker service @ {address} success, PID: {}\n", child.id()));
        assert_eq!(node.status()["pid"], child.id());
        signal(child.id(), end);
        assert!(child.wait().unwrap().success());
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(log.contains("serving") && log.contains(&format!("SIG{end}")), "{log}");
    }
    assert!(!node.path("run").exists());
}

#[test]
fn a_log_is_begun_anew_before_it_grows_too_large_but_not_by_a_failed_start() {
    const FULL: u64 = 16 << 20;
    let node = Node::new();
    fs::create_dir(node.log_dir()).unwrap();
    let log = node.log_dir().join(format!("worker_{}.log", node.address.replace(':', "_")));
    // A hole, which takes no room.
    File::create(&log).unwrap().set_len(FULL).unwrap();
    let pid = node.start();
    assert_eq!(node.start_with(&[]).code, Some(1));
    assert_eq!(node.files("log"), std::slice::from_ref(&log));
    node.stop().succeeded();
    assert!(node.log().contains("ended"));
    assert!(fs::metadata(&log).unwrap().len() < 4096, "PID {pid}");
    assert!(fs::metadata(log.with_extension("log.1")).unwrap().len() >= FULL);
}

pub(crate) fn assert_leaves_nothing(node: &Node) {
    assert_eq!(node.processes(), Vec::<u32>::new());
    assert_eq!(node.files("run"), Vec::<std::path::PathBuf>::new());
    assert_eq!(node.files("cwd"), Vec::<std::path::PathBuf>::new());
}
