//! [`OfProcess`]: what belongs to the process that made it.
//!
//! A forked child inherits its parent's connection as bytes: the socket and the shared memory, without the threads
//! that serve them, and with locks in whatever state they were. A child that used or dropped them would speak into its
//! parent's conversation, so here it can do neither: access is an error, and drop leaves everything alone.

use std::mem::ManuallyDrop;

use pyo3::prelude::*;

use super::error;

/// Something that is held for Python.
pub(crate) trait Holding: Send {
    /// Whether letting go of it takes no time to speak of, so that it would take longer to hand the interpreter over.
    fn is_let_go_of_quickly(&self) -> bool {
        false
    }
}

/// A value that only the process that made it can use or drop.
pub(crate) struct OfProcess<T: Holding> {
    value: ManuallyDrop<T>,
    process: u32,
}

impl<T: Holding> OfProcess<T> {
    /// Ties `value` to this process.
    pub(crate) fn new(value: T) -> Self {
        Self { value: ManuallyDrop::new(value), process: std::process::id() }
    }

    /// The value; `chariot_ds.Forked` in a child of the process that made it.
    pub(crate) fn get(&self) -> PyResult<&T> {
        if self.is_ours() { Ok(&self.value) } else { Err(error::forked(self.process)) }
    }

    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }
}

impl<T: Holding> Drop for OfProcess<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        // SAFETY: the value is taken here and nowhere else, and nothing uses it after.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        if value.is_let_go_of_quickly() {
            return;
        }
        let mut value = Some(value);
        // Letting go may send a message or unmap an arena: neither with the interpreter held. Once that has ended,
        // there is nothing to detach from.
        Python::try_attach(|py| py.detach(|| drop(value.take())));
    }
}
