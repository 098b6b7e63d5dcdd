//! `chariot_ds._native`: Chariot for Python.
//!
//! Thin: the bindings turn Python's values into the client's and back. The interpreter is released around everything
//! that copies or waits, and what needs no Rust lives in the Python files of `chariot_ds`.

mod chain;
mod client;
mod connector;
mod describe;

use pyo3::prelude::*;

/// Chariot's native part; `chariot_ds` is its public face.
#[pymodule(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    client::register(module)?;
    connector::register(module)
}
