//! [`Host`]: what a worker does about what other workers say.
//!
//! Calls come from the tasks of connections, hold no lock of the fabric, and must not wait.

use std::sync::Arc;

use chariot_types::{Key, RunId};
use chariot_wire::{PeerBlock, PeerMessage, Pull};

use crate::connection::Connection;
use crate::stream::{Sink, Source};

/// What a worker does about what other workers say.
pub trait Host: Send + Sync + 'static {
    /// Another wants a block: to be answered through `asker`, now or later.
    fn pull(&self, asker: Asker, pull: Pull);

    /// What was [pulled](crate::Fabric::pull) from `from` is coming: where its bytes go, or `None` when they are not wanted
    /// any more.
    fn opened(&self, from: RunId, block: &PeerBlock<'_>) -> Option<Box<dyn Sink>>;

    /// What was pulled from `from` has come to an end.
    fn ended(&self, from: RunId, key: Key, end: PullEnd);

    /// Another sends a block unasked: where its bytes go, or `None` when they are not wanted.
    fn offered(&self, from: RunId, block: &PeerBlock<'_>) -> Option<Box<dyn Sink>>;

    /// Another holds these.
    fn announced(&self, from: RunId, keys: &[Key]);

    /// Another does not hold these any more.
    fn withdrawn(&self, from: RunId, keys: &[Key]);

    /// What `from` has announced counts no more: it announces anew, or is gone. Told when a control channel of its has
    /// ended, before anything is heard over the next one.
    fn forget(&self, from: RunId);

    /// There is a new control channel to `to`, over which nothing is announced yet.
    fn reached(&self, to: RunId);

    /// Who holds these keys: one entry a key.
    fn holders(&self, keys: &[Key]) -> Vec<Option<RunId>>;

    /// Withdraws these keys from what is held here: one entry a key, whether it was there.
    fn delete(&self, keys: &[Key]) -> Vec<bool>;
}

/// How a pull ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PullEnd {
    /// The block is here, whole.
    Whole,
    /// The block that was coming will never be whole.
    Lost,
    /// It was not wanted when it came.
    Declined,
    /// Another has it.
    Elsewhere(RunId),
    /// Nobody has it.
    Miss,
    /// Whoever was asked is gone, or cannot be reached.
    Gone,
}

/// Another worker that wants a block, and is to be told, once. Answers to one that is gone, or has lost interest, go
/// nowhere; when all clones are dropped without one, the answer is a miss.
#[derive(Clone, Debug)]
pub struct Asker {
    owed: Arc<Owed>,
}

#[derive(Debug)]
struct Owed {
    connection: Arc<Connection>,
    stream: u64,
}

impl Asker {
    pub(crate) fn new(connection: Arc<Connection>, stream: u64) -> Self {
        Self { owed: Arc::new(Owed { connection, stream }) }
    }

    /// Which worker it is.
    pub fn run(&self) -> RunId {
        self.owed.connection.peer()
    }

    /// Here is the block.
    pub fn open(&self, block: &PeerBlock<'_>, source: Box<dyn Source>) {
        let Owed { connection, stream } = &*self.owed;
        connection.outbox.answer(connection, *stream, &PeerMessage::Open(*block), source);
    }

    /// Another has it.
    pub fn elsewhere(&self, holder: RunId) {
        self.owed.refuse(&PeerMessage::Elsewhere(holder));
    }

    /// Nobody has it.
    pub fn miss(&self) {
        self.owed.refuse(&PeerMessage::Miss);
    }
}

impl Owed {
    fn refuse(&self, message: &PeerMessage<'_>) {
        self.connection.outbox.refuse(self.stream, message);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.refuse(&PeerMessage::Miss);
    }
}
