//! [`Bell`]: a word to sleep on until something is rung that may be what one waits for.
//!
//! One word is all there is: the number of rings, and one bit that says that someone may be asleep. Who rings clears the
//! bit, so a sleeper that is killed costs others one needless wake-up and no more.

use std::time::Instant;

use crate::sync::{AtomicU32, Ordering, fence, sleep_on, wake_all};

/// Someone may be asleep on the word.
const AWAITED: u32 = 1;

/// One ring more.
const RING: u32 = 2;

/// A word to sleep on. Zero is a bell that nobody waits for.
#[repr(transparent)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Says that someone is about to wait, and returns the word to wait on: what happens from here on rings it. Between
    /// this and sleeping, look whether it has happened.
    pub(crate) fn await_ring(&self) -> u32 {
        let before = self.0.fetch_or(AWAITED, Ordering::Relaxed);
        // Before looking; who rings has one between what happened and its look at the bit.
        fence(Ordering::SeqCst);
        before | AWAITED
    }

    /// Tells those who wait that something has happened, which was stored before. Whether there is anyone to wake.
    pub(crate) fn ring(&self) -> bool {
        // After what happened, before looking; who waits has one between setting the bit and its look.
        fence(Ordering::SeqCst);
        if self.0.load(Ordering::Relaxed) & AWAITED == 0 {
            return false;
        }
        self.ring_awaited()
    }

    fn ring_awaited(&self) -> bool {
        let rung = |word: u32| (word & AWAITED != 0).then(|| (word & !AWAITED).wrapping_add(RING));
        // Someone else rang in between, and wakes who was there.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rung).is_ok()
    }

    /// The word as it is now.
    #[cfg(all(test, loom))]
    pub(crate) fn word(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps until the word is no longer `word`, or `deadline`; may return early. Whether the word is another.
    pub(crate) fn sleep(&self, word: u32, deadline: Instant) -> bool {
        sleep_on(&self.0, word, deadline.saturating_duration_since(Instant::now()));
        // Who else came to sleep has set the bit again, and not changed the number.
        self.0.load(Ordering::Relaxed) | AWAITED != word
    }

    /// Whether someone may be asleep now. A guess: who is about to sleep may not be seen.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.load(Ordering::Relaxed) & AWAITED != 0
    }

    /// Wakes all who sleep.
    pub(crate) fn wake(&self) {
        wake_all(&self.0);
    }
}
