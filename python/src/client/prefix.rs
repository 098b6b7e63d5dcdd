//! [`Prefix`]: how much of a list of keys is there.

use pyo3::prelude::*;

/// How many keys of a list, from the first on and without a gap, have blocks.
#[pyclass(module = "chariot_ds._native", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Prefix {
    /// How many have complete blocks.
    #[pyo3(get)]
    sealed: usize,
    /// How many have complete or growing blocks: never less.
    #[pyo3(get)]
    present: usize,
}

impl Prefix {
    pub(crate) fn new(prefix: chariot_client::Prefix) -> Self {
        Self { sealed: prefix.sealed, present: prefix.present }
    }
}

#[pymethods]
impl Prefix {
    fn __repr__(&self) -> String {
        format!("Prefix(sealed={}, present={})", self.sealed, self.present)
    }
}
