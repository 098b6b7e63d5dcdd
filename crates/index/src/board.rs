//! [`Board`]: what the writers of growing blocks tell readers directly, and the bells by which they wake them.
//!
//! One memory file a worker, which it and all its local clients may write. A reader learns from it how many bytes of a
//! block are final and never where they are, so a client that misbehaves gains nothing here: it could as well write the
//! bytes themselves.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use chariot_types::{Extent, Key};

use crate::MemoryError;
use crate::bell::Bell;
use crate::entry::words;
use crate::memory::{Memory, Writers};
use crate::progress::{Grown, ProgressWord};

/// Blocks that can grow at a time and be followed without the worker, if luck spreads them evenly.
const PLACES: usize = 1 << 16;
const PLACE_BITS: u32 = PLACES.trailing_zeros();

/// Bits of a word's tag; with those of its number, all of an offset in an arena.
const TAG_BITS: u32 = 30;

const BELLS: usize = 1024;
const BELLS_AT: usize = PLACES * size_of::<ProgressWord>();
const LEN: usize = BELLS_AT + BELLS * size_of::<Bell>();

/// What writers tell readers directly.
#[derive(Debug)]
pub struct Board {
    memory: Memory,
}

impl Board {
    /// A board on which nothing is said, and the file to hand to clients.
    pub(crate) fn create() -> Result<(OwnedFd, Self), MemoryError> {
        let (file, memory) = Memory::create("chariot-board", LEN, Writers::Holders)?;
        Ok((file, Self { memory }))
    }

    /// The board that a worker handed over as `file`, which can be closed after.
    pub fn map(file: impl AsFd) -> Result<Self, MemoryError> {
        let memory = Memory::map_to_write(file)?;
        if memory.len() != LEN {
            return Err(MemoryError::Unknown { len: memory.len() });
        }
        Ok(Self { memory })
    }

    /// For a writer: it is about to create a growing block at `offset`.
    pub fn begin(&self, offset: u64) {
        let (word, tag) = self.word(offset);
        word.begin(tag);
    }

    /// For a writer: its block at `offset`, called `key`, has grown `from` what it said last. Wakes who waits for it.
    pub fn grow(&self, key: &Key, offset: u64, from: u64, to: Grown) {
        let (word, tag) = self.word(offset);
        word.grow(tag, from, to);
        self.ring(key);
    }

    /// How far the writer of the block at `offset` says it is; `None` when it said nothing that is still to be read.
    /// For readers who have the block pinned, and know that it grows or has just done.
    pub fn grown(&self, offset: u64) -> Option<Grown> {
        let (word, tag) = self.word(offset);
        word.read(tag)
    }

    /// For the worker: the writer of the block at `offset` is gone.
    pub(crate) fn lose(&self, offset: u64) {
        let (word, tag) = self.word(offset);
        word.lose(tag);
    }

    /// For the worker: a block begins at `offset` whose writer says nothing here.
    pub(crate) fn forget(&self, offset: u64) {
        let (word, tag) = self.word(offset);
        word.forget(tag);
    }

    /// Says that someone is about to wait for something about `key`: look whether it has happened, and then
    /// [wait](Listening::wait).
    pub fn listen(&self, key: &Key) -> Listening<'_> {
        let bell = self.bell(key);
        Listening { bell, word: bell.await_ring() }
    }

    /// Whether someone seems to wait for something about `key`, or for another that has the same bell.
    pub fn is_awaited(&self, key: &Key) -> bool {
        self.bell(key).is_awaited()
    }

    /// Wakes who waits for something about `key`.
    pub fn ring(&self, key: &Key) {
        let bell = self.bell(key);
        if bell.ring() {
            bell.wake();
        }
    }

    /// Wakes all who wait: they may be waiting for what will never come.
    pub fn ring_all(&self) {
        self.bells().iter().filter(|bell| bell.ring()).for_each(Bell::wake);
    }

    fn bell(&self, key: &Key) -> &Bell {
        &self.bells()[words(key)[0] as usize % BELLS]
    }

    fn bells(&self) -> &[Bell] {
        // SAFETY: bells are atomics, and the mapping is writable.
        unsafe { self.memory.slice(BELLS_AT, BELLS) }
    }

    /// The word that tells of a block at `offset`, and its tag: together they are as good as the offset.
    fn word(&self, offset: u64) -> (&ProgressWord, u64) {
        // SAFETY: the words are atomics, and the mapping is writable.
        let words: &[ProgressWord] = unsafe { self.memory.slice(0, PLACES) };
        let (number, tag) = place(offset);
        (&words[number], tag)
    }
}

/// Where a block at `offset` has its word, and the tag of that word: an odd factor makes of any offset another number,
/// and of neighbours distant ones.
fn place(offset: u64) -> (usize, u64) {
    const MASK: u64 = (1 << (PLACE_BITS + TAG_BITS)) - 1;
    let mixed = (offset / Extent::ALIGN).wrapping_mul(0x9E37_79B9_7F4A_7C15) & MASK;
    ((mixed >> TAG_BITS) as usize, mixed & ((1 << TAG_BITS) - 1))
}

/// Someone who is about to wait.
#[must_use = "who listens either sees that it has happened, or waits"]
pub struct Listening<'a> {
    bell: &'a Bell,
    word: u32,
}

/// Why someone no longer sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// The bell has rung.
    Rung,
    /// It has not.
    Early,
}

impl Listening<'_> {
    /// Sleeps until the bell rings, or `deadline`; may return early.
    pub fn wait(self, deadline: Instant) -> Woken {
        if self.bell.sleep(self.word, deadline) { Woken::Rung } else { Woken::Early }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_word_and_its_tag_tell_offsets_apart(one in 0u64..1 << 46, other in 0u64..1 << 46) {
            let places = [one, other].map(|number| place(number * Extent::ALIGN));
            prop_assert_eq!(places[0] == places[1], one == other);
        }
    }

    #[test]
    fn what_a_writer_says_is_read_until_another_block_begins_there() {
        let (file, worker) = Board::create().unwrap();
        let client = Board::map(file).unwrap();
        let key = Key::of_name(b"block");
        assert_eq!(worker.grown(4096), None);
        client.begin(4096);
        assert_eq!((worker.grown(4096), worker.grown(8192)), (Some(Grown::To(0)), None));
        client.grow(&key, 4096, 0, Grown::To(7));
        client.grow(&key, 4096, 0, Grown::To(3));
        assert_eq!(worker.grown(4096), Some(Grown::To(7)), "who does not know the last word is not believed");
        client.grow(&key, 4096, 7, Grown::Whole);
        worker.lose(4096);
        assert_eq!(client.grown(4096), Some(Grown::Whole));
        client.begin(4096);
        worker.lose(4096);
        assert_eq!(client.grown(4096), Some(Grown::Lost));
        worker.forget(4096);
        assert_eq!(client.grown(4096), None);
    }

    #[test]
    fn who_waits_is_woken_by_a_ring_and_by_its_deadline() {
        let (_file, board) = Board::create().unwrap();
        let (key, long) = (Key::of_name(b"block"), Instant::now() + std::time::Duration::from_secs(60));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while board.grown(0) != Some(Grown::Whole) {
                    let listening = board.listen(&key);
                    if board.grown(0) != Some(Grown::Whole) {
                        let _ = listening.wait(long);
                    }
                }
            });
            board.begin(0);
            board.grow(&key, 0, 0, Grown::Whole);
        });
        assert!(Instant::now() < long);
        let early = board.listen(&key).wait(Instant::now() + std::time::Duration::from_millis(1));
        assert!(early == Woken::Early && board.is_awaited(&key));
        let listening = board.listen(&key);
        board.ring_all();
        assert!(listening.wait(long) == Woken::Rung && !board.is_awaited(&key));
    }
}
