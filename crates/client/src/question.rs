//! [`Question`]: a question about keys whose answer is collected later.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use chariot_pool::Prefix;
use chariot_wire::{Reply, Request};

use crate::ClientError;
use crate::connection::Connection;
use crate::mailbox::Waited;

/// A question that was sent and may not be answered yet. Dropping it cancels it.
#[must_use = "a question that is dropped is cancelled"]
pub struct Question<T> {
    connection: Arc<Connection>,
    state: State<T>,
}

/// Asks how many leading keys are there.
pub type PendingPrefix = Question<Prefix>;

/// Asks which keys are there, whole: one entry a key.
pub type PendingExists = Question<Vec<bool>>;

enum State<T> {
    Asked(Asked<T>),
    Answered(Result<T, ClientError>),
    /// The answer has been handed on.
    Over,
}

struct Asked<T> {
    what: &'static str,
    request: u64,
    read: Box<dyn FnOnce(Reply<'_>) -> Option<T> + Send + Sync>,
    /// A worker that has not answered by then is given up.
    answered_by: Instant,
}

impl<T> Question<T> {
    /// A question that needs not be asked.
    pub(crate) fn answered(connection: Arc<Connection>, answer: T) -> Self {
        Self { connection, state: State::Answered(Ok(answer)) }
    }

    /// Sends the question. `read` takes what can be the answer to it.
    pub(crate) fn ask(
        connection: Arc<Connection>,
        what: &'static str,
        request: &Request<'_>,
        read: impl FnOnce(Reply<'_>) -> Option<T> + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        let request = connection.start(request, &[])?;
        let answered_by = Instant::now() + connection.request_timeout();
        let state = State::Asked(Asked { what, request, read: Box::new(read), answered_by });
        Ok(Self { connection, state })
    }

    /// Whether the answer is here, so that [`Question::wait`] returns at once. Does not wait.
    pub fn is_ready(&mut self) -> bool {
        if let State::Asked(asked) = &self.state {
            let waited = self.connection.poll_for(asked.request);
            self.settle(waited);
        }
        !matches!(self.state, State::Asked(_))
    }

    /// The answer, if it comes before `deadline`. `Err(self)` hands the question back when it does not.
    pub fn wait_until(mut self, deadline: Instant) -> Result<Result<T, ClientError>, Self> {
        if let State::Asked(asked) = &self.state {
            let waited = self.connection.wait_for(asked.request, deadline.min(asked.answered_by));
            self.settle(waited);
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Answered(answer) => Ok(answer),
            state => {
                self.state = state;
                Err(self)
            }
        }
    }

    /// The answer.
    pub fn wait(self) -> Result<T, ClientError> {
        let (deadline, what) = match &self.state {
            State::Asked(asked) => (asked.answered_by, asked.what),
            State::Answered(_) | State::Over => (Instant::now(), "question"),
        };
        self.wait_until(deadline).unwrap_or_else(|_late| Err(ClientError::TimedOut { what }))
    }

    fn settle(&mut self, waited: Waited) {
        let State::Asked(asked) = std::mem::replace(&mut self.state, State::Over) else { return };
        let answer = match waited {
            Waited::Answer(answer) => self.connection.decode(asked.what, answer, |reply, _payload| (asked.read)(reply)),
            Waited::End => Err(self.connection.unavailable()),
            Waited::TimedOut if Instant::now() < asked.answered_by => {
                self.state = State::Asked(asked);
                return;
            }
            Waited::TimedOut => {
                tracing::warn!(what = asked.what, "data worker did not answer in time, reconnecting");
                self.connection.end();
                Err(ClientError::TimedOut { what: asked.what })
            }
        };
        self.state = State::Answered(answer);
    }
}

impl<T> Drop for Question<T> {
    fn drop(&mut self) {
        if let State::Asked(asked) = &self.state {
            self.connection.cancel(asked.request);
        }
    }
}

impl<T> fmt::Debug for Question<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Asked(asked) => asked.what,
            State::Answered(_) => "answered",
            State::Over => "over",
        };
        f.debug_struct("Question").field("state", &state).finish_non_exhaustive()
    }
}
