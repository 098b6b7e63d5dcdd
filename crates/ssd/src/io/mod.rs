//! [`Engine`]: reads and writes of the file that go on while the thread that started them does other things.
//!
//! Buffers move in with an operation and come back with its result. There are two engines, and one suite of tests for
//! both (`conformance`): io_uring, and threads that each do one read or write at a time, for where io_uring is
//! forbidden.

mod choose;
#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod injecting;
mod operation;
mod threads;
mod uring;

use std::sync::Arc;
use std::time::Instant;

pub(crate) use choose::choose;
pub(crate) use operation::{Buffer, Done, Operation, Way};

/// Reads and writes of one file. Belongs to one thread.
///
/// Dropped with operations that are not done, it forgets them with their buffers: the kernel may still use those.
pub(crate) trait Engine {
    /// Begins an operation, at the latest with the next [`Engine::wait`].
    fn start(&mut self, operation: Operation);

    /// Waits until operations are done, someone rings the bell, or it is `until`; adds what is done to `done`.
    fn wait(&mut self, until: Instant, done: &mut Vec<Done>);

    /// What ends a wait.
    fn bell(&self) -> Arc<dyn Bell>;

    /// What it is called in logs and figures.
    fn name(&self) -> &'static str;
}

/// Ends an engine's wait from another thread; rung while nobody waits, it ends the next one.
pub(crate) trait Bell: Send + Sync {
    /// Rings.
    fn ring(&self);
}
