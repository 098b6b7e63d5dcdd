//! [`HandoverError`]: why one worker does not go on for another.

use std::io;

use chariot_index::MemoryError;
use chariot_pool::{ArenaError, Unfit};

use super::message::VERSION;

/// Why one worker does not go on for another. The other goes on then.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Nobody hands anything over.
    #[error("no data worker that could be gone on for answers at `{socket}`")]
    Nobody {
        /// Where it was looked for.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// It would have tenants.
    #[error("a worker with tenants cannot go on in another process")]
    Tenants,
    /// The other worker says no.
    #[error("the running worker does not hand over: {reason}")]
    Refused {
        /// In its words.
        reason: String,
    },
    /// The two versions do not understand each other.
    #[error("the other worker hands over in version `{theirs}`, this one in version `{VERSION}`")]
    Version {
        /// The other's.
        theirs: u32,
    },
    /// It is no message, or out of place.
    #[error("the other worker sent what makes no sense here: {what}")]
    Nonsense {
        /// What is wrong.
        what: &'static str,
    },
    /// The other did not do what it was to do in time.
    #[error("the other worker took too long")]
    Late,
    /// A client cannot be paused.
    #[error("a client of this worker is in the midst of something for too long")]
    Busy,
    /// The other went.
    #[error("the other worker went away")]
    Gone,
    /// The conversation broke.
    #[error("cannot speak with the other worker")]
    Io {
        /// Why.
        source: io::Error,
    },
    /// What the other knows is not right.
    #[error(transparent)]
    Unfit {
        /// What is wrong.
        #[from]
        source: Unfit,
    },
    /// The arena that was handed over is none.
    #[error("cannot use the arena that was handed over")]
    Arena {
        /// Why.
        #[from]
        source: ArenaError,
    },
    /// The memory that was handed over is none that this version knows.
    #[error("cannot use the shared memory that was handed over")]
    Memory {
        /// Why.
        #[from]
        source: MemoryError,
    },
}

impl From<io::Error> for HandoverError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Self::Gone,
            _ => Self::Io { source },
        }
    }
}

impl From<rustix::io::Errno> for HandoverError {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}
