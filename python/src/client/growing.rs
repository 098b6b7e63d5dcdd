//! [`GrowingBlock`]: a block while its writer fills it.

use std::ffi::c_int;
use std::mem;

use parking_lot::Mutex;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView};

use super::buffer::Input;
use super::error;
use super::key::Key;
use super::process::{Holding, OfProcess};
use super::view::{self, Access, Memory};

/// A block that its writer is filling: a writable buffer of its whole length until it is sealed.
///
/// Followers may read the prefix that `advance` declared. As a context manager it seals the block at the end, or abandons
/// it when an exception leaves the `with` statement; dropping it unsealed abandons it as well.
#[pyclass(module = "chariot_ds._native", frozen, weakref)]
pub(crate) struct GrowingBlock {
    key: chariot_types::Key,
    len: usize,
    /// Locked only while detached from the interpreter: a large write holds it for as long as it takes.
    state: OfProcess<Mutex<State>>,
}

struct State {
    writer: Writer,
    /// Views that are still in use: a sealed block must have none, or they could change it.
    views: usize,
}

enum Writer {
    Open(chariot_client::GrowingBlock),
    /// Abandoned while views were in use: given back with the last of them.
    Abandoned {
        _until_unviewed: chariot_client::GrowingBlock,
    },
    Gone,
}

impl Holding for Mutex<State> {}

impl GrowingBlock {
    pub(crate) fn new(block: chariot_client::GrowingBlock) -> Self {
        let (key, len) = (block.key(), block.len());
        Self { key, len, state: OfProcess::new(Mutex::new(State { writer: Writer::Open(block), views: 0 })) }
    }

    /// Runs `act` on the state, detached.
    fn with_state<T: Send>(&self, py: Python<'_>, act: impl FnOnce(&mut State) -> T + Send) -> PyResult<T> {
        let state = self.state.get()?;
        Ok(py.detach(|| act(&mut state.lock())))
    }

    fn memory(&self, block: &mut chariot_client::GrowingBlock) -> Memory {
        Memory { start: block.as_mut_ptr(), len: self.len, access: Access::ReadWrite }
    }

    fn abandon_now(&self, py: Python<'_>) -> PyResult<()> {
        self.with_state(py, |state| match mem::replace(&mut state.writer, Writer::Gone) {
            Writer::Open(block) if state.views > 0 => state.writer = Writer::Abandoned { _until_unviewed: block },
            other => state.writer = if state.views > 0 { other } else { Writer::Gone },
        })
    }
}

impl State {
    fn open(&mut self) -> Result<&mut chariot_client::GrowingBlock, Refusal> {
        match &mut self.writer {
            Writer::Open(block) => Ok(block),
            _ => Err(Refusal::Ended),
        }
    }
}

/// Why a block does not do as asked; turned into an exception once attached again.
enum Refusal {
    Ended,
    Viewed,
    OutOfRange { offset: usize, len: usize },
    Readable(usize),
    Client(chariot_client::ClientError),
}

impl From<Refusal> for PyErr {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ended => PyValueError::new_err("the block was sealed or abandoned"),
            Refusal::Viewed => PyBufferError::new_err(
                "views of the block are still in use: a sealed block never changes, so let them go before it is sealed",
            ),
            Refusal::OutOfRange { offset, len } => {
                PyValueError::new_err(format!("offset {offset} lies beyond the block's {len} bytes"))
            }
            Refusal::Readable(readable) => {
                PyValueError::new_err(format!("the first {readable} bytes are readable already, and never change"))
            }
            Refusal::Client(error) => error::to_python(error),
        }
    }
}

#[pymethods]
impl GrowingBlock {
    /// The block's key.
    #[getter]
    fn key(&self) -> Key {
        Key(self.key)
    }

    /// The length of the block in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.len
    }

    /// Copies all bytes of the buffer `data` into the block from `offset` on, without holding the interpreter.
    #[pyo3(signature = (offset, data, /))]
    fn write_at(&self, py: Python<'_>, offset: usize, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let input = Input::of(data)?;
        let bytes: &[u8] = &input;
        let len = self.len;
        self.with_state(py, |state| {
            let block = state.open()?;
            match offset.checked_add(bytes.len()) {
                Some(end) if end <= len && offset >= block.readable() => block.write_at(offset, bytes),
                Some(end) if end <= len => return Err(Refusal::Readable(block.readable())),
                end => return Err(Refusal::OutOfRange { offset: end.unwrap_or(usize::MAX), len }),
            }
            Ok(())
        })??;
        Ok(())
    }

    /// Lets followers read the first `readable` bytes, which must not change any more.
    #[pyo3(signature = (readable, /))]
    fn advance(&self, py: Python<'_>, readable: usize) -> PyResult<()> {
        let len = self.len;
        self.with_state(py, |state| {
            let block = state.open()?;
            if readable > len {
                return Err(Refusal::OutOfRange { offset: readable, len });
            }
            if readable < block.readable() {
                return Err(Refusal::Readable(block.readable()));
            }
            block.advance(readable).map_err(Refusal::Client)
        })??;
        Ok(())
    }

    /// Completes the block: it is readable whole, and its bytes never change again.
    ///
    /// Views of it must be gone first: `BufferError` otherwise, and the block stays open.
    fn seal(&self, py: Python<'_>) -> PyResult<()> {
        self.with_state(py, |state| {
            if state.views > 0 {
                return Err(Refusal::Viewed);
            }
            match mem::replace(&mut state.writer, Writer::Gone) {
                Writer::Open(block) => block.seal().map_err(Refusal::Client),
                ended => {
                    state.writer = ended;
                    Err(Refusal::Ended)
                }
            }
        })??;
        Ok(())
    }

    /// Gives the block up: its followers learn that it is lost. Nothing happens when it is sealed already.
    ///
    /// While views are in use, the memory is given back with the last of them.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.abandon_now(py)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        exception_type: &Bound<'_, PyAny>,
        _exception: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if !exception_type.is_none() {
            return self.abandon_now(py);
        }
        if self.with_state(py, |state| state.open().is_err())? {
            return Ok(());
        }
        self.seal(py).inspect_err(|_| {
            // The statement is left either way, and nobody will seal the block later.
            let _ = self.abandon_now(py);
        })
    }

    fn __len__(&self) -> usize {
        self.len
    }

    fn __repr__(&self) -> String {
        format!("<GrowingBlock {} of {} bytes>", self.key, self.len)
    }

    /// The block's bytes as a one-dimensional, writable DLPack tensor of unsigned bytes.
    #[pyo3(signature = (**options))]
    fn __dlpack__<'py>(slf: &Bound<'py, Self>, options: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
        let view = PyMemoryView::from(slf)?;
        let this = slf.get();
        let memory = this.with_state(slf.py(), |state| state.open().map(|block| this.memory(block)))??;
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
        let memory = this.with_state(slf.py(), |state| {
            let memory = state.open().map(|block| this.memory(block))?;
            state.views += 1;
            Ok::<_, Refusal>(memory)
        })??;
        // SAFETY: Python passes the view; the counted view keeps the block, and the block keeps the memory.
        unsafe { view::fill(slf.as_any(), view, flags, &memory) }.inspect_err(|_| this.uncount_view(slf.py()))
    }

    /// # Safety
    /// Called by Python, once for each view that `__getbuffer__` filled in.
    unsafe fn __releasebuffer__(&self, py: Python<'_>, _view: *mut ffi::Py_buffer) {
        self.uncount_view(py);
    }
}

impl GrowingBlock {
    fn uncount_view(&self, py: Python<'_>) {
        // In a forked child there is nothing to count for.
        let _ = self.with_state(py, |state| {
            state.views -= 1;
            if state.views == 0 && matches!(state.writer, Writer::Abandoned { .. }) {
                state.writer = Writer::Gone;
            }
        });
    }
}
