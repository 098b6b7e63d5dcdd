//! The client's errors as the exceptions of `chariot_ds.errors`.

use std::time::Duration;

use chariot_client::ClientError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::describe::describe;

/// The exceptions that the native part raises, by their names in `chariot_ds.errors`.
#[derive(Clone, Copy)]
enum Exception {
    ChariotError,
    Unavailable,
    TimedOut,
    NoRoom,
    TooLarge,
    Lost,
    Closed,
    Forked,
}

impl Exception {
    fn with(self, text: impl Into<String>) -> PyErr {
        let text = text.into();
        Python::attach(|py| match self.class(py) {
            Ok(class) => PyErr::from_type(class.clone(), (text,)),
            Err(error) => error,
        })
    }

    fn class(self, py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
        static CLASSES: [PyOnceLock<Py<PyType>>; 8] = [const { PyOnceLock::new() }; 8];
        let name = match self {
            Self::ChariotError => "ChariotError",
            Self::Unavailable => "Unavailable",
            Self::TimedOut => "TimedOut",
            Self::NoRoom => "NoRoom",
            Self::TooLarge => "TooLarge",
            Self::Lost => "Lost",
            Self::Closed => "Closed",
            Self::Forked => "Forked",
        };
        CLASSES[self as usize].import(py, "chariot_ds.errors", name)
    }
}

/// The exception that stands for `error`, with all causes in its text.
pub(crate) fn to_python(error: ClientError) -> PyErr {
    let exception = match &error {
        ClientError::Unavailable { .. } => Exception::Unavailable,
        ClientError::TimedOut { .. } => Exception::TimedOut,
        ClientError::NoRoom { .. } => Exception::NoRoom,
        ClientError::TooLarge { .. } => Exception::TooLarge,
        _ => Exception::ChariotError,
    };
    exception.with(describe(&error))
}

/// A wait for `what` that lasted its whole `timeout`.
pub(crate) fn timed_out(what: &str, timeout: Duration) -> PyErr {
    Exception::TimedOut.with(format!("waited {} s for {what}", timeout.as_secs_f64()))
}

/// The writer of the growing block `key` is gone.
pub(crate) fn lost_writer(key: chariot_types::Key) -> PyErr {
    Exception::Lost.with(format!("the writer of block {key} gave up or went before the block was complete"))
}

/// The connection that pinned a block ended while its bytes were read.
pub(crate) fn lost_pin() -> PyErr {
    Exception::Unavailable.with("the connection that held the block was lost: its bytes may have changed")
}

/// A call of a client that was closed.
pub(crate) fn closed() -> PyErr {
    Exception::Closed.with("the client was closed")
}

/// A use of what belongs to the process `parent`.
pub(crate) fn forked(parent: u32) -> PyErr {
    Exception::Forked
        .with(format!("this belongs to process {parent}, of which this one is a fork: make another client"))
}

/// A get that its caller gave up.
pub(crate) fn cancelled() -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Python::attach(|py| match CLASS.import(py, "concurrent.futures", "CancelledError") {
        Ok(class) => PyErr::from_type(class.clone(), ()),
        Err(error) => error,
    })
}
