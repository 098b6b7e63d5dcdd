//! A worker that goes on in another process: its arena, its blocks, its doors and its clients are handed over.
//!
//! The new process asks at a socket in the run directory. The old one pauses, tells everything that it knows, and lets go
//! when the other says that it can go on; until then it can take all of it back, whatever becomes of the other.
//! `docs/design/restart.md` says why nobody's bytes change meanwhile.
//!
//! ```text
//! new                                 old
//! Ask { address, shared_memory } ->        is refused, or: doors and sessions pause, the pool is locked, readers are shown nothing
//!                                     <-  Legacy { all that is known } + arena, board, doors, lock
//!                                     <-  Files: the socket and the pins of each client, some at a time
//! Ready                           ->        or an error, or silence: the old one goes on as if nothing had been
//!                                     <-  Yours: from here on the new one serves
//!                                     <-  Left: the old one has left its cluster and ended its threads
//!                                     <-  the end of the conversation: nothing in the old process touches the arena any more
//! ```
//!
//! - `message`: what is said, checked before use;
//! - `channel`: a socket on which messages and descriptors travel, with deadlines;
//! - `give`: the old worker's side; `take`: the new worker's; `settle`: what the new one does when the old one has gone.

mod channel;
mod error;
mod give;
mod message;
mod settle;
mod take;

use std::os::fd::OwnedFd;

use chariot_pool::OwnerId;

pub(crate) use channel::{Channel, Wake};
pub use error::HandoverError;
pub(crate) use give::{Giver, Giving};
pub(crate) use message::Message;
#[cfg(fuzzing)]
pub(crate) use message::trial;
pub(crate) use settle::{Settling, Unsettled};
pub(crate) use take::Inheritance;

use crate::shared::SessionFacts;

/// Whether a worker serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Course {
    /// It does.
    Serving,
    /// It may be about to go on elsewhere, for the so-many-eth time: whoever is between two requests stays there, and
    /// says so each time.
    Pausing(u64),
    /// It goes on elsewhere, and whatever is still done here is of no consequence.
    Gone,
}

/// A client's session between two requests, with what it takes to go on with it.
pub(crate) struct PausedSession {
    pub(crate) owner: OwnerId,
    pub(crate) facts: SessionFacts,
    pub(crate) socket: OwnedFd,
    /// What was received and is no whole request yet.
    pub(crate) received: Vec<u8>,
}
