//! Atomics that count, so that a test can end its process right before any one of them.
//!
//! What others see of a process that shares memory changes with its stores and with nothing in between: one that ends
//! before each of them in turn has ended at every step that there is.

use std::sync::atomic::{self, AtomicI64, Ordering};

/// How many steps are left; negative when the process is to live.
static LEFT: AtomicI64 = AtomicI64::new(i64::MIN);

/// Ends this process, as if it were killed, right before its step number `step` from now on, counted from 0.
pub fn die_at(step: u32) {
    LEFT.store(step.into(), Ordering::SeqCst);
}

/// One more access to shared memory.
fn step() {
    if LEFT.fetch_sub(1, Ordering::SeqCst) == 0 {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

pub(crate) fn fence(order: Ordering) {
    step();
    atomic::fence(order);
}

macro_rules! counted {
    ($name:ident, $word:ty) => {
        #[repr(transparent)]
        #[derive(Debug)]
        pub(crate) struct $name(pub(crate) atomic::$name);

        impl $name {
            pub(crate) fn load(&self, order: Ordering) -> $word {
                step();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $word, order: Ordering) {
                step();
                self.0.store(value, order);
            }

            #[allow(dead_code, reason = "not every width is swapped")]
            pub(crate) fn swap(&self, value: $word, order: Ordering) -> $word {
                step();
                self.0.swap(value, order)
            }

            #[allow(dead_code, reason = "not every width is added to")]
            pub(crate) fn fetch_add(&self, value: $word, order: Ordering) -> $word {
                step();
                self.0.fetch_add(value, order)
            }

            #[allow(dead_code, reason = "not every width has bits")]
            pub(crate) fn fetch_or(&self, value: $word, order: Ordering) -> $word {
                step();
                self.0.fetch_or(value, order)
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                update: impl FnMut($word) -> Option<$word>,
            ) -> Result<$word, $word> {
                step();
                self.0.fetch_update(set, fetch, update)
            }

            #[allow(dead_code, reason = "not every width is compared")]
            pub(crate) fn compare_exchange(
                &self,
                current: $word,
                new: $word,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$word, $word> {
                step();
                self.0.compare_exchange(current, new, success, failure)
            }
        }
    };
}

counted!(AtomicU32, u32);
counted!(AtomicU64, u64);
