//! `dscli doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::node::{Node, Ran};

/// The verdicts, by check.
fn verdicts(ran: &Ran) -> Vec<(String, String)> {
    let findings: Value = serde_json::from_str(&ran.stdout).unwrap();
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    let checks = findings["checks"].as_array().unwrap().iter();
    checks
        .inspect(|check| assert!(check["verdict"] == "OK" || check["hint"].is_string(), "no hint: {check}"))
        .map(|check| (text(check, "check"), text(check, "verdict")))
        .collect()
}

fn verdict(ran: &Ran, check: &str) -> Option<String> {
    verdicts(ran).into_iter().find(|(name, _)| name == check).map(|(_, verdict)| verdict)
}

#[test]
fn a_node_with_a_worker_passes() {
    let node = Node::new();
    node.start();
    let mut command = node.command(["doctor", "--json"]);
    let ran = Ran::from(command.env("DS_WORKER_ADDR", &node.address).output().unwrap()).succeeded();
    for check in
        ["DS_WORKER_ADDR", "worker", "protocol", "zero copy", "shared memory", "log directory", "run directory"]
    {
        assert_eq!(verdict(&ran, check).as_deref(), Some("OK"), "{check}: {ran:?}");
    }
    assert_eq!(node.files("home"), Vec::<std::path::PathBuf>::new(), "doctor changes nothing");
}

#[test]
fn a_missing_worker_fails() {
    let node = Node::new();
    let ran = node.dscli(&["doctor", "--json", "--worker_address", &node.address]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(verdict(&ran, "worker").as_deref(), Some("FAIL"));
    assert_eq!(verdict(&ran, "DS_WORKER_ADDR").as_deref(), Some("WARN"));
    let people = node.dscli(&["doctor", "--worker_address", &node.address]);
    assert!(people.stdout.contains("FAIL  worker"), "{people:?}");
    assert!(people.stdout.contains(&format!("`dscli start -w --worker_address {}`", node.address)), "{people:?}");
}

#[test]
fn a_run_directory_that_others_can_write_fails() {
    let node = Node::new();
    fs::create_dir(node.path("run")).unwrap();
    fs::set_permissions(node.path("run"), fs::Permissions::from_mode(0o777)).unwrap();
    let ran = node.dscli(&["doctor", "--json", "--worker_address", &node.address]);
    assert_eq!(verdict(&ran, "run directory").as_deref(), Some("FAIL"), "{ran:?}");
}

#[test]
fn a_python_without_an_answer_is_a_warning() {
    let node = Node::new();
    let python = node.path("python3");
    fs::write(&python, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = node.command(["doctor", "--json"]);
    let ran = Ran::from(command.env("PATH", node.path("")).output().unwrap());
    assert_eq!(verdict(&ran, "python").as_deref(), Some("WARN"), "{ran:?}");
    assert!(ran.stdout.contains("exit status: 3"), "{ran:?}");
}
