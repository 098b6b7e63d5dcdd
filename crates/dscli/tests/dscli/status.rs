//! `dscli status` and `dscli top`.

use crate::node::{Node, Ran};

#[test]
fn a_table_tells_what_there_is() {
    let node = Node::new();
    let pid = node.start();
    let address = &node.address;
    for command in [&["status", "--worker-address", address][..], &["top", "--once", "--worker_address", address]] {
        let table = node.dscli(command).succeeded().stdout;
        assert!(table.contains(&format!("{address}, PID {pid}")), "{table}");
        assert!(table.contains("16.0 MiB of 16.0 MiB free (100.0%)"), "{table}");
        assert!(table.ends_with("clients   0\n"), "whoever asks is no client: {table}");
    }
}

#[test]
fn the_environment_says_which_worker() {
    let node = Node::new();
    let pid = node.start();
    let mut command = node.command(["status", "--json"]);
    let ran = Ran::from(command.env("DS_WORKER_ADDR", &node.address).output().unwrap()).succeeded();
    let status: chariot_wire::Status = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((status.pid, status.worker_address), (pid, node.address.clone()));
}

#[test]
fn a_worker_that_is_not_there_is_a_failure() {
    let node = Node::new();
    let hint = format!("start one with `dscli start -w --worker_address {}`", node.address);
    for command in ["status", "top"] {
        let ran = node.dscli(&[command, "--worker_address", &node.address]);
        ran.failed(1, &format!("error: the data worker at `{}` cannot be reached", node.address), &hint);
    }
}
