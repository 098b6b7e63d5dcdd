//! [`Block`]: a pinned block as a read-only buffer.

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use chariot_client::Progress;
use parking_lot::Mutex;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView};

use super::deadline;
use super::error;
use super::key::Key;
use super::process::{Holding, OfProcess};
use super::view::{self, Access, Memory};

/// A block of the worker's memory, pinned for as long as this object, or any view of it, lives.
///
/// It is a read-only buffer without a copy: `memoryview(block)`, `numpy.frombuffer(block, dtype)`,
/// `torch.from_dlpack(block)`. Its length is what was readable when it was asked for; a sealed block is readable whole,
/// and its bytes never change.
#[pyclass(module = "chariot_ds._native", frozen, weakref)]
pub(crate) struct Block {
    /// `None` once released. The lock is held for a clone or a swap only, never while anything waits.
    pin: OfProcess<Mutex<Option<chariot_client::Block>>>,
    views: AtomicUsize,
}

impl Holding for Mutex<Option<chariot_client::Block>> {
    fn is_let_go_of_quickly(&self) -> bool {
        self.lock().as_ref().is_none_or(chariot_client::Block::is_let_go_of_quickly)
    }
}

impl Block {
    pub(crate) fn new(block: chariot_client::Block) -> Self {
        Self { pin: OfProcess::new(Mutex::new(Some(block))), views: AtomicUsize::new(0) }
    }

    fn block(&self) -> PyResult<chariot_client::Block> {
        self.pin.get()?.lock().clone().ok_or_else(released)
    }

    fn memory(block: &chariot_client::Block) -> Memory {
        let bytes = block.bytes();
        Memory { start: bytes.as_ptr().cast_mut(), len: bytes.len(), access: Access::ReadOnly }
    }
}

/// From this many bytes on a copy takes long enough for others to use the interpreter meanwhile.
const LONG_COPY: usize = 64 << 10;

fn copy_bytes(py: Python<'_>, target: &mut [u8], source: &[u8]) {
    if source.len() < LONG_COPY {
        target.copy_from_slice(source);
    } else {
        py.detach(|| target.copy_from_slice(source));
    }
}

fn released() -> PyErr {
    PyValueError::new_err("the block was released")
}

#[pymethods]
impl Block {
    /// The block's key.
    #[getter]
    fn key(&self) -> PyResult<Key> {
        Ok(Key(self.block()?.key()))
    }

    /// The length of the whole block in bytes, readable or not.
    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        Ok(self.block()?.len())
    }

    /// How many bytes can be read now: all of a sealed block, a growing prefix of one that is still being written.
    #[getter]
    fn readable(&self) -> PyResult<usize> {
        Ok(self.block()?.readable())
    }

    /// Whether the block is complete.
    #[getter]
    fn sealed(&self) -> PyResult<bool> {
        Ok(self.block()?.is_sealed())
    }

    /// Whether what was read so far is the block.
    ///
    /// False from the moment when the connection that holds the pin is lost: what is read later may be other bytes. Who
    /// reads through a view asks after reading; `tobytes` and `readinto` do so themselves.
    #[getter]
    fn intact(&self) -> PyResult<bool> {
        Ok(self.block()?.is_intact())
    }

    /// A copy of the readable bytes; of many, made without holding the interpreter.
    fn tobytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let block = self.block()?;
        let source = block.bytes();
        // SAFETY: a null source asks for uninitialised bytes of that length: a new reference, or null with an exception.
        let copy = unsafe {
            let copy = ffi::PyBytes_FromStringAndSize(std::ptr::null(), source.len() as ffi::Py_ssize_t);
            Bound::from_owned_ptr_or_err(py, copy)?.cast_into_unchecked::<PyBytes>()
        };
        // SAFETY: nobody else has the new object, so its bytes may still be written.
        let target = unsafe {
            let start = ffi::PyBytes_AsString(copy.as_ptr()).cast::<u8>();
            std::slice::from_raw_parts_mut(start, source.len())
        };
        copy_bytes(py, target, source);
        if block.is_intact() { Ok(copy) } else { Err(error::lost_pin()) }
    }

    /// Copies the readable bytes to the front of a writable buffer, many of them without holding the interpreter; returns
    /// their number.
    #[pyo3(signature = (buffer, /))]
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let block = self.block()?;
        let mut output = super::buffer::Output::of(buffer)?;
        let source = block.bytes();
        let room = output.len();
        let Some(target) = output.get_mut(..source.len()) else {
            return Err(PyValueError::new_err(format!("the buffer has {room} bytes, the block {}", source.len())));
        };
        copy_bytes(py, target, source);
        if block.is_intact() { Ok(source.len()) } else { Err(error::lost_pin()) }
    }

    /// Waits until more than `readable` bytes can be read, or the block is complete; returns how many can be.
    ///
    /// Raises `Lost` when the writer is gone and `TimedOut` when the timeout, in seconds, has passed. Views made earlier
    /// stay as long as they were: make another to see the new bytes.
    #[pyo3(signature = (readable, *, timeout))]
    fn wait_beyond(&self, py: Python<'_>, readable: usize, timeout: f64) -> PyResult<usize> {
        let timeout = deadline::wait("timeout", timeout)?;
        let block = self.block()?;
        let progress =
            deadline::wait_in_slices(py, Instant::now() + timeout, |until| match block.wait_beyond(readable, until) {
                Ok(Progress::TimedOut) => None,
                other => Some(other),
            })?;
        match progress {
            Some(Ok(Progress::Readable(readable))) => Ok(readable as usize),
            Some(Ok(Progress::Sealed)) => Ok(block.len()),
            Some(Ok(Progress::Lost)) => Err(error::lost_writer(block.key())),
            Some(Ok(Progress::TimedOut)) | None => Err(error::timed_out("more of the block", timeout)),
            Some(Err(error)) => Err(error::to_python(error)),
        }
    }

    /// Lets go of the block. Views of it must be gone first: `BufferError` otherwise.
    ///
    /// Without this call, the block is let go together with this object and its last view.
    fn release(&self) -> PyResult<()> {
        let mut pin = self.pin.get()?.lock();
        if self.views.load(Ordering::Relaxed) > 0 {
            return Err(PyBufferError::new_err("views of the block are still in use"));
        }
        let released = pin.take();
        drop(pin);
        drop(released);
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        _exception_type: &Bound<'_, PyAny>,
        _exception: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release()
    }

    fn __len__(&self) -> PyResult<usize> {
        self.readable()
    }

    fn __repr__(&self) -> String {
        match self.block() {
            Err(_) => "<Block released>".to_owned(),
            Ok(block) if block.is_sealed() => format!("<Block {} of {} bytes>", block.key(), block.len()),
            Ok(block) => format!("<Block {}, {} of {} bytes readable>", block.key(), block.readable(), block.len()),
        }
    }

    /// The readable bytes as a one-dimensional DLPack tensor of unsigned bytes.
    #[pyo3(signature = (**options))]
    fn __dlpack__<'py>(slf: &Bound<'py, Self>, options: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
        let view = PyMemoryView::from(slf)?;
        let memory = Self::memory(&slf.get().block()?);
        view::to_dlpack(view, &memory, view::dlpack_version(options)?)
    }

    /// DLPack's name of the host.
    fn __dlpack_device__(&self) -> (i32, i32) {
        view::DLPACK_DEVICE
    }

    /// # Safety
    /// Called by Python, with a view to fill in.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let pin = this.pin.get()?.lock();
        let block = pin.as_ref().ok_or_else(released)?;
        // SAFETY: Python passes the view; the pin stays while views are counted, and the pin keeps the memory.
        unsafe { view::fill(slf.as_any(), view, flags, &Self::memory(block))? };
        this.views.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// # Safety
    /// Called by Python, once for each view that `__getbuffer__` filled in.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.views.fetch_sub(1, Ordering::Relaxed);
    }
}
