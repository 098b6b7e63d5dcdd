//! [`Index`]: the index as its worker, its only writer, has it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use chariot_types::Key;

use crate::MemoryError;
use crate::board::Board;
use crate::deadline::{Deadline, Epoch};
use crate::entry::{EntryRead, Listing};
use crate::hash::{Places, TAG_BITS};
use crate::layout::{Layout, WORDS};
use crate::memory::{Memory, Writers};
use crate::readers::Readers;
use crate::sync::Ordering;

/// The index as its worker has it, and those who read what is in it.
#[derive(Debug)]
pub struct Index {
    file: OwnedFd,
    layout: Layout,
    epoch: Epoch,
    seed: u64,
    /// Where in the buckets each entry that is in use is named, plus 1; 0 for published blocks without.
    named_at: Vec<usize>,
    unlisted: u64,
    readers: Readers,
    board: Board,
    board_file: OwnedFd,
}

impl Index {
    /// An index of no blocks, sized for an arena of `arena` bytes.
    pub fn create(arena: u64) -> Result<Self, MemoryError> {
        Self::with_board(arena, Board::create()?)
    }

    /// An index of no blocks beside the board of another, whose writers and readers go on telling each other.
    pub fn create_beside(arena: u64, board: OwnedFd) -> Result<Self, MemoryError> {
        let mapped = Board::map(&board)?;
        Self::with_board(arena, (board, mapped))
    }

    fn with_board(arena: u64, (board_file, board): (OwnedFd, Board)) -> Result<Self, MemoryError> {
        let entries = Layout::entries_for(arena);
        let (file, memory) = Memory::create("chariot-index", Layout::len_for(entries), Writers::Creator)?;
        let (layout, epoch) = (Layout::begin(memory, entries), Epoch::now());
        let seed = random_seed();
        layout.header().seed.store(seed, Ordering::Relaxed);
        layout.header().epoch.store(epoch.nanos, Ordering::Relaxed);
        Ok(Self {
            file,
            layout,
            epoch,
            seed,
            named_at: Vec::new(),
            unlisted: 0,
            readers: Readers::default(),
            board,
            board_file,
        })
    }

    /// What a client maps with [`Board::map`].
    pub fn board_file(&self) -> BorrowedFd<'_> {
        self.board_file.as_fd()
    }

    /// A block begins to grow at `offset` whose writer says nothing on the board. To be called before it is listed.
    pub fn begin_unsaid(&self, offset: u64) {
        self.board.forget(offset);
    }

    /// The growing block at `offset`, called `key`, will never be whole.
    pub fn lose(&self, key: &Key, offset: u64) {
        self.board.lose(offset);
        self.board.ring(key);
    }

    /// Those who read what is listed.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Those who read what is listed, to let them in and out.
    pub fn readers_mut(&mut self) -> &mut Readers {
        &mut self.readers
    }

    /// From now on what is not found is not known to be absent, and the worker is asked: others may hold it.
    pub fn leave_absence_open(&mut self) {
        self.unlisted += 1;
        self.tell_unlisted();
    }

    /// Takes back one [`leave_absence_open`](Self::leave_absence_open).
    pub fn settle_absence(&mut self) {
        self.unlisted -= 1;
        self.tell_unlisted();
    }

    /// What a block that may be found until `at` is listed with.
    pub fn deadline(&self, at: Option<Instant>) -> Deadline {
        self.epoch.deadline(at)
    }

    /// Lists a block under the entry numbered `number`, which lists none. It may be found from now on; where there is
    /// no room for it, it is counted as unlisted.
    pub fn list(&mut self, number: usize, listing: &Listing) {
        if self.named_at.len() <= number {
            self.named_at.resize(number + 1, 0);
        }
        let listed = self.layout.entries().get(number).filter(|_| listing.len < Listing::MAX_LEN);
        let vacant = listed.and_then(|_| self.vacant_word(&listing.key));
        let (Some(entry), Some((at, tag))) = (listed, vacant) else {
            self.unlisted += 1;
            self.tell_unlisted();
            self.board.ring(&listing.key);
            return;
        };
        entry.write(listing);
        self.word(at).store(tag << (u64::BITS - TAG_BITS) | (number as u64 + 1), Ordering::Release);
        self.named_at[number] = at + 1;
        self.board.ring(&listing.key);
    }

    /// Says what is new about a block that was listed under `number`.
    pub fn update(&mut self, number: usize, listing: &Listing) {
        if self.is_listed(number) {
            self.layout.entries()[number].write(listing);
            self.board.ring(&listing.key);
        }
    }

    /// Takes the block that was listed under `number` off the list. Who finds it no more cannot pin it; who has pinned
    /// it is found by [`Readers::held`] from now on.
    pub fn delist(&mut self, number: usize) {
        if !self.is_listed(number) {
            self.unlisted -= 1;
            self.tell_unlisted();
            return;
        }
        let entry = &self.layout.entries()[number];
        let was = entry.read();
        entry.clear();
        let at = std::mem::take(&mut self.named_at[number]) - 1;
        self.word(at).store(0, Ordering::Release);
        if let EntryRead::Listed(was) = was {
            self.board.ring(&was.key);
        }
    }

    /// Tells readers whether room is wanted.
    pub fn want_room(&self, is_wanted: bool) {
        self.layout.header().room_wanted.store(u32::from(is_wanted), Ordering::Relaxed);
    }

    fn is_listed(&self, number: usize) -> bool {
        self.named_at.get(number).is_some_and(|at| *at != 0)
    }

    /// The number of a free word for `key`, and its tag: in its first bucket while that is not half full, which spares
    /// readers and this a look at the second; else in the emptier.
    fn vacant_word(&self, key: &Key) -> Option<(usize, u64)> {
        let buckets = self.layout.buckets();
        let places = Places::of(key, self.seed, buckets.len());
        let vacant_in = |bucket: usize| {
            let words = buckets[bucket].iter().enumerate();
            let mut vacant = words.filter(|(_, word)| word.load(Ordering::Relaxed) == 0).map(|(at, _)| at);
            let first = vacant.next().map(|at| bucket * WORDS + at);
            first.map(|at| (1 + vacant.count(), at))
        };
        let [first, second] = places.buckets;
        let at = match vacant_in(first) {
            Some((count, at)) if count > WORDS / 2 => Some(at),
            vacant => vacant.max(vacant_in(second)).map(|(_, at)| at),
        };
        at.map(|at| (at, places.tag))
    }

    fn word(&self, at: usize) -> &crate::sync::AtomicU64 {
        &self.layout.buckets()[at / WORDS][at % WORDS]
    }

    fn tell_unlisted(&self) {
        self.layout.header().unlisted.store(self.unlisted, Ordering::Release);
    }
}

impl AsFd for Index {
    /// What a client maps with [`View::map`](crate::View::map).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn random_seed() -> u64 {
    let mut seed = [0; 8];
    // Without randomness the seed is a constant, which costs protection against crafted keys and nothing else.
    let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(seed)
}
