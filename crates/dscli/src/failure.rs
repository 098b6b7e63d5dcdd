//! [`Failure`]: why a command failed, and what the user can do about it.

use std::fmt::Display;

use chariot_client::{ClientError, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE};
use chariot_types::WorkerAddress;
use chariot_worker::WorkerError;

/// Why a command failed, and what the user can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was tried, for commands that tell success in a line of their own: `Start worker service @ ...`.
    pub(crate) task: Option<String>,
    /// What happened, with its causes.
    pub(crate) reason: anyhow::Error,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// What the shell gets.
    pub(crate) code: u8,
}

impl Failure {
    /// Something did not work.
    pub(crate) fn new(reason: impl Into<anyhow::Error>) -> Self {
        Self { task: None, reason: reason.into(), hint: None, code: 1 }
    }

    /// Something did not work, in words.
    pub(crate) fn text(text: impl Display) -> Self {
        Self::new(anyhow::anyhow!("{text}"))
    }

    /// The command line makes no sense.
    pub(crate) fn usage(text: impl Display) -> Self {
        Self { code: 2, ..Self::text(text) }
    }

    /// With what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// As the failure of `task`.
    pub(crate) fn of_task(self, task: &str) -> Self {
        Self { task: Some(task.to_owned()), ..self }
    }

    /// A worker that did not start.
    pub(crate) fn of_worker(error: WorkerError) -> Self {
        let hint = error.hint();
        Self { hint, ..Self::new(error) }
    }

    /// A worker that did not answer.
    pub(crate) fn of_client(error: ClientError, address: &WorkerAddress) -> Self {
        let hint = match &error {
            ClientError::Unavailable { .. } => {
                format!("start one with `dscli start -w --worker_address {address}`, or name another address")
            }
            ClientError::Stranger { .. } => {
                format!("name your tenant's token with {TOKEN_VARIABLE}, or a file with it with {TOKEN_FILE_VARIABLE}")
            }
            _ => "`dscli doctor` looks for what is wrong".to_owned(),
        };
        Self::new(error).hint(hint)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}
