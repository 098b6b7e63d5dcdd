//! `dscli proxy`; what it does with requests is tested where it lives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use crate::node::{Node, signal};

#[test]
fn the_proxy_serves_until_it_is_told_to_end() {
    let node = Node::new();
    for end in ["TERM", "INT"] {
        let arguments =
            ["proxy", "--port", "0", "--prefiller_port", "1", "2", "--decoder-port=3", "--log-level", "warn"];
        let mut command = node.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told = line.strip_prefix("[INFO] [  OK  ] Start proxy service @ ").unwrap();
        let (address, rest) = told.split_once(' ').unwrap();
        assert_eq!(rest, format!("success, PID: {}\n", child.id()));
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        signal(child.id(), end);
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(node.files("cwd"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_taken_port_is_a_failure() {
    let node = Node::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let ran = node.dscli(&["proxy", "--port", &port, "--prefiller-port", "1", "--decoder-port", "2"]);
    let line = format!("[ERROR] [FAILED] Start proxy service @ 127.0.0.1:{port} failed: cannot listen on");
    ran.failed(1, &line, "choose another --port");
}

#[test]
fn instances_that_cannot_be_meant_are_usage_errors() {
    let node = Node::new();
    let same = ["proxy", "--prefiller-port", "8100", "--decoder-port", "8100"];
    node.dscli(&same).failed(2, "`127.0.0.1:8100` is given more than once", "name each once");
    let hosts = ["proxy", "--prefiller-host", "a", "b", "--prefiller-port", "1", "2", "3", "--decoder-port", "9"];
    node.dscli(&hosts).failed(2, "2 hosts and 3 ports do not pair up", "one host for all ports");
    let workers = ["proxy", "--prefiller-port", "1", "--decoder-port", "2", "3", "4", "--decoder-worker", "a:1", "b:1"];
    node.dscli(&workers).failed(2, "2 workers and 3 decode instances do not pair up", "once for each, in their order");
    let portless = ["proxy", "--prefiller-port", "1", "--decoder-port", "2", "--decoder-worker", "a"];
    let ran = node.dscli(&portless);
    assert!(ran.code == Some(2) && ran.stderr.contains("`a` has no port"), "{ran:?}");
    assert_eq!(node.dscli(&["proxy"]).code, Some(2));
}
