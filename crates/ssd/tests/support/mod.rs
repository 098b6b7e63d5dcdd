//! A spill of its own for each test, and memory as a worker would lend it.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)] // each test file uses a part

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use chariot_pool::Arena;
use chariot_ssd::{Block, IoEngine, Loaded, Memory, Recovered, Spill, SpillConfig, Stored, Wanted};
use chariot_types::{Extent, Key, NamespaceName};

pub const MIB: u64 = 1 << 20;

/// Long enough for anything that happens at all, on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(20);

/// An arena from which memory is lent.
pub struct Room {
    arena: Arc<Arena>,
    next: AtomicU64,
    lent: Arc<AtomicUsize>,
}

/// Keeps the arena, and counts.
struct Lease {
    _arena: Arc<Arena>,
    lent: Arc<AtomicUsize>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lent.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Room {
    pub fn new(bytes: u64) -> Self {
        Self { arena: Arc::new(Arena::create(bytes).unwrap()), next: AtomicU64::new(0), lent: Arc::default() }
    }

    /// Room for a block of `len` bytes, as the pool would give it. The arena is used round and round.
    pub fn memory(&self, len: u64) -> Memory {
        let room = Extent::room_for(len).unwrap();
        let taken = room.next_multiple_of(Extent::PAGE);
        let mut offset = self.next.fetch_add(taken, Ordering::SeqCst) % self.arena.len();
        if offset + taken > self.arena.len() {
            offset = 0;
            self.next.store(taken, Ordering::SeqCst);
        }
        // Short extents begin anywhere in a page.
        let offset =
            if room < Extent::PAGE { offset + (Extent::PAGE - room) / Extent::ALIGN * Extent::ALIGN } else { offset };
        self.lent.fetch_add(1, Ordering::SeqCst);
        let lease = Lease { _arena: self.arena.clone(), lent: self.lent.clone() };
        let bytes = self.arena.slice(Extent { offset, len: room }).unwrap();
        // SAFETY: the lease keeps the arena, and tests do not use more of it at once than there is.
        unsafe { Memory::new(bytes, lease) }
    }

    pub fn filled(&self, content: &[u8]) -> Memory {
        let memory = self.memory(content.len() as u64);
        let start = memory.bytes().cast::<u8>();
        // SAFETY: the memory was just lent and is as long as the content.
        unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), start.as_ptr(), content.len()) };
        memory
    }

    /// How many pieces are lent now.
    pub fn lent(&self) -> usize {
        self.lent.load(Ordering::SeqCst)
    }
}

/// The first bytes of some memory.
pub fn content(memory: &Memory, len: u64) -> Vec<u8> {
    // SAFETY: the memory has been handed back, so nobody writes there.
    let bytes = unsafe { memory.bytes().as_ref() };
    bytes[..len as usize].to_vec()
}

/// A spill, its folder, and what it said.
pub struct TestSpill {
    pub config: SpillConfig,
    pub room: Room,
    pub recovered: Recovered,
    gone: Mutex<mpsc::Receiver<Vec<Key>>>,
    spill: Option<Spill>,
    _dir: Option<tempfile::TempDir>,
}

impl TestSpill {
    /// In a folder that goes with it.
    pub fn open(engine: IoEngine) -> Self {
        Self::open_with(engine, 17 * MIB)
    }

    pub fn open_with(engine: IoEngine, capacity: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = SpillConfig { engine, ..SpillConfig::new(dir.path().join("test.spill"), capacity) };
        Self { _dir: Some(dir), ..Self::at(config) }
    }

    /// Wherever `config` says.
    pub fn at(config: SpillConfig) -> Self {
        let (spill, recovered, gone) = open(&config);
        Self { config, room: Room::new(64 * MIB), recovered, gone: gone.into(), spill: Some(spill), _dir: None }
    }

    /// Around a spill that was opened in another way.
    pub fn of(config: SpillConfig, spill: Spill, recovered: Recovered, gone: mpsc::Receiver<Vec<Key>>) -> Self {
        Self { config, room: Room::new(64 * MIB), recovered, gone: gone.into(), spill: Some(spill), _dir: None }
    }

    pub fn close(&mut self) {
        if let Some(spill) = self.spill.take() {
            assert_eq!(spill.close(SOON), chariot_ssd::Closed::Clean);
        }
    }

    pub fn reopen(&mut self) {
        self.close();
        let (spill, recovered, gone) = open(&self.config);
        (self.spill, self.recovered, self.gone) = (Some(spill), recovered, gone.into());
    }

    /// Which blocks it said were gone since the last call, in that order.
    pub fn take_gone(&self) -> Vec<Key> {
        self.gone.lock().unwrap().try_iter().flatten().collect()
    }

    pub fn keys(&self) -> HashSet<Key> {
        let (mut keys, mut step) = (HashSet::new(), Some(0));
        while let Some(at) = step {
            let (more, next) = Spill::keys(self, at);
            keys.extend(more);
            step = next;
        }
        keys
    }

    pub fn path(&self) -> &Path {
        &self.config.path
    }

    /// Stores a block and waits until it is written; fails if it is not accepted.
    pub fn put(&self, name: &str, content: &[u8]) -> Block {
        let block = self.offer(name, content);
        self.wait_until_written();
        block
    }

    /// Stores a block, and does not wait.
    pub fn offer(&self, name: &str, content: &[u8]) -> Block {
        let block = block(name, content.len() as u64);
        let stored = self.store(block.clone(), self.room.filled(content));
        assert!(matches!(stored, Stored::Accepted), "{stored:?}");
        block
    }

    /// Waits until nothing is on its way.
    pub fn wait_until_written(&self) {
        eventually("all that was accepted is written", || self.stats().coming == 0);
    }

    /// What is there under each key.
    pub fn get(&self, keys: &[Key]) -> HashMap<Key, (Block, Vec<u8>)> {
        let held = keys.iter().zip(self.find(keys)).filter_map(|(key, held)| Some((*key, held?.len)));
        let wanted: Vec<_> = held.map(|(key, len)| Wanted { key, memory: self.room.memory(len) }).collect();
        let (count, (send, receive)) = (wanted.len(), mpsc::channel());
        self.load(wanted, Instant::now() + SOON, move |key, loaded| send.send((key, loaded)).unwrap());
        let mut got = HashMap::new();
        for _ in 0..count {
            match receive.recv_timeout(SOON).unwrap() {
                (key, Loaded::Hit { block, memory }) => {
                    assert_eq!(block.key, key);
                    let bytes = content(&memory, block.len);
                    got.insert(key, (block, bytes));
                }
                (_, Loaded::Miss { .. }) => {}
                (_, Loaded::Late) => panic!("a load was late"),
            }
        }
        got
    }

    /// The bytes of one block.
    pub fn get_one(&self, name: &str) -> Option<Vec<u8>> {
        self.get(&[key(name)]).remove(&key(name)).map(|(_, bytes)| bytes)
    }
}

impl std::ops::Deref for TestSpill {
    type Target = Spill;

    fn deref(&self) -> &Spill {
        self.spill.as_ref().unwrap()
    }
}

pub fn open(config: &SpillConfig) -> (Spill, Recovered, mpsc::Receiver<Vec<Key>>) {
    let (send, gone) = mpsc::channel();
    let (spill, recovered) = Spill::open(config, move |keys| drop(send.send(keys))).unwrap();
    (spill, recovered, gone)
}

pub fn key(name: impl AsRef<[u8]>) -> Key {
    Key::of_name(name.as_ref())
}

pub fn block(name: &str, len: u64) -> Block {
    Block { key: key(name), parent: None, len, expires_at: None, namespace: NamespaceName::default() }
}

/// Bytes that differ from seed to seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < SOON, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
