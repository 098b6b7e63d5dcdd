//! The plain client: [`Client`] and what it hands out.
//!
//! Knows keys and bytes; tensors are the business of `chariot_ds.tensors`, tokens of the connector.

mod block;
mod buffer;
mod deadline;
mod error;
mod growing;
mod key;
mod pending;
mod prefix;
mod process;
mod view;

use std::time::{Duration, Instant};

use chariot_client::{
    ClientError, ConnectOptions, PendingGet, Put, Reserve, Room, Transport, Wait, token_from_environment,
};
use chariot_types::{NamespaceNameError, TokenError, WorkerAddress};
use parking_lot::Mutex;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use self::block::Block;
use self::buffer::Input;
use self::deadline::LONGEST_WAIT;
use self::growing::GrowingBlock;
use self::key::{Key, key, keys};
use self::pending::{Pending, Shape};
use self::prefix::Prefix;
use self::process::{Holding, OfProcess};
use crate::describe::to_value_error;

/// Adds the client's classes to `module`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Client>()?;
    module.add_class::<Key>()?;
    module.add_class::<Block>()?;
    module.add_class::<GrowingBlock>()?;
    module.add_class::<Pending>()?;
    module.add_class::<Prefix>()
}

/// The environment variable that names this node's worker.
const ADDRESS_VARIABLE: &str = "DS_WORKER_ADDR";

/// A connection to a data worker; any number of threads may use it.
///
/// `address` is `host:port`, or that of the environment variable DS_WORKER_ADDR when it is None. `timeout` bounds
/// connecting, `request_timeout` every call that does not wait for anything, `wait_for_worker` how long a worker that
/// is not there yet is waited for; all in seconds. `transport` is "auto" (shared memory when the worker is on this host,
/// else TCP) or "tcp". `name` is what `dscli status` shows. `token` is shown to a worker with tenants; where it is None, the
/// environment variable CHARIOT_TOKEN, or what is in the file that CHARIOT_TOKEN_FILE names.
///
/// While the worker is away every call raises `Unavailable` at once; the client reconnects by itself.
#[pyclass(module = "chariot_ds._native", frozen, weakref)]
pub(crate) struct Client {
    address: WorkerAddress,
    /// `None` once closed. The lock is held for a clone or a swap only.
    connection: OfProcess<Mutex<Option<chariot_client::Client>>>,
}

/// More keys than this take longer to be looked up than it takes to hand the interpreter over.
const KEYS_AT_A_GLANCE: usize = 1024;

impl Holding for Mutex<Option<chariot_client::Client>> {}

impl Client {
    fn new(address: WorkerAddress, connection: chariot_client::Client) -> Self {
        Self { address, connection: OfProcess::new(Mutex::new(Some(connection))) }
    }

    fn connection(&self) -> PyResult<chariot_client::Client> {
        self.connection.get()?.lock().clone().ok_or_else(error::closed)
    }

    /// Runs a call that waits for nothing, detached.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&chariot_client::Client) -> Result<T, ClientError> + Send,
    ) -> PyResult<T> {
        let connection = self.connection()?;
        py.detach(|| call(&connection)).map_err(error::to_python)
    }

    /// Runs a call about `keys`: attached, if `glance` has the answer, which takes less time than to hand the interpreter
    /// over and to wait for it; else `ask`, detached.
    fn look_or_ask<T: Send>(
        &self,
        py: Python<'_>,
        keys: &[chariot_types::Key],
        glance: impl FnOnce(&chariot_client::Client, &[chariot_types::Key]) -> Result<Option<T>, ClientError>,
        ask: impl FnOnce(&chariot_client::Client, &[chariot_types::Key]) -> Result<T, ClientError> + Send,
    ) -> PyResult<T> {
        let connection = self.connection()?;
        if keys.len() <= KEYS_AT_A_GLANCE
            && let Some(seen) = glance(&connection, keys).map_err(error::to_python)?
        {
            return Ok(seen);
        }
        py.detach(|| ask(&connection, keys)).map_err(error::to_python)
    }

    /// Runs a call that needs room in the pool, for at most `timeout` seconds.
    fn call_for_room<T: Send>(
        &self,
        py: Python<'_>,
        timeout: f64,
        call: impl Fn(&chariot_client::Client, Room) -> Result<T, ClientError> + Send + Sync,
    ) -> PyResult<T> {
        let timeout = deadline::wait("timeout", timeout)?;
        let connection = self.connection()?;
        if timeout.is_zero() {
            return py.detach(|| call(&connection, Room::Now)).map_err(error::to_python);
        }
        let deadline = Instant::now() + timeout;
        let answer = deadline::wait_in_slices(py, deadline, |until| match call(&connection, Room::Until(until)) {
            Err(ClientError::NoRoom { .. }) if until < deadline => None,
            other => Some(other),
        })?;
        answer.map_or_else(|| Err(error::timed_out("room", timeout)), |answer| answer.map_err(error::to_python))
    }

    /// Starts a get of `keys` that waits for at most `timeout` seconds.
    fn start_get(&self, py: Python<'_>, keys: &[chariot_types::Key], timeout: f64) -> PyResult<PendingGet> {
        let timeout = deadline::wait("timeout", timeout)?;
        let wait = if timeout.is_zero() { Wait::No } else { Wait::Until(Instant::now() + timeout) };
        self.call(py, |connection| connection.start_get(keys, wait))
    }

    /// Gets `keys`, waiting for at most `timeout` seconds.
    fn get_blocks(&self, py: Python<'_>, keys: &[chariot_types::Key], timeout: f64) -> PyResult<Vec<Option<Block>>> {
        let blocks = if timeout == 0.0 {
            let get = |client: &chariot_client::Client, keys: &_| client.get(keys, Wait::No);
            self.look_or_ask(py, keys, chariot_client::Client::get_at_a_glance, get)?
        } else {
            let mut pending = Some(self.start_get(py, keys, timeout)?);
            // The request brings its own deadline; this one is only there to lie behind it.
            let answer = deadline::wait_in_slices(py, Instant::now() + 2 * LONGEST_WAIT, |until| {
                match pending.take()?.wait_until(until) {
                    Ok(answer) => Some(answer),
                    Err(late) => {
                        pending = Some(late);
                        None
                    }
                }
            })?;
            answer.transpose().map_err(error::to_python)?.unwrap_or_default()
        };
        Ok(blocks.into_iter().map(|block| block.map(Block::new)).collect())
    }

    /// Finds `keys`, growing blocks too, waiting for at most `timeout` seconds.
    fn follow_blocks(&self, py: Python<'_>, keys: &[chariot_types::Key], timeout: f64) -> PyResult<Vec<Option<Block>>> {
        let timeout = deadline::wait("timeout", timeout)?;
        let blocks = if timeout.is_zero() {
            self.call(py, |connection| connection.follow(keys, Wait::No))?
        } else {
            let connection = self.connection()?;
            let deadline = Instant::now() + timeout;
            let answer =
                deadline::wait_in_slices(py, deadline, |until| match connection.follow(keys, Wait::Until(until)) {
                    Ok(blocks) if until < deadline && blocks.iter().any(Option::is_none) => None,
                    other => Some(other),
                })?;
            answer.transpose().map_err(error::to_python)?.unwrap_or_default()
        };
        Ok(blocks.into_iter().map(|block| block.map(Block::new)).collect())
    }
}

#[pymethods]
impl Client {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "in Python they are keywords with defaults")]
    #[pyo3(signature = (address=None, *, timeout=1.0, request_timeout=2.0, wait_for_worker=0.0, transport="auto", name="python", namespace="default", token=None))]
    fn connect(
        py: Python<'_>,
        address: Option<&str>,
        timeout: f64,
        request_timeout: f64,
        wait_for_worker: f64,
        transport: &str,
        name: &str,
        namespace: &str,
        token: Option<&str>,
    ) -> PyResult<Self> {
        let address = worker_address(address)?;
        let options = connect_options(timeout, request_timeout, transport, name, namespace, token)?;
        let deadline = Instant::now() + deadline::wait("wait_for_worker", wait_for_worker)?;
        loop {
            let connection = py.detach(|| chariot_client::Client::connect(&address, options.clone()));
            match connection {
                Ok(connection) => return Ok(Self::new(address, connection)),
                Err(error) if !error.is_retryable() || Instant::now() >= deadline => {
                    return Err(error::to_python(error));
                }
                Err(_) => {}
            }
            // A refused connection is known at once; asking again needs no hurry.
            let pause = Duration::from_millis(50).min(deadline.saturating_duration_since(Instant::now()));
            py.detach(|| std::thread::sleep(pause));
            py.check_signals()?;
        }
    }

    /// A client of a worker that need not be there: until it is found, in the background, calls raise `Unavailable`.
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "in Python they are keywords with defaults")]
    #[pyo3(signature = (address=None, *, timeout=1.0, request_timeout=2.0, transport="auto", name="python", namespace="default", token=None))]
    fn connect_later(
        py: Python<'_>,
        address: Option<&str>,
        timeout: f64,
        request_timeout: f64,
        transport: &str,
        name: &str,
        namespace: &str,
        token: Option<&str>,
    ) -> PyResult<Self> {
        let address = worker_address(address)?;
        let options = connect_options(timeout, request_timeout, transport, name, namespace, token)?;
        let connection = py.detach(|| chariot_client::Client::connect_later(&address, options));
        let connection = connection.map_err(error::to_python)?;
        Ok(Self::new(address, connection))
    }

    /// The worker's address, `host:port`.
    #[getter]
    fn address(&self) -> String {
        self.address.to_string()
    }

    /// Whether the worker is connected now.
    #[getter]
    fn connected(&self) -> PyResult<bool> {
        Ok(self.connection.get()?.lock().as_ref().is_some_and(chariot_client::Client::is_connected))
    }

    /// Stores the bytes of the buffer `data` under `key`: one copy, without holding the interpreter.
    ///
    /// Any C-contiguous buffer is stored by all its bytes, however long its items are; another raises `BufferError`.
    /// A block that is there already stays as it is, because sealed bytes never change: `delete` it first to replace
    /// it. `parent` names the block before it in a prefix chain, which is evicted no earlier. `time_to_live` and
    /// `timeout`, for which a full pool is waited for, are seconds. Others find the block once `flush` has returned, this
    /// client's own calls at once.
    #[pyo3(signature = (key, data, *, parent=None, time_to_live=None, timeout=0.0))]
    fn put(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = key)] key: chariot_types::Key,
        data: &Bound<'_, PyAny>,
        parent: Option<&Bound<'_, PyAny>>,
        time_to_live: Option<f64>,
        timeout: f64,
    ) -> PyResult<()> {
        let parent = parent.map(self::key::key).transpose()?;
        let time_to_live = lifetime(time_to_live)?;
        let input = Input::of(data)?;
        let put = Put { key, parent, bytes: &input, time_to_live };
        self.call_for_room(py, timeout, |connection, room| connection.put(std::slice::from_ref(&put), room))
    }

    /// Stores many blocks in one call: a mapping from keys to buffers, or an iterable of such pairs.
    #[pyo3(signature = (blocks, *, time_to_live=None, timeout=0.0))]
    fn put_many(
        &self,
        py: Python<'_>,
        blocks: &Bound<'_, PyAny>,
        time_to_live: Option<f64>,
        timeout: f64,
    ) -> PyResult<()> {
        let time_to_live = lifetime(time_to_live)?;
        let inputs = pairs(blocks, Input::of)?;
        let puts: Vec<_> =
            inputs.iter().map(|(key, input)| Put { key: *key, parent: None, bytes: input, time_to_live }).collect();
        self.call_for_room(py, timeout, |connection, room| connection.put(&puts, room))
    }

    /// Makes a block of `nbytes` bytes that the caller then fills; others may follow it as it grows.
    #[pyo3(signature = (key, nbytes, *, parent=None, time_to_live=None, timeout=0.0))]
    fn reserve(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = key)] key: chariot_types::Key,
        nbytes: u64,
        parent: Option<&Bound<'_, PyAny>>,
        time_to_live: Option<f64>,
        timeout: f64,
    ) -> PyResult<GrowingBlock> {
        let parent = parent.map(self::key::key).transpose()?;
        let reserve = [Reserve { key, parent, len: nbytes, time_to_live: lifetime(time_to_live)? }];
        let blocks = self.call_for_room(py, timeout, |connection, room| connection.reserve(&reserve, room))?;
        let mut blocks = blocks.into_iter();
        blocks.next().map(GrowingBlock::new).ok_or_else(|| PyValueError::new_err("no block was reserved"))
    }

    /// Makes many blocks in one call: a mapping from keys to lengths, or an iterable of such pairs.
    #[pyo3(signature = (blocks, *, time_to_live=None, timeout=0.0))]
    fn reserve_many(
        &self,
        py: Python<'_>,
        blocks: &Bound<'_, PyAny>,
        time_to_live: Option<f64>,
        timeout: f64,
    ) -> PyResult<Vec<GrowingBlock>> {
        let time_to_live = lifetime(time_to_live)?;
        let reserves: Vec<_> = pairs(blocks, |len| len.extract::<u64>())?
            .into_iter()
            .map(|(key, len)| Reserve { key, parent: None, len, time_to_live })
            .collect();
        let blocks = self.call_for_room(py, timeout, |connection, room| connection.reserve(&reserves, room))?;
        Ok(blocks.into_iter().map(GrowingBlock::new).collect())
    }

    /// The block `key`, pinned, or None when it is not there.
    ///
    /// With a timeout, in seconds, it is waited for, also while it is still being written.
    #[pyo3(signature = (key, *, timeout=0.0))]
    fn get(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = key)] key: chariot_types::Key,
        timeout: f64,
    ) -> PyResult<Option<Block>> {
        Ok(self.get_blocks(py, &[key], timeout)?.pop().flatten())
    }

    /// The blocks of many keys in one call, None for each that is not there.
    #[pyo3(signature = (keys, *, timeout=0.0))]
    fn get_many(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
        timeout: f64,
    ) -> PyResult<Vec<Option<Block>>> {
        self.get_blocks(py, &keys, timeout)
    }

    /// A get whose answer is wanted later: `pending.result()` in a thread, `await pending` in a coroutine.
    #[pyo3(signature = (key, *, timeout=0.0))]
    fn get_later(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = key)] key: chariot_types::Key,
        timeout: f64,
    ) -> PyResult<Pending> {
        Ok(Pending::new(self.start_get(py, &[key], timeout)?, Shape::One))
    }

    /// The same for many keys: a list of blocks, or None for each that is not there in time.
    #[pyo3(signature = (keys, *, timeout=0.0))]
    fn get_many_later(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
        timeout: f64,
    ) -> PyResult<Pending> {
        Ok(Pending::new(self.start_get(py, &keys, timeout)?, Shape::Many))
    }

    /// The block `key` as soon as it exists, complete or not; None when it does not.
    ///
    /// What is readable grows: see `Block.wait_beyond`.
    #[pyo3(signature = (key, *, timeout=0.0))]
    fn follow(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = key)] key: chariot_types::Key,
        timeout: f64,
    ) -> PyResult<Option<Block>> {
        Ok(self.follow_blocks(py, &[key], timeout)?.pop().flatten())
    }

    /// The blocks of many keys as soon as all exist, complete or not.
    #[pyo3(signature = (keys, *, timeout=0.0))]
    fn follow_many(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
        timeout: f64,
    ) -> PyResult<Vec<Option<Block>>> {
        self.follow_blocks(py, &keys, timeout)
    }

    /// Whether the block `key` is there, complete.
    #[pyo3(signature = (key, /))]
    fn exists(&self, py: Python<'_>, #[pyo3(from_py_with = key)] key: chariot_types::Key) -> PyResult<bool> {
        Ok(self.exists_many(py, vec![key])?.first().copied().unwrap_or_default())
    }

    /// Whether the blocks of many keys are there, complete.
    #[pyo3(signature = (keys, /))]
    fn exists_many(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
    ) -> PyResult<Vec<bool>> {
        self.look_or_ask(py, &keys, chariot_client::Client::exists_at_a_glance, chariot_client::Client::exists)
    }

    /// How many of the keys, from the first on and without a gap, have blocks.
    #[pyo3(signature = (keys, /))]
    fn longest_prefix(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
    ) -> PyResult<Prefix> {
        let glance = chariot_client::Client::longest_prefix_at_a_glance;
        self.look_or_ask(py, &keys, glance, chariot_client::Client::longest_prefix).map(Prefix::new)
    }

    /// Deletes the block `key`; whether it was there. Those who read it keep what they have.
    #[pyo3(signature = (key, /))]
    fn delete(&self, py: Python<'_>, #[pyo3(from_py_with = key)] key: chariot_types::Key) -> PyResult<bool> {
        Ok(self.call(py, |connection| connection.delete(&[key]))? > 0)
    }

    /// Deletes the blocks of many keys; how many were there.
    #[pyo3(signature = (keys, /))]
    fn delete_many(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
    ) -> PyResult<usize> {
        self.call(py, |connection| connection.delete(&keys))
    }

    /// Has these blocks, each with all that leads up to it in its chain, go after all that is not soft-pinned when room is
    /// needed; how many of them there were.
    ///
    /// For `seconds`, or until `soft_unpin`. They can still be deleted, and expire. More than a quarter of the worker's
    /// memory is refused.
    #[pyo3(signature = (keys, /, *, seconds=None))]
    fn soft_pin(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
        seconds: Option<f64>,
    ) -> PyResult<usize> {
        let time = seconds.map(|seconds| deadline::duration("seconds", seconds)).transpose()?;
        self.call(py, |connection| connection.soft_pin(&keys, time))
    }

    /// Ends soft pins of these blocks, whoever made them; how many of them were soft-pinned.
    #[pyo3(signature = (keys, /))]
    fn soft_unpin(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
    ) -> PyResult<usize> {
        self.call(py, |connection| connection.soft_unpin(&keys))
    }

    /// Has the worker carry these blocks, whole or as they grow, to the worker at `to` before anyone asks for them there.
    ///
    /// Does not wait. What is not there is passed over; without it, whoever needs the blocks finds them all the same.
    #[pyo3(signature = (to, keys, /))]
    fn forward(
        &self,
        py: Python<'_>,
        to: &str,
        #[pyo3(from_py_with = keys)] keys: Vec<chariot_types::Key>,
    ) -> PyResult<()> {
        let to = worker_address(Some(to))?;
        self.call(py, |connection| connection.forward(&to, &keys))
    }

    /// Returns when everything this client has put, advanced and sealed so far can be found by others.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, chariot_client::Client::flush)
    }

    /// How the worker is: the fields of `chariot_ds.status.Status`.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = self.call(py, chariot_client::Client::status)?;
        let json = serde_json::to_string(&status).map_err(|error| PyValueError::new_err(error.to_string()))?;
        py.import("json")?.call_method1("loads", (json,))
    }

    /// Stores a tensor, with its dtype and shape: `chariot_ds.tensors.put_tensor`.
    #[pyo3(signature = (key, tensor, **options))]
    fn put_tensor(
        slf: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        tensor: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        tensors(slf.py())?.call_method("put_tensor", (slf, key, tensor), options).map(drop)
    }

    /// The tensor stored under `key`, without a copy, or None: `chariot_ds.tensors.get_tensor`.
    #[pyo3(signature = (key, **options))]
    fn get_tensor<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        tensors(slf.py())?.call_method("get_tensor", (slf, key), options)
    }

    /// Ends the client: its calls raise `Closed` from now on. The connection itself ends with the last block that
    /// came from it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let connection = self.connection.get()?.lock().take();
        py.detach(|| drop(connection));
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _exception_type: &Bound<'_, PyAny>,
        _exception: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<Client of {}>", self.address)
    }
}

fn tensors(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("chariot_ds.tensors")
}

fn worker_address(address: Option<&str>) -> PyResult<WorkerAddress> {
    let from_environment = || {
        std::env::var(ADDRESS_VARIABLE).map_err(|_| {
            PyValueError::new_err(format!("no address given, and {ADDRESS_VARIABLE} is not set in the environment"))
        })
    };
    let text = address.map_or_else(from_environment, |address| Ok(address.to_owned()))?;
    text.parse().map_err(|error: chariot_types::AddressError| to_value_error(error))
}

fn connect_options(
    timeout: f64,
    request_timeout: f64,
    transport: &str,
    name: &str,
    namespace: &str,
    token: Option<&str>,
) -> PyResult<ConnectOptions> {
    let transport = match transport {
        "auto" => Transport::Auto,
        "tcp" => Transport::Tcp,
        other => {
            return Err(PyValueError::new_err(format!("`transport` is `{other}`: expected \"auto\" or \"tcp\"")));
        }
    };
    Ok(ConnectOptions {
        timeout: deadline::duration("timeout", timeout)?,
        request_timeout: deadline::duration("request_timeout", request_timeout)?,
        transport,
        name: name.to_owned(),
        namespace: namespace.parse().map_err(|error: NamespaceNameError| to_value_error(error))?,
        token: match token {
            Some(token) => Some(token.parse().map_err(|error: TokenError| to_value_error(error))?),
            None => token_from_environment().map_err(to_value_error)?,
        },
    })
}

fn lifetime(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    seconds.map(|seconds| deadline::duration("time_to_live", seconds)).transpose()
}

/// The pairs of a mapping or of an iterable of pairs, the second of each as `read` understands it.
fn pairs<T>(
    objects: &Bound<'_, PyAny>,
    read: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<(chariot_types::Key, T)>> {
    let items = match objects.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => objects.clone(),
    };
    items
        .try_iter()?
        .map(|pair| {
            let (first, second) = pair?
                .extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()
                .map_err(|_| PyTypeError::new_err("expected pairs of a key and its data"))?;
            Ok((key(&first)?, read(&second)?))
        })
        .collect()
}
