//! [`ProgressWord`]: how far a growing block is, in a word that its writer's process stores and readers load.

use crate::sync::{AtomicU64, Ordering};

/// How far the writer of a growing block says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grown {
    /// So many bytes are final.
    To(u64),
    /// All of them are.
    Whole,
    /// The rest will never come.
    Lost,
}

/// One word: 30 bits of the place that it is about, 2 of state, 32 of length. Zero is about no place.
#[repr(transparent)]
pub(crate) struct ProgressWord(AtomicU64);

const TAG_SHIFT: u32 = 34;
const STATE_SHIFT: u32 = 32;
const LEN: u64 = (1 << STATE_SHIFT) - 1;

const GROWING: u64 = 1;
const WHOLE: u64 = 2;
const LOST: u64 = 3;

impl ProgressWord {
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A block of which nothing is final begins at the place tagged `tag`; what the word said before is forgotten.
    pub(crate) fn begin(&self, tag: u64) {
        // An exchange and no store: loom lets exchanges miss a store that was made before them.
        self.0.swap(word(tag, GROWING, 0), Ordering::Release);
    }

    /// The block has grown `from` what was said last. Does nothing when the word is about another place by now.
    pub(crate) fn grow(&self, tag: u64, from: u64, to: Grown) {
        let next = match to {
            Grown::To(len) => word(tag, GROWING, len),
            Grown::Whole => word(tag, WHOLE, 0),
            Grown::Lost => word(tag, LOST, 0),
        };
        // Release: who sees that bytes are final sees the bytes.
        let _ = self.0.compare_exchange(word(tag, GROWING, from), next, Ordering::Release, Ordering::Relaxed);
    }

    /// The writer of the block at the place tagged `tag` is gone. For the worker.
    pub(crate) fn lose(&self, tag: u64) {
        let lost = |now| (now >> TAG_SHIFT == tag && state(now) == GROWING).then(|| word(tag, LOST, 0));
        let _ = self.0.fetch_update(Ordering::Release, Ordering::Relaxed, lost);
    }

    /// Forgets what was said of the place tagged `tag`.
    pub(crate) fn forget(&self, tag: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now >> TAG_SHIFT == tag).then_some(0));
    }

    /// How far the block at the place tagged `tag` is; `None` when the word is about another.
    pub(crate) fn read(&self, tag: u64) -> Option<Grown> {
        let now = self.0.load(Ordering::Acquire);
        if now >> TAG_SHIFT != tag {
            return None;
        }
        match state(now) {
            GROWING => Some(Grown::To(now & LEN)),
            WHOLE => Some(Grown::Whole),
            LOST => Some(Grown::Lost),
            _ => None,
        }
    }
}

fn word(tag: u64, state: u64, len: u64) -> u64 {
    tag << TAG_SHIFT | state << STATE_SHIFT | len & LEN
}

fn state(word: u64) -> u64 {
    word >> STATE_SHIFT & 0b11
}
