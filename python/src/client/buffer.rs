//! [`Input`] and [`Output`]: the bytes of any C-contiguous buffer of Python's, whatever its item type.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

use super::key::type_name;

/// The bytes of a Python object that exports a C-contiguous buffer: all of them, however long its items are.
///
/// Anything else is refused rather than copied: the order in which its bytes should be stored would be a guess. The
/// exporter cannot move or free the bytes while this lives; that nobody changes them meanwhile is the caller's business,
/// as with any I/O.
pub(crate) struct Input(View);

/// The bytes of a Python object that exports a writable C-contiguous buffer.
pub(crate) struct Output(View);

impl Input {
    /// The bytes of `object`.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        // PyBUF_SIMPLE asks for contiguous bytes and leaves the item format out, so that types without one work too.
        View::of(object, ffi::PyBUF_SIMPLE).map(Self)
    }
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Output {
    /// The bytes of `object`.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        View::of(object, ffi::PyBUF_WRITABLE).map(Self)
    }
}

impl Deref for Output {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl DerefMut for Output {
    fn deref_mut(&mut self) -> &mut [u8] {
        let view = &mut self.0.0;
        if view.len == 0 {
            return &mut [];
        }
        // SAFETY: the buffer protocol guarantees `len` bytes at `buf`, writable since the view asked for that, until the
        // view is released.
        unsafe { std::slice::from_raw_parts_mut(view.buf.cast::<u8>(), view.len as usize) }
    }
}

struct View(Box<ffi::Py_buffer>);

impl View {
    fn of(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::uninit());
        // SAFETY: both pointers are valid for the call, and the interpreter is attached.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags) } != 0 {
            return Err(refusal(object, PyErr::fetch(object.py())));
        }
        // SAFETY: the call succeeded, so the view is filled in.
        Ok(Self(unsafe { view.assume_init() }))
    }

    fn bytes(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: the buffer protocol guarantees `len` readable bytes at `buf` until the view is released.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast::<u8>(), self.0.len as usize) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Views live on the stack of a call, which is attached whenever it drops one.
        Python::attach(|_| {
            // SAFETY: the view was filled by PyObject_GetBuffer and is released once.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
        });
    }
}

fn refusal(object: &Bound<'_, PyAny>, cause: PyErr) -> PyErr {
    let py = object.py();
    let name = type_name(object);
    let refusal = if cause.is_instance_of::<PyTypeError>(py) {
        let hint = if object.hasattr("__dlpack__").unwrap_or(false) { "; for a tensor use put_tensor" } else { "" };
        PyTypeError::new_err(format!("`{name}` has no buffer: expected bytes or any object that exports one{hint}"))
    } else {
        PyBufferError::new_err(format!("the buffer of `{name}` cannot be used as it is: {}", cause.value(py)))
    };
    refusal.set_cause(py, Some(cause));
    refusal
}
