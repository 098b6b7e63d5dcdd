//! The second tier: blocks in a file, by direct I/O straight from and to the memory that they live in.
//!
//! Knows nothing of pools, clients or other workers: it is given blocks with the memory they lie in ([`Spill::store`]),
//! and gives them back into memory that it is handed ([`Spill::load`]). One thread of its own begins all reads and
//! writes; callers never wait for the disk. What the disk cannot keep up with is dropped and counted, what it does not
//! answer in time is a miss, and bytes that are not those that were written are a miss as well.
//!
//! The file says itself what it holds, so that it can be read again after a crash (`docs/design/ssd.md`):
//!
//! ```text
//!   | head | segment 0                                  | segment 1 ...
//!            | header | block ... | header | block ... |
//! ```
//!
//! Segments are filled one after the other, and the one filled first makes way when none is free.

// Tests of this crate and tests beside it share what they are made of.
#[cfg(test)]
extern crate self as chariot_ssd;

mod answer;
mod checksum;
mod config;
mod driver;
mod error;
mod file;
mod index;
mod io;
mod layout;
mod log;
mod memory;
mod pages;
mod record;
mod recovery;
mod spill;
mod state;
mod stats;

pub use answer::{Beginning, Closed, Held, Loaded, Recovered, Refusal, Stored, Wanted};
pub use config::{IoEngine, SpillConfig};
pub use error::SpillError;
pub use file::{spill_capacity, spill_path};
pub use memory::Memory;
pub use record::{Block, Head, HeadFound, Record, Standing};
pub use spill::Spill;
pub use stats::SpillStats;
