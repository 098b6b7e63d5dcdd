//! [`ClientError`]: why a call was not carried out. A miss is not among them: it is an answer.

use std::io;

use chariot_pool::{MappingError, OutsideArena};
use chariot_types::WorkerAddress;
use chariot_wire::WireError;

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection to the worker at the moment. A background thread looks for it.
    #[error("the data worker at `{address}` cannot be reached")]
    Unavailable {
        /// Where the worker was looked for.
        address: WorkerAddress,
        /// What the last attempt to connect ran into, if there was one.
        source: Option<io::Error>,
    },
    /// The worker has tenants, and this client is none of theirs.
    #[error("the data worker at `{address}` does not let this client in: {text}")]
    Stranger {
        /// Where the worker is.
        address: WorkerAddress,
        /// The worker's words.
        text: String,
    },
    /// The pool is full of blocks that are pinned, growing or granted.
    #[error("the pool has no room for `{asked}` bytes: what fills it is pinned or still written")]
    NoRoom {
        /// Bytes that were needed.
        asked: u64,
    },
    /// The block is larger than the whole pool.
    #[error("a block of `{asked}` bytes can never fit: {text}")]
    TooLarge {
        /// Bytes that were needed.
        asked: u64,
        /// The worker's words, with the pool's size.
        text: String,
    },
    /// The deadline passed.
    #[error("`{what}` was not answered before its deadline")]
    TimedOut {
        /// The call.
        what: &'static str,
    },
    /// More entries than one message can hold.
    #[error("a batch of `{count}` is too large: at most 65,536 fit one call")]
    BatchTooLarge {
        /// Entries in the batch.
        count: usize,
    },
    /// The worker refused for another reason.
    #[error("the data worker refused: {text}")]
    Refused {
        /// The worker's words.
        text: String,
    },
    /// The worker sent what is no message.
    #[error("the data worker sent an unusable answer")]
    Protocol {
        /// What is wrong with it.
        #[from]
        source: WireError,
    },
    /// The worker's answer does not answer the question, or not in this way.
    #[error("the data worker answered `{what}` with something else")]
    WrongAnswer {
        /// The call.
        what: &'static str,
    },
    /// The worker's arena could not be mapped.
    #[error("the worker's shared memory cannot be used")]
    Arena {
        /// Why.
        #[from]
        source: MappingError,
    },
    /// The worker named bytes outside of its arena.
    #[error("the data worker named memory that it does not have")]
    OutsideArena {
        /// Which.
        #[from]
        source: OutsideArena,
    },
    /// The system refused what a client needs (a thread, a descriptor).
    #[error("the client cannot run here")]
    System {
        /// Why.
        source: io::Error,
    },
}

impl ClientError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoRoom { .. } | Self::TimedOut { .. })
    }
}
