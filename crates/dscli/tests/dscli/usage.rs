//! Command lines that make no sense, and help.

use crate::node::Node;

#[test]
fn nonsense_is_told_apart_from_failure() {
    let node = Node::new();
    let nonsense: [&[&str]; 13] = [
        &[],
        &["fly"],
        &["start", "-w", "--no-such-option"],
        &["start", "-w", "--worker_address", "localhost"],
        &["start", "-w", "--worker_address", "localhost:99999"],
        &["start", "-w", "--shared_memory_size_mb", "0"],
        &["start", "-w", "--log_level", "chariot=loud"],
        &["start", "-w", "--etcd_address", "localhost"],
        &["start", "-w", "--etcd_address", "localhost:2379,"],
        &["start", "-w", "--etcd_address", "localhost:2379", "--cluster_name", "a/b"],
        &["start", "-w", "--etcd_address", "localhost:2379", "--lease_seconds", "1"],
        &["start", "-w", "--etcd_address", "localhost:2379", "--etcd_ca", "ca", "--etcd_cert", "cert"],
        &["start", "-w", "--etcd_ca", "ca"],
    ];
    for arguments in nonsense {
        let ran = node.dscli(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_wrong_address_is_told_what_is_wrong_with_it() {
    let node = Node::new();
    let ran = node.dscli(&["start", "-w", "--worker_address", "localhost"]);
    assert!(ran.stderr.contains("`localhost` has no port: expected `host:port`"), "{ran:?}");
}

#[test]
fn start_and_stop_say_what_to_add() {
    let node = Node::new();
    let (address, option) = (&node.address, "--worker_address");
    let ran = node.dscli(&["start", option, address]);
    ran.failed(
        2,
        "not told what to start",
        &format!("add `-w` for a data worker: `dscli start -w {option} {address}`"),
    );
    let ran = node.dscli(&["stop", option, address]);
    ran.failed(2, "not told what to stop", &format!("add `-w` for a data worker: `dscli stop -w {option} {address}`"));
}

#[test]
fn help_teaches_with_the_guides_commands() {
    let node = Node::new();
    let version = node.dscli(&["--version"]).succeeded().stdout;
    assert_eq!(version, format!("dscli {}\n", env!("CARGO_PKG_VERSION")));
    let help = node.dscli(&["--help"]).succeeded().stdout;
    assert!(help.contains(r#"dscli start -w --worker_address "127.0.0.1:31501""#), "{help}");
    assert!(!help.contains("serve "), "the hidden command is hidden: {help}");
    for command in ["start", "restart", "stop", "status", "top", "evict", "pin", "unpin", "doctor", "proxy"] {
        let help = node.dscli(&[command, "--help"]).succeeded().stdout;
        assert!(help.contains("Examples:"), "{help}");
    }
}
