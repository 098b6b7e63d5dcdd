//! Which workers of a cluster hold which block.
//!
//! Every key has one *owner* among the live workers, which [`owner()`] names and all agree on. A worker announces to the
//! owners what it holds; each owner keeps what it was told in a [`Directory`], answers look-ups from it, and enrols who
//! would wait for a key to appear.
//!
//! ```text
//!   holder                     owner of the key                        asker
//!     | -- announce -------------> Directory <----------- who holds it? --- |
//!     |                            knows it: ------------------ a run ----> |
//!     |                            does not, and the asker waits: enrol
//!     | -- announce -------------> Appeared ------------------- a run ----> |
//!     | -- withdraw, or gone ----> forgotten                     strike --- |
//! ```
//!
//! A directory may be wrong, and that is never fatal: a worker that does not have a block answers with a miss, and the
//! next holder is asked. Knowledge is only as old as the connection it came over, so nothing is stored or repaired here.
//!
//! No sockets, no clock, no lock (the caller has one), and no randomness: the same calls give the same answers in the
//! same order. Nothing here takes time that grows with the number of keys known; what must, the caller takes in steps
//! ([`Directory::sweep`]).

mod directory;
mod holders;
mod limits;
mod mix;
mod owner;
mod part;
mod table;
mod waits;

pub use directory::{Directory, Enrolment, Sweep};
pub use limits::{Counts, Limits};
pub use owner::owner;
pub use waits::{Appeared, Ticket};
