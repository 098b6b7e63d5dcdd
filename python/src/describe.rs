//! Errors with all their causes, in one line.

use std::error::Error;

use chariot_types::WithCauses;
use pyo3::PyErr;
use pyo3::exceptions::PyValueError;

/// An error and its causes in one line.
pub(crate) fn describe(error: &dyn Error) -> String {
    WithCauses(error).to_string()
}

/// The exception for a value that cannot be.
pub(crate) fn to_value_error(error: impl Error) -> PyErr {
    PyValueError::new_err(describe(&error))
}
