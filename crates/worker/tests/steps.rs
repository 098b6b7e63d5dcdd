//! Processes that end right before each of their accesses to shared memory in turn, while others go on.
//!
//! The processes are this program again: `one_that_is_to_die` does nothing unless the environment says what to be.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use chariot_client::{Block, Client, GrowingBlock, Progress, Reserve, Room, Transport, Wait};
use chariot_index::steps::die_at;
use support::{SOON, TestWorker, bytes, eventually, key, options, put};

const ADDRESS: &str = "CHARIOT_TEST_STEPS_ADDRESS";
const ROLE: &str = "CHARIOT_TEST_STEPS_ROLE";
const STEP: &str = "CHARIOT_TEST_STEPS_STEP";

const LEN: usize = 100_000;

/// A part of a block's way, of which there are four.
const PART: usize = LEN / 4;

fn content() -> Vec<u8> {
    bytes(7, LEN)
}

fn reserve(client: &Client, name: &str) -> GrowingBlock {
    let reserve = Reserve { key: key(name), parent: None, len: LEN as u64, time_to_live: None };
    client.reserve(&[reserve], Room::Now).unwrap().remove(0)
}

fn advance(growing: &mut GrowingBlock, part: usize) {
    growing.write_at(part * PART, &content()[part * PART..][..PART]);
    growing.advance((part + 1) * PART).unwrap();
}

/// Gets a block, for which it may wait, and compares it.
fn get(client: &Client, name: &str, wait: Duration) {
    let wait = if wait.is_zero() { Wait::No } else { Wait::Until(Instant::now() + wait) };
    let block = client.get(&[key(name)], wait).unwrap().remove(0).unwrap();
    assert!(block.bytes() == content());
}

#[test]
fn one_that_is_to_die() {
    let variables = [ROLE, ADDRESS, STEP].map(std::env::var);
    let [Ok(role), Ok(address), Ok(step)] = variables else { return };
    if role == "worker" {
        return be_the_worker();
    }
    let client = Client::connect(&address.parse().unwrap(), options(Transport::Auto)).unwrap();
    // Others say when.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    die_at(step.parse().unwrap());
    match role.as_str() {
        "reader" => get(&client, "present", Duration::ZERO),
        "waiter" => get(&client, "waited for", SOON),
        "putter" => put(&client, "put", &content()),
        "grower" => {
            let mut growing = reserve(&client, "grown");
            (0..4).for_each(|part| advance(&mut growing, part));
            growing.seal().unwrap();
        }
        _ => panic!("no such role"),
    }
    client.flush().unwrap();
    die_at(u32::MAX);
}

fn spawn(role: &str, address: &str, step: u32) -> Child {
    command(role, address, step).spawn().unwrap()
}

fn command(role: &str, address: &str, step: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "one_that_is_to_die", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ADDRESS, address)
        .env(STEP, step.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// A worker, those who live, and one who is to die.
struct Stage {
    worker: TestWorker,
    client: Client,
    other: Client,
}

impl Stage {
    fn set() -> Self {
        let worker = TestWorker::start(16 << 20);
        let (client, other) = (worker.client(Transport::Auto), worker.client(Transport::Auto));
        Self { worker, client, other }
    }

    /// Has a process in `role` die at each step in turn, `least` or more; `meanwhile` lets it begin, and does what is done
    /// while it lives. After each death nothing of it is left but whole blocks, and the one called `name` has the right
    /// bytes.
    fn kill_at_every_step(self, role: &str, name: &str, least: u32, meanwhile: impl Fn(&Self, &mut Child)) {
        let (mut step, mut lived) = (0, 0);
        // How many steps there are depends on who is faster: a few lives in a row, and there are no more.
        while lived < 3 {
            let mut child = spawn(role, &self.worker.address.to_string(), step);
            meanwhile(&self, &mut child);
            let status = child.wait().unwrap();
            self.assert_nothing_is_left();
            if let Some(block) = self.client.get(&[key(name)], Wait::No).unwrap().remove(0) {
                assert!(block.bytes() == content() && block.is_intact(), "{role}, step {step}: wrong bytes");
            }
            if role != "reader" {
                self.client.delete(&[key(name)]).unwrap();
            }
            assert!(status.success() || status.signal() == Some(9), "{role}, step {step}: {status}");
            lived = if status.success() { lived + 1 } else { 0 };
            step += 1;
        }
        assert!(step - lived >= least, "only {step} steps");
        let Self { worker, client, other } = self;
        drop(client);
        drop(other);
        let client = worker.client(Transport::Tcp);
        client.delete(&[key("present")]).unwrap();
        eventually("all room is free again", || {
            let status = client.status().unwrap();
            status.free_bytes == status.capacity_bytes && status.misuses == 0
        });
    }

    fn assert_nothing_is_left(&self) {
        eventually("nothing is left of the dead", || {
            let status = self.client.status().unwrap();
            let held = [status.pinned_blocks, status.detached_blocks, status.growing_blocks, status.waiting];
            status.sessions.len() == 2 && held == [0; 4]
        });
    }
}

/// Lets a process begin.
fn go(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

/// Whether all threads of a process sleep, or it has ended.
fn sleeps(pid: u32) -> bool {
    let Ok(mut tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.all(|task| task.is_ok_and(|task| is_asleep(&task.path())))
}

fn is_asleep(task: &Path) -> bool {
    let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|state| !state.starts_with('R'))
}

/// Begins `work` in a thread; returns when that sleeps, waiting for something, or has ended.
fn wait_for_it<'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> ScopedJoinHandle<'scope, ()> {
    let (says, hears) = std::sync::mpsc::channel();
    let thread = scope.spawn(move || {
        says.send(rustix::thread::gettid()).unwrap();
        work();
    });
    let task = format!("/proc/self/task/{}", hears.recv().unwrap().as_raw_nonzero());
    eventually("a thread waits", || is_asleep(Path::new(&task)));
    thread
}

#[test]
fn a_reader_that_dies_at_any_step_leaves_no_pin() {
    let stage = Stage::set();
    put(&stage.client, "present", &content());
    stage.client.flush().unwrap();
    stage.kill_at_every_step("reader", "present", 20, |_, child| go(child));
}

#[test]
fn a_reader_that_dies_at_any_step_of_waiting_keeps_nobody() {
    let stage = Stage::set();
    // It sleeps until the block comes in the first half, then while it grows: and it may die asleep.
    stage.kill_at_every_step("waiter", "waited for", 20, |stage, child| {
        go(child);
        eventually("it waits, or has died", || sleeps(child.id()));
        let mut growing = reserve(&stage.client, "waited for");
        for part in 0..4 {
            eventually("it waits, or has died", || sleeps(child.id()));
            advance(&mut growing, part);
        }
        growing.seal().unwrap();
        stage.client.flush().unwrap();
    });
}

#[test]
fn a_reader_killed_in_its_sleep_keeps_nobody() {
    let stage = Stage::set();
    let mut child = spawn("waiter", &stage.worker.address.to_string(), u32::MAX);
    go(&mut child);
    eventually("it waits", || stage.client.status().unwrap().sessions.len() == 3 && sleeps(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    stage.assert_nothing_is_left();
    std::thread::scope(|scope| {
        let waiter = wait_for_it(scope, || get(&stage.other, "waited for", SOON));
        put(&stage.client, "waited for", &content());
        waiter.join().unwrap();
    });
}

#[test]
fn a_writer_that_dies_at_any_step_of_a_put_leaves_a_whole_block_or_none() {
    let stage = Stage::set();
    stage.kill_at_every_step("putter", "put", 2, |stage, child| {
        std::thread::scope(|scope| {
            // Somebody waits, so that the writer rings.
            let waiter = wait_for_it(scope, || get(&stage.other, "put", SOON));
            go(child);
            child.wait().unwrap();
            put(&stage.client, "put", &content());
            waiter.join().unwrap();
        });
    });
}

#[test]
fn a_writer_that_dies_at_any_step_of_growing_leaves_a_whole_block_or_none_and_its_readers_know() {
    let stage = Stage::set();
    stage.kill_at_every_step("grower", "grown", 12, |stage, child| {
        std::thread::scope(|scope| {
            let follower = wait_for_it(scope, || follow(&stage.other));
            let waiter = wait_for_it(scope, || get(&stage.other, "grown", SOON));
            go(child);
            child.wait().unwrap();
            put(&stage.client, "grown", &content());
            follower.join().unwrap();
            waiter.join().unwrap();
        });
    });
}

/// Follows a block to its end, which may be a bad one, and compares what it sees on the way.
fn follow(client: &Client) {
    let deadline = Instant::now() + SOON;
    let block = client.follow(&[key("grown")], Wait::Until(deadline)).unwrap().remove(0).unwrap();
    loop {
        let readable = block.readable();
        assert!(block.bytes() == &content()[..block.bytes().len()], "wrong bytes in a growing block");
        match block.wait_beyond(readable, deadline).unwrap() {
            Progress::Readable(_) => {}
            Progress::Sealed => return assert!(block.bytes() == content()),
            Progress::Lost => return,
            Progress::TimedOut => panic!("nobody said what has become of the block"),
        }
    }
}

/// A worker that dies at a step that it is told to, once it is told.
fn be_the_worker() {
    let worker = TestWorker::start(16 << 20);
    println!("\n{}", worker.address);
    let mut lines = std::io::stdin().lines();
    while let Some(Ok(step)) = lines.next() {
        die_at(step.parse().unwrap());
        println!("armed");
    }
}

#[test]
fn a_worker_that_dies_at_any_step_leaves_no_wrong_byte_and_nobody_waiting() {
    let mut deaths = 0;
    loop {
        // Whoever is killed tidies nothing up.
        let dir = tempfile::tempdir().unwrap();
        let mut worker = command("worker", "", 0).env("TMPDIR", dir.path()).spawn().unwrap();
        let mut said = BufReader::new(worker.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = said.by_ref().find(|line| line.starts_with("127.")).unwrap().parse().unwrap();
        let [client, other] = [(); 2].map(|()| Client::connect(&address, options(Transport::Auto)).unwrap());
        ["held", "present"].iter().for_each(|name| put(&client, name, &content()));
        client.flush().unwrap();
        let held = other.get(&[key("held")], Wait::No).unwrap().remove(0).unwrap();
        writeln!(worker.stdin.as_ref().unwrap(), "{deaths}").unwrap();
        said.find(|line| line == "armed").unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| other.get(&[key("grown")], Wait::Until(Instant::now() + SOON)));
            use_it(&client);
            let seen = other.get(&["present", "put", "grown"].map(key), Wait::No).unwrap_or_default();
            let waited_for = waiter.join().unwrap().unwrap_or_default();
            let is_right = |block: &Block| block.bytes() == content();
            assert!(seen.iter().chain(&waited_for).flatten().all(is_right), "wrong bytes after step {deaths}");
        });
        assert!(held.bytes() == content());
        let has_died = !client.is_connected() || client.status().is_err();
        let _ = worker.kill();
        assert_eq!(worker.wait().unwrap().signal(), Some(9));
        eventually("a reader knows that its pin is over", || !held.is_intact());
        if !has_died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 50, "only {deaths} steps");
}

/// Has a worker list, change and delist entries. It may be gone at any moment.
fn use_it(client: &Client) {
    let content = content();
    let block = chariot_client::Put { key: key("put"), parent: None, bytes: &content, time_to_live: None };
    let _ = client.put(&[block], Room::Now);
    let reserve = Reserve { key: key("grown"), parent: None, len: LEN as u64, time_to_live: None };
    if let Ok(mut growing) = client.reserve(&[reserve], Room::Now) {
        let mut growing = growing.remove(0);
        growing.write_at(0, &content);
        let _ = growing.advance(PART);
        let _ = growing.seal();
    }
    let _ = client.delete(&["present", "held"].map(key));
    let _ = client.flush();
}
