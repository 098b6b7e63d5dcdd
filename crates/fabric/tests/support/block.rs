//! Blocks in memory: what is received is compared with what it should be.

use std::sync::Arc;

use chariot_fabric::{Growth, Look, Sink, Source};
use chariot_types::Key;
use chariot_wire::{InlineRecord, PeerBlock};
use parking_lot::Mutex;

use super::bytes_of;
use super::host::{Came, TestHost};

/// A block to be sent.
pub struct Block {
    pub key: Key,
    bytes: Vec<u8>,
    life: Mutex<Life>,
}

struct Life {
    readable: u64,
    is_whole: bool,
    is_lost: bool,
    pins: usize,
    growths: Vec<Growth>,
}

impl Block {
    /// A block that is whole.
    pub fn whole(key: Key, len: usize) -> Arc<Self> {
        let block = Self::growing(key, len);
        block.grow(len as u64);
        block.seal();
        block
    }

    /// A block of which nothing is readable yet.
    pub fn growing(key: Key, len: usize) -> Arc<Self> {
        let bytes = bytes_of(&key, len);
        let life = Mutex::new(Life { readable: 0, is_whole: false, is_lost: false, pins: 0, growths: Vec::new() });
        Arc::new(Self { key, bytes, life })
    }

    pub fn record(&self) -> PeerBlock<'static> {
        InlineRecord::new(self.key, None, self.bytes.len() as u64, None).into()
    }

    pub fn source(self: &Arc<Self>) -> Box<dyn Source> {
        self.life.lock().pins += 1;
        Box::new(Pinned(self.clone()))
    }

    /// How many are sending it.
    pub fn pins(&self) -> usize {
        self.life.lock().pins
    }

    pub fn grow(&self, readable: u64) {
        self.change(|life| life.readable = readable.max(life.readable));
    }

    pub fn grow_by_a_third(&self) {
        let third = self.bytes.len().div_ceil(3) as u64;
        self.change(|life| life.readable = (life.readable + third).min(self.bytes.len() as u64));
    }

    pub fn seal(&self) {
        self.change(|life| (life.readable, life.is_whole) = (self.bytes.len() as u64, true));
    }

    pub fn lose(&self) {
        self.change(|life| life.is_lost = true);
    }

    fn change(&self, change: impl FnOnce(&mut Life)) {
        let growths = {
            let mut life = self.life.lock();
            change(&mut life);
            std::mem::take(&mut life.growths)
        };
        growths.iter().for_each(Growth::tell);
    }
}

struct Pinned(Arc<Block>);

impl Source for Pinned {
    fn look(&mut self, sent: u64, growth: &Growth) -> Look {
        let mut life = self.0.life.lock();
        if life.is_lost {
            return Look::Lost;
        }
        match life.readable - sent {
            0 if life.is_whole => Look::Whole,
            0 => {
                life.growths.push(growth.clone());
                Look::NotYet
            }
            more => Look::More(more),
        }
    }

    fn bytes(&self, offset: u64, len: u64) -> &[u8] {
        &self.0.bytes[offset as usize..(offset + len) as usize]
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.life.lock().pins -= 1;
    }
}

/// A block without an end, for those who do not want it all.
pub struct Endless {
    piece: Vec<u8>,
    pins: Arc<Mutex<usize>>,
}

impl Endless {
    pub const LEN: u64 = 1 << 50;

    pub fn record(key: Key) -> PeerBlock<'static> {
        InlineRecord::new(key, None, Self::LEN, None).into()
    }

    pub fn source(pins: &Arc<Mutex<usize>>) -> Box<dyn Source> {
        *pins.lock() += 1;
        Box::new(Self { piece: vec![7; 1 << 20], pins: pins.clone() })
    }
}

impl Source for Endless {
    fn look(&mut self, _sent: u64, _growth: &Growth) -> Look {
        Look::More(self.piece.len() as u64)
    }

    fn bytes(&self, _offset: u64, len: u64) -> &[u8] {
        &self.piece[..len as usize]
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        *self.pins.lock() -= 1;
    }
}

/// A block that is received. Its bytes are right whenever they are readable.
pub struct Coming {
    host: Arc<TestHost>,
    key: Key,
    expected: Vec<u8>,
    bytes: Vec<u8>,
    readable: u64,
    is_sealed: bool,
}

impl Coming {
    pub fn sink(host: Arc<TestHost>, coming: &PeerBlock<'_>) -> Box<dyn Sink> {
        let block = coming.block;
        if block.len() == Endless::LEN {
            return Box::new(Swallowing(Vec::new()));
        }
        let expected = bytes_of(&block.key, block.len() as usize);
        let bytes = vec![0; expected.len()];
        host.note_came(block.key, Came::Growing(0));
        Box::new(Self { host, key: block.key, expected, bytes, readable: 0, is_sealed: false })
    }
}

impl Sink for Coming {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn room(&mut self, offset: u64, len: u64) -> &mut [u8] {
        assert!(offset >= self.readable, "readable bytes are not written again");
        &mut self.bytes[offset as usize..(offset + len) as usize]
    }

    fn advance(&mut self, readable: u64) {
        let new = self.readable as usize..readable as usize;
        assert_eq!(self.bytes[new.clone()], self.expected[new], "wrong bytes");
        self.readable = readable;
        self.host.note_came(self.key, Came::Growing(readable));
    }

    fn seal(mut self: Box<Self>) {
        assert_eq!(self.readable, self.len());
        self.is_sealed = true;
        self.host.note_came(self.key, Came::Whole);
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if !self.is_sealed {
            self.host.note_came(self.key, Came::Lost);
        }
    }
}

/// Takes a block without an end.
struct Swallowing(Vec<u8>);

impl Sink for Swallowing {
    fn len(&self) -> u64 {
        Endless::LEN
    }

    fn room(&mut self, _offset: u64, len: u64) -> &mut [u8] {
        self.0.resize(len as usize, 0);
        &mut self.0
    }

    fn advance(&mut self, _readable: u64) {}

    fn seal(self: Box<Self>) {
        panic!("there is no end");
    }
}
