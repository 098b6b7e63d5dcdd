//! The atomics of the protocol: the processor's, or loom's when it is model-checked, or such as count for tests in which
//! processes die. And the kernel's futex, of which the model has none: it runs everything up to it.

use std::time::Duration;

#[cfg(feature = "steps")]
pub(crate) use crate::steps::{AtomicU32, AtomicU64, fence};
#[cfg(all(loom, not(feature = "steps")))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(any(not(loom), feature = "steps"))]
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(any(loom, feature = "steps")))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// Sleeps until someone wakes who sleeps on `word`, unless it is not `expected`; not for longer than `longest`, and maybe
/// less.
#[cfg(not(loom))]
pub(crate) fn sleep_on(word: &AtomicU32, expected: u32, longest: Duration) {
    use rustix::thread::futex::{Flags, Timespec, wait};
    let longest = Timespec { tv_sec: longest.as_secs().min(1 << 30) as i64, tv_nsec: longest.subsec_nanos().into() };
    // Woken, changed, over or interrupted: whoever sleeps looks again.
    let _ = wait(plain(word), Flags::empty(), expected, Some(&longest));
}

/// Wakes all who sleep on `word`, in any process.
#[cfg(not(loom))]
pub(crate) fn wake_all(word: &AtomicU32) {
    use rustix::thread::futex::{Flags, wake};
    let _ = wake(plain(word), Flags::empty(), i32::MAX as u32);
}

#[cfg(not(any(loom, feature = "steps")))]
fn plain(word: &AtomicU32) -> &AtomicU32 {
    word
}

#[cfg(all(not(loom), feature = "steps"))]
fn plain(word: &AtomicU32) -> &std::sync::atomic::AtomicU32 {
    &word.0
}

#[cfg(loom)]
pub(crate) fn sleep_on(_word: &AtomicU32, _expected: u32, _longest: Duration) {
    unreachable!("models end before anyone sleeps")
}

#[cfg(loom)]
pub(crate) fn wake_all(_word: &AtomicU32) {
    unreachable!("models end before anyone is woken")
}
