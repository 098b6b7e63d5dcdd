//! The protocol under loom: every order in which its threads can run with up to two preemptions, and every value that a
//! load may see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p chariot-index --release protocol`. Entries, slots and looks are the real ones;
//! only the memory is loom's.

use chariot_types::Key;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::bell::Bell;
use crate::deadline::Deadline;
use crate::entry::{Entry, EntryRead, Listing};
use crate::pin_table::{Slot, held_in, is_room_wanted};
use crate::progress::{Grown, ProgressWord};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Runs `test` in all orders with up to two preemptions: without a bound, two of these did not end within minutes.
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(test);
}

/// A block whose fields all follow from its id.
fn listing(block: u64) -> Listing {
    Listing {
        key: Key::from_bytes([block as u8; Key::LEN]),
        block,
        offset: 64 * block,
        len: block,
        readable: block,
        sealed: true,
        deadline: Deadline::default(),
    }
}

/// One place of an arena, the entry that tells of what is in it, and one reader's slot.
struct Shared {
    entry: Entry,
    slots: [Slot; 2],
    bytes: UnsafeCell<u64>,
}

// SAFETY: the bytes are what the model is about: loom fails it if two threads use them without an order.
unsafe impl Sync for Shared {}

impl Shared {
    fn with_block(block: u64) -> Arc<Self> {
        let shared = Self { entry: Entry::empty(), slots: [Slot::free(), Slot::free()], bytes: UnsafeCell::new(block) };
        shared.entry.write(&listing(block));
        Arc::new(shared)
    }

    /// Finds, pins, reads and lets go; whether there was something to read.
    fn read_with(&self, slot: &Slot) -> bool {
        let Some(EntryRead::Listed(found)) = self.entry.try_read() else { return false };
        let Some(now) = slot.pin(&self.entry, &found) else { return false };
        // SAFETY: the block is pinned, which is what the model is to show.
        let byte = self.bytes.with(|bytes| unsafe { *bytes });
        assert_eq!(byte, now.block, "bytes of another block");
        slot.release();
        true
    }
}

#[test]
fn pinned_bytes_are_never_reused() {
    model(|| {
        let shared = Shared::with_block(1);
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.read_with(&shared.slots[0]))
        };
        shared.entry.clear();
        if !held_in(shared.slots.iter()).contains(&1) {
            // SAFETY: nobody reads them, which is what the model is to show.
            shared.bytes.with_mut(|bytes| unsafe { *bytes = 2 });
        }
        reader.join().unwrap();
    });
}

#[test]
fn two_readers_of_one_block_are_both_seen() {
    model(|| {
        let shared = Shared::with_block(1);
        let readers = [0, 1].map(|slot: usize| {
            let shared = shared.clone();
            thread::spawn(move || shared.read_with(&shared.slots[slot]))
        });
        shared.entry.clear();
        if !held_in(shared.slots.iter()).contains(&1) {
            // SAFETY: nobody reads them, which is what the model is to show.
            shared.bytes.with_mut(|bytes| unsafe { *bytes = 2 });
        }
        readers.into_iter().for_each(|reader| {
            reader.join().unwrap();
        });
    });
}

#[test]
fn an_entry_is_never_read_in_two_halves() {
    model(|| {
        let shared = Shared::with_block(1);
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || shared.entry.write(&listing(2)))
        };
        if let Some(EntryRead::Listed(found)) = shared.entry.try_read() {
            assert!(found == listing(1) || found == listing(2), "{found:?}");
        }
        writer.join().unwrap();
    });
}

#[test]
fn who_lets_go_or_who_wants_room_sees_the_other() {
    model(|| {
        let shared = Shared::with_block(1);
        let wanted = Arc::new(AtomicU32::new(0));
        let found = listing(1);
        assert!(shared.slots[0].pin(&shared.entry, &found).is_some());
        let reader = {
            let (shared, wanted) = (shared.clone(), wanted.clone());
            thread::spawn(move || {
                shared.slots[0].release();
                is_room_wanted(&wanted)
            })
        };
        wanted.store(1, Ordering::Relaxed);
        let is_held = held_in(shared.slots.iter()).contains(&1);
        let tells = reader.join().unwrap();
        assert!(tells || !is_held, "the worker waits, and the reader says nothing");
    });
}

#[test]
fn a_reader_knows_that_its_pin_was_taken_away() {
    model(|| {
        let shared = Shared::with_block(1);
        // Atomic, because whose pin is taken away may read what is being written, as long as it finds out.
        let bytes = Arc::new(AtomicU64::new(1));
        let found = listing(1);
        assert!(shared.slots[0].pin(&shared.entry, &found).is_some());
        let worker = {
            let (shared, bytes) = (shared.clone(), bytes.clone());
            thread::spawn(move || {
                shared.entry.clear();
                shared.slots[0].revoke(1);
                assert!(!held_in(shared.slots.iter()).contains(&1));
                bytes.store(2, Ordering::Relaxed);
            })
        };
        let byte = bytes.load(Ordering::Relaxed);
        assert!(byte == 1 || !shared.slots[0].still_holds(1), "bytes of another block were taken for the block's");
        worker.join().unwrap();
    });
}

#[test]
#[should_panic]
fn without_its_fence_a_reader_is_overlooked() {
    // The model is worth something only if it finds this.
    model(|| {
        let shared = Shared::with_block(1);
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                let Some(EntryRead::Listed(found)) = shared.entry.try_read() else { return };
                if shared.slots[0].pin_without_fence(&shared.entry, &found) {
                    // SAFETY: none; this is the mistake.
                    assert_eq!(shared.bytes.with(|bytes| unsafe { *bytes }), 1);
                }
            })
        };
        shared.entry.clear();
        if !held_in(shared.slots.iter()).contains(&1) {
            // SAFETY: none; this is the mistake.
            shared.bytes.with_mut(|bytes| unsafe { *bytes = 2 });
        }
        fence(Ordering::SeqCst);
        reader.join().unwrap();
    });
}

#[test]
fn who_waits_is_woken_or_sees_what_has_happened() {
    model(|| {
        let shared = Arc::new((Bell::new(), AtomicU64::new(0)));
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.store(1, Ordering::Relaxed);
                shared.0.ring()
            })
        };
        let word = shared.0.await_ring();
        let has_happened = shared.1.load(Ordering::Relaxed) == 1;
        let wakes = writer.join().unwrap();
        // Who goes to sleep on a word that has changed is awake at once; on another it needs to be woken, and whoever
        // changes it does that.
        let would_sleep = shared.0.word() == word;
        assert!(has_happened || !would_sleep, "a reader sleeps, and nobody will wake it");
        assert!(wakes || shared.0.word() == word, "the word changed, and who slept on it is not woken");
    });
}

#[test]
fn of_two_who_ring_one_wakes() {
    model(|| {
        let bell = Arc::new(Bell::new());
        let word = bell.await_ring();
        let other = {
            let bell = bell.clone();
            thread::spawn(move || bell.ring())
        };
        let wake = [bell.ring(), other.join().unwrap()];
        assert!(wake[0] != wake[1] && bell.word() != word, "{wake:?}");
    });
}

#[test]
fn who_sees_that_bytes_are_final_sees_the_bytes() {
    model(|| {
        let progress = Arc::new(ProgressWord::new());
        progress.begin(7);
        let bytes = Arc::new(UnsafeCell::new(0u64));
        let writer = {
            let (progress, bytes) = (progress.clone(), Bytes(bytes.clone()));
            thread::spawn(move || {
                let Bytes(bytes) = &bytes;
                // SAFETY: nobody reads them before the word says so, which is what the model is to show.
                bytes.with_mut(|bytes| unsafe { *bytes = 9 });
                progress.grow(7, 0, Grown::Whole);
            })
        };
        if progress.read(7) == Some(Grown::Whole) {
            // SAFETY: they are final.
            assert_eq!(bytes.with(|bytes| unsafe { *bytes }), 9);
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_word_is_never_believed_of_another_block() {
    model(|| {
        let progress = Arc::new(ProgressWord::new());
        progress.begin(7);
        let other = {
            let progress = progress.clone();
            thread::spawn(move || progress.begin(8))
        };
        progress.grow(7, 0, Grown::Whole);
        let (own, others) = (progress.read(7), progress.read(8));
        assert!(matches!(own, None | Some(Grown::Whole)) && matches!(others, None | Some(Grown::To(0))));
        other.join().unwrap();
        assert_eq!((progress.read(7), progress.read(8)), (None, Some(Grown::To(0))));
    });
}

#[test]
fn a_writer_that_is_done_and_a_worker_that_gives_it_up_agree() {
    model(|| {
        let progress = Arc::new(ProgressWord::new());
        progress.begin(7);
        let worker = {
            let progress = progress.clone();
            thread::spawn(move || progress.lose(7))
        };
        progress.grow(7, 0, Grown::Whole);
        let seen = progress.read(7);
        worker.join().unwrap();
        assert!(matches!(seen, Some(Grown::Whole | Grown::Lost)) && progress.read(7) == seen, "{seen:?}");
    });
}

/// Bytes that two threads of a model use in an order that it is to show.
struct Bytes(Arc<UnsafeCell<u64>>);

// SAFETY: loom fails the model if two threads use them without an order.
unsafe impl Send for Bytes {}
