//! [`PendingGet`]: a get whose answer is collected later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_types::Key;
use chariot_wire::Reply;

use crate::connection::Connection;
use crate::mailbox::{Answer, Waited};
use crate::{Block, ClientError};

/// A get that was sent and not yet answered. Dropping it cancels it.
#[must_use = "a get that is dropped is cancelled"]
pub struct PendingGet {
    connection: Arc<Connection>,
    keys: Vec<Key>,
    /// The request whose answer is still to come.
    request: Option<u64>,
    result: Option<Result<Vec<Option<Block>>, ClientError>>,
    /// When the worker answers at the latest.
    answered_by: Instant,
}

impl PendingGet {
    pub(crate) fn new(connection: Arc<Connection>, keys: Vec<Key>, request: u64, wait: Duration) -> Self {
        let answered_by = Instant::now() + wait + connection.request_timeout();
        Self { connection, keys, request: Some(request), result: None, answered_by }
    }

    /// Whether the result is here, so that [`PendingGet::wait`] returns at once. Does not wait.
    pub fn is_ready(&mut self) -> bool {
        if let Some(request) = self.request {
            let waited = self.connection.poll_for(request);
            self.settle(waited);
        }
        self.request.is_none()
    }

    /// The blocks, if they come before `deadline`: one entry a key, `None` for a miss. `Err(self)` hands the pending
    /// get back when they do not.
    pub fn wait_until(mut self, deadline: Instant) -> Result<Result<Vec<Option<Block>>, ClientError>, Self> {
        if let Some(request) = self.request {
            let waited = self.connection.wait_for(request, deadline.min(self.answered_by));
            self.settle(waited);
        }
        self.result.take().ok_or(self)
    }

    /// The blocks: one entry a key, `None` for a miss.
    pub fn wait(self) -> Result<Vec<Option<Block>>, ClientError> {
        let deadline = self.answered_by;
        self.wait_until(deadline).unwrap_or_else(|_late| Err(ClientError::TimedOut { what: "get" }))
    }

    fn settle(&mut self, waited: Waited) {
        let result = match waited {
            Waited::Answer(answer) => blocks(&self.connection, &self.keys, answer),
            Waited::End => Err(self.connection.unavailable()),
            Waited::TimedOut if Instant::now() < self.answered_by => return,
            Waited::TimedOut => {
                self.connection.end();
                Err(ClientError::TimedOut { what: "get" })
            }
        };
        self.request = None;
        self.result = Some(result);
    }
}

impl Drop for PendingGet {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.connection.cancel(request);
        }
    }
}

/// The blocks that an answer to a get tells of.
fn blocks(connection: &Arc<Connection>, keys: &[Key], answer: Answer) -> Result<Vec<Option<Block>>, ClientError> {
    connection.decode("get", answer, |reply, payload| match reply {
        Reply::Blocks(records) if records.len() == keys.len() => {
            let (payload, mut taken) = (Arc::new(payload), 0);
            let pairs = keys.iter().zip(records);
            let blocks = pairs.map(|(key, record)| Block::from_record(connection, *key, record, &payload, &mut taken));
            Some(blocks.collect())
        }
        _ => None,
    })?
}
