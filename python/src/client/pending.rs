//! [`Pending`]: a get whose answer is wanted later, by a thread, a coroutine or a callback.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use chariot_client::{ClientError, PendingGet};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::block::Block;
use super::deadline::{self, LONGEST_WAIT, SLICE};
use super::error;
use super::process::{Holding, OfProcess};

/// What a get's answer looks like in Python.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// The only key's block.
    One,
    /// A list, one entry a key.
    Many,
}

/// A get under way.
///
/// Threads call `result`, coroutines `await` it. Dropping it cancels the get.
#[pyclass(module = "chariot_ds._native", frozen, weakref, generic)]
pub(crate) struct Pending {
    shared: OfProcess<Arc<Shared>>,
    shape: Shape,
    /// What `result` returns, once it has been asked for.
    answer: PyOnceLock<PyResult<Py<PyAny>>>,
}

struct Shared {
    /// Who waits holds the lock, detached, for a slice of time.
    get: Mutex<Get>,
    /// Beside the lock, so that cancelling waits for nobody.
    is_cancelled: AtomicBool,
}

enum Get {
    Waiting(PendingGet),
    Answered(Result<Vec<Option<chariot_client::Block>>, ClientError>),
    /// Handed on, or cancelled.
    Taken,
}

impl Holding for Arc<Shared> {}

impl Shared {
    /// Waits for the answer; whether there is no more to wait for.
    fn wait_until(&self, deadline: Instant) -> bool {
        let mut get = self.get.lock();
        *get = match mem::replace(&mut *get, Get::Taken) {
            Get::Waiting(waiting) => waiting.wait_until(deadline).map_or_else(Get::Waiting, Get::Answered),
            other => other,
        };
        if matches!(*get, Get::Waiting(_)) && self.is_cancelled() {
            // Dropping the request cancels it.
            *get = Get::Taken;
        }
        !matches!(*get, Get::Waiting(_))
    }

    /// Whether there is nothing to wait for; does not wait to find out.
    fn is_over(&self) -> bool {
        let held_by_who_waits = || self.is_cancelled();
        self.get.try_lock().map_or_else(held_by_who_waits, |mut get| match &mut *get {
            Get::Waiting(waiting) => self.is_cancelled() || waiting.is_ready(),
            _ => true,
        })
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }
}

impl Pending {
    pub(crate) fn new(get: PendingGet, shape: Shape) -> Self {
        let shared = Shared { get: Mutex::new(Get::Waiting(get)), is_cancelled: AtomicBool::new(false) };
        Self { shared: OfProcess::new(Arc::new(shared)), shape, answer: PyOnceLock::new() }
    }

    fn answer(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let shared = self.shared.get()?;
        let answer = self.answer.get_or_init(py, || {
            // It is over, so whoever else holds the lock gives it back at once, and without the interpreter.
            let answered = py.detach(|| mem::replace(&mut *shared.get.lock(), Get::Taken));
            match answered {
                Get::Answered(Ok(blocks)) => to_python(py, blocks, self.shape),
                Get::Answered(Err(error)) => Err(error::to_python(error)),
                Get::Waiting(_) | Get::Taken => Err(error::cancelled()),
            }
        });
        answer.as_ref().map(|answer| answer.clone_ref(py)).map_err(|error| error.clone_ref(py))
    }
}

#[pymethods]
impl Pending {
    /// The answer: a block, a list of blocks, or None for a miss. Raises what went wrong, or `TimedOut` when the answer
    /// takes longer than `timeout` seconds; without a timeout, the get's own ends the wait.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let shared = self.shared.get()?;
        let timeout = timeout.map_or(Ok(2 * LONGEST_WAIT), |timeout| deadline::wait("timeout", timeout))?;
        let over =
            deadline::wait_in_slices(py, Instant::now() + timeout, |until| shared.wait_until(until).then_some(()))?;
        if over.is_none() {
            return Err(error::timed_out("the answer", timeout));
        }
        self.answer(py)
    }

    /// Whether `result` returns at once.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        let shared = self.shared.get()?;
        Ok(py.detach(|| shared.is_over()))
    }

    /// Gives the get up: `result` raises `concurrent.futures.CancelledError`, unless the answer is there already.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let shared = self.shared.get()?;
        py.detach(|| {
            shared.is_cancelled.store(true, Ordering::Release);
            // Who waits sees the flag; if nobody does, the request ends here.
            if let Some(mut get) = shared.get.try_lock()
                && matches!(*get, Get::Waiting(_))
            {
                *get = Get::Taken;
            }
        });
        Ok(())
    }

    /// Calls `callback(self)` once there is nothing more to wait for, in a thread made for that.
    #[pyo3(signature = (callback, /))]
    fn add_done_callback(slf: Py<Self>, callback: Py<PyAny>) -> PyResult<()> {
        let shared = slf.get().shared.get()?.clone();
        let waiter = move || {
            while !shared.wait_until(Instant::now() + SLICE) {}
            let mut call = Some((slf, callback));
            Python::try_attach(|py| {
                if let Some((slf, callback)) = call.take()
                    && let Err(error) = callback.call1(py, (slf,))
                {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
            // The interpreter has ended, and its objects with it.
            mem::forget(call);
        };
        thread::Builder::new().name("chariot-pending".to_owned()).spawn(waiter)?;
        Ok(())
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("chariot_ds.coroutines")?.call_method1("wait", (slf,))?.call_method0("__await__")
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(if self.done(py)? { "<Pending, done>" } else { "<Pending>" })
    }
}

fn to_python(py: Python<'_>, blocks: Vec<Option<chariot_client::Block>>, shape: Shape) -> PyResult<Py<PyAny>> {
    let mut blocks = blocks.into_iter().map(|block| block.map(Block::new));
    let answer = match shape {
        Shape::One => blocks.next().flatten().into_pyobject(py)?.into_any(),
        Shape::Many => blocks.collect::<Vec<_>>().into_pyobject(py)?.into_any(),
    };
    Ok(answer.unbind())
}
