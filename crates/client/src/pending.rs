//! [`PendingGet`]: a get whose answer is collected later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_wire::Reply;

use crate::connection::Connection;
use crate::glance::Glance;
use crate::mailbox::{Answer, Waited};
use crate::{Block, ClientError};

/// A get that was sent and not yet answered. Dropping it cancels it.
#[must_use = "a get that is dropped is cancelled"]
pub struct PendingGet {
    connection: Arc<Connection>,
    /// What was found without asking, and what was asked for.
    glance: Option<Box<Glance>>,
    /// The request whose answer is still to come.
    request: Option<u64>,
    result: Option<Result<Vec<Option<Block>>, ClientError>>,
    /// When the worker answers at the latest.
    answered_by: Instant,
}

impl PendingGet {
    /// A get that has found everything.
    pub(crate) fn answered(connection: Arc<Connection>, blocks: Vec<Option<Block>>) -> Self {
        let (result, answered_by) = (Some(Ok(blocks)), Instant::now());
        Self { connection, glance: None, request: None, result, answered_by }
    }

    /// A get whose `request` asks for the keys that were not found, for up to `wait`.
    pub(crate) fn asked(connection: Arc<Connection>, glance: Glance, request: u64, wait: Duration) -> Self {
        let answered_by = Instant::now() + wait + connection.request_timeout();
        Self { connection, glance: Some(Box::new(glance)), request: Some(request), result: None, answered_by }
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
            Waited::Answer(answer) => {
                let glance = self.glance.take().map_or_else(Glance::default, |glance| *glance);
                complete(&self.connection, glance, answer)
            }
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

/// What was found, and beside it the blocks that an answer tells of.
fn complete(connection: &Arc<Connection>, glance: Glance, answer: Answer) -> Result<Vec<Option<Block>>, ClientError> {
    let Glance { mut blocks, unsure } = glance;
    connection.decode("get", answer, |reply, payload| match reply {
        Reply::Blocks(records) if records.len() == unsure.len() => {
            let (payload, mut taken) = (Arc::new(payload), 0);
            Some(unsure.iter().zip(records).try_for_each(|((place, key), record)| {
                blocks[*place] = Block::from_record(connection, *key, record, &payload, &mut taken)?;
                Ok::<_, ClientError>(())
            }))
        }
        _ => None,
    })??;
    Ok(blocks)
}
