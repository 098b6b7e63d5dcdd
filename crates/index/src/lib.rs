//! The index that a worker shares with the clients on its host, and the pins by which they hold what they read.
//!
//! The worker lists every published block in an [`Index`], which clients see through a [`View`] that they cannot write.
//! A client pins a block by writing its id into [`Pins`], memory that it shares with the worker alone; the worker asks
//! its [`Readers`] before it frees bytes. How far a growing block is, its writer tells those who read it directly, on a
//! [`Board`], and wakes those who wait. No message passes in any of this, and no system call but the one that wakes. The
//! protocol, with every memory order and every point at which a process may die, is written in
//! `docs/design/shared-index.md`.
//!
//! Knows neither sockets nor the life of blocks: a block is a key, an id that is never used again, and a place in the
//! arena. Under `cfg(loom)` the atomics are loom's, and `protocol.rs` runs the protocol in all its orders.

mod bell;
mod board;
mod deadline;
mod entry;
mod hash;
mod index;
mod layout;
mod memory;
mod pin_table;
mod pins;
mod progress;
mod readers;
#[cfg(feature = "steps")]
pub mod steps;
mod sync;
mod view;

pub use board::{Board, Listening, Woken};
pub use deadline::Epoch;
pub use entry::Listing;
pub use index::Index;
pub use memory::MemoryError;
pub use pins::{Held, Pinning, Pins, Want};
pub use progress::Grown;
pub use readers::{HeldBlocks, Readers, ReadersTally};
pub use view::{Found, View};

#[cfg(test)]
mod tests;

#[cfg(all(test, loom))]
mod protocol;
