//! Processes that read and write through shared memory, and are killed at any moment, while others verify every byte.
//!
//! The processes are this program again: `one_of_the_attackers` does nothing unless the environment says what to be.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chariot_client::{Client, ClientError, Put, Reserve, Room, Transport, Wait};
use chariot_types::Key;
use support::{TestWorker, eventually, options};

/// Names of blocks; several times as many as fit.
const NAMES: u64 = 300;

/// How long processes are let live: long enough to be in the middle of things.
const LIVES: u64 = 60;

const ADDRESS: &str = "CHARIOT_TEST_ATTACK_ADDRESS";
const ROLE: &str = "CHARIOT_TEST_ATTACK_ROLE";

/// What a reader ends with that has read bytes which are not the block's.
const WRONG_BYTES: i32 = 42;

fn key(name: u64) -> Key {
    Key::of_name(&name.to_le_bytes())
}

/// The bytes of the block called `name`, in words: each tells its block and its place.
fn words(name: u64) -> impl Iterator<Item = [u8; 8]> {
    let len = 1_000 + name * 97 % 8_000;
    (0..len).map(move |at| (name << 32 | at).to_le_bytes())
}

fn content(name: u64) -> Vec<u8> {
    words(name).flatten().collect()
}

/// Numbers without end, for choosing by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn one_of_the_attackers() {
    let (Ok(address), Ok(role)) = (std::env::var(ADDRESS), std::env::var(ROLE)) else { return };
    let client = Client::connect(&address.parse().unwrap(), options(Transport::Auto)).unwrap();
    let mut dice = Dice(u64::from(std::process::id()) << 20 | 1);
    loop {
        match role.as_str() {
            "reader" => read(&client, &mut dice),
            "writer" => write(&client, &mut dice),
            _ => hold_and_die(&client),
        }
    }
}

/// Gets a few blocks and compares every byte.
fn read(client: &Client, dice: &mut Dice) {
    let names: Vec<u64> = (0..1 + dice.roll(8)).map(|_| dice.roll(NAMES)).collect();
    let keys: Vec<Key> = names.iter().map(|name| key(*name)).collect();
    let Ok(blocks) = client.get(&keys, Wait::No) else { return };
    for (name, block) in names.iter().zip(blocks) {
        let Some(block) = block else { continue };
        let (found, rest) = block.bytes().as_chunks::<8>();
        let is_right = rest.is_empty() && found.iter().copied().eq(words(*name));
        if block.is_intact() && !is_right {
            eprintln!("wrong bytes in block {name}");
            std::process::exit(WRONG_BYTES);
        }
    }
}

/// Puts, grows and deletes blocks.
fn write(client: &Client, dice: &mut Dice) {
    let name = dice.roll(NAMES);
    let bytes = content(name);
    match dice.roll(10) {
        0 => drop(client.delete(&[key(name)])),
        1 | 2 => {
            let reserve = Reserve { key: key(name), parent: None, len: bytes.len() as u64, time_to_live: None };
            let Ok(mut growing) = client.reserve(&[reserve], Room::Now) else { return };
            let mut block = growing.remove(0);
            for (at, piece) in bytes.chunks(10_000).enumerate() {
                block.write_at(at * 10_000, piece);
                let _ = block.advance(at * 10_000 + piece.len());
            }
            drop(block.seal());
        }
        _ => {
            let put = Put { key: key(name), parent: None, bytes: &bytes, time_to_live: None };
            match client.put(&[put], Room::Now) {
                Ok(()) | Err(ClientError::NoRoom { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Pins whatever there is, and dies with it in its hands.
fn hold_and_die(client: &Client) {
    let keys: Vec<Key> = (0..NAMES).map(key).collect();
    let held = client.get(&keys, Wait::No).unwrap();
    if held.iter().flatten().count() > 0 {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    }
}

fn attack(worker: &TestWorker, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "one_of_the_attackers", "--nocapture", "--test-threads=1"])
        .env(ADDRESS, worker.address.to_string())
        .env(ROLE, role)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn processes_killed_at_any_moment_leave_no_pin_and_no_wrong_byte() {
    let worker = TestWorker::start(4 << 20);
    let client = worker.client(Transport::Auto);
    let rest = client.status().unwrap();
    let mut dice = Dice(7);
    let begin = Instant::now();
    // One of each lives through it all and sees what the deaths of the others do.
    let mut lasting = [attack(&worker, "reader"), attack(&worker, "writer")];
    while begin.elapsed() < Duration::from_secs(4) {
        let mut brief = ["reader", "writer", "holder"].map(|role| attack(&worker, role));
        eventually("they have come", || client.status().unwrap().sessions.len() >= 3);
        std::thread::sleep(Duration::from_millis(dice.roll(LIVES)));
        for child in &mut brief {
            // The holder may have done it itself.
            let _ = child.kill();
            let status = child.wait().unwrap();
            assert_eq!(status.signal(), Some(9), "ended by itself: {status}");
        }
    }
    let status = client.status().unwrap();
    assert!(status.evictions > 0 && status.hits > 0, "{status:?}");
    for child in &mut lasting {
        assert_eq!(child.try_wait().unwrap(), None, "a reader has seen wrong bytes, or a writer has failed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    client.delete(&(0..NAMES).map(key).collect::<Vec<_>>()).unwrap();
    eventually("everything that was held is free again", || {
        let status = client.status().unwrap();
        let held = (status.pinned_blocks, status.detached_blocks, status.growing_blocks, status.granted_bytes);
        status.sessions.len() == 1 && held == (0, 0, 0, rest.granted_bytes) && status.free_bytes == rest.free_bytes
    });
    assert_eq!(client.status().unwrap().misuses, 0);
}
