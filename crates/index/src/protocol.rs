//! The protocol under loom: every order in which its threads can run with up to two preemptions, and every value that a
//! load may see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p chariot-index --release protocol`. Entries, slots and looks are the real ones;
//! only the memory is loom's.

use chariot_types::Key;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::deadline::Deadline;
use crate::entry::{Entry, EntryRead, Listing};
use crate::pin_table::{Slot, held_in, is_room_wanted};
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
