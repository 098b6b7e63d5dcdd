//! [`Connection`]: one channel between this worker and another, from before it is dialled to its end.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chariot_types::{Key, RunId};
use chariot_wire::{Channel, PeerMessage, Pull};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::counters::Counters;
use crate::host::{Host, PullEnd};
use crate::incoming::{Answer, Closed, Incoming};
use crate::outbox::Outbox;
use crate::reader::Reader;
use crate::transport::Link;
use crate::writer::write;
use crate::{FabricError, PATIENCE};

/// A control channel on which nothing was heard for this long is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(2);

/// One channel between this worker and another. What is said before the other side is reached waits in the outbox; when
/// it cannot be reached, all that was asked ends as [`PullEnd::Gone`].
pub(crate) struct Connection {
    peer: RunId,
    pub(crate) channel: Channel,
    pub(crate) outbox: Outbox,
    pub(crate) incoming: Incoming,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) counters: Arc<Counters>,
    next_id: AtomicU64,
    heard: Mutex<Instant>,
    ending: Notify,
}

impl Connection {
    pub(crate) fn new(peer: RunId, channel: Channel, host: Arc<dyn Host>, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            channel,
            outbox: Outbox::default(),
            incoming: Incoming::default(),
            host,
            counters,
            next_id: AtomicU64::new(1),
            heard: Mutex::new(Instant::now()),
            ending: Notify::new(),
        })
    }

    /// Which worker is at the other side.
    pub(crate) fn peer(&self) -> RunId {
        self.peer
    }

    /// A number for a stream or question of this side's. Only who dialled asks, so both sides agree on all numbers.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks for a block; how that ends, the host is told. The stream's number.
    pub(crate) fn pull(&self, pull: Pull) -> Result<u64, Closed> {
        let stream = self.next_id();
        self.incoming.ask(stream, pull.key)?;
        self.outbox.say_now(stream, &PeerMessage::Pull(pull));
        Ok(stream)
    }

    /// A pull that is not answered yet is not wanted any more. The host is not told of its end.
    pub(crate) fn stop(&self, stream: u64) {
        if self.incoming.take_asked(stream).is_some() {
            self.outbox.say(stream, &PeerMessage::Stop);
        }
    }

    /// Asks something on the control channel.
    pub(crate) fn question(&self, message: &PeerMessage<'_>) -> Result<oneshot::Receiver<Answer>, Closed> {
        let id = self.next_id();
        let answer = self.incoming.question(id)?;
        self.outbox.say_now(id, message);
        Ok(answer)
    }

    /// Ends the connection, soon. Lets nothing go by itself, so it can be called under the host's locks.
    pub(crate) fn end(&self) {
        self.outbox.close();
        self.ending.notify_one();
    }

    /// Returns when the connection is to end.
    pub(crate) async fn ending(&self) {
        self.ending.notified().await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.outbox.is_closed()
    }

    /// The other side has said something.
    pub(crate) fn note_heard(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Carries messages and bytes until the connection ends, for the reason returned. `early` bytes were received already.
    pub(crate) async fn carry(self: &Arc<Self>, link: Link, early: Vec<u8>) -> FabricError {
        self.note_heard();
        let Link { sender, receiver } = link;
        let reader = Reader::new(self.clone(), receiver, early);
        tokio::select! {
            biased;
            () = self.ending() => FabricError::Ended,
            error = reader.read() => error,
            error = write(self, sender) => error,
            error = self.watch_silence() => error,
        }
    }

    /// Lets everything go that belonged to the connection.
    fn finish(&self) {
        self.outbox.close();
        self.outbox.release();
        let (asked, lost) = self.incoming.close();
        asked.into_iter().for_each(|key| self.tell_end(key, PullEnd::Gone));
        lost.into_iter().for_each(|key| self.tell_end(key, PullEnd::Lost));
    }

    pub(crate) fn tell_end(&self, key: Key, end: PullEnd) {
        self.host.ended(self.peer, key, end);
    }

    /// Returns when a control channel has been silent for too long; data channels may be.
    async fn watch_silence(&self) -> FabricError {
        if self.channel != Channel::Control {
            return std::future::pending().await;
        }
        loop {
            let heard = *self.heard.lock();
            let silent = heard.elapsed();
            if silent >= PATIENCE {
                return FabricError::Silent { seconds: silent.as_secs() };
            }
            if silent < PING_AFTER {
                sleep_until(heard + PING_AFTER).await;
            } else {
                self.outbox.say(0, &PeerMessage::Ping);
                sleep_until(heard + PATIENCE).await;
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// A connection in the hands of whoever carries it. However that ends, with it ends all that belonged to the connection.
pub(crate) struct Carried(Arc<Connection>);

impl Carried {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self(connection)
    }
}

impl Deref for Carried {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.finish();
    }
}
