//! [`Saver`]: copies the pages of a step's blocks to the data worker while the model computes the next layer.
//!
//! A step begins with the list of its blocks. A thread asks the worker for room while the forward pass starts; each
//! layer that the model has written is then copied for all blocks, and the blocks' readable prefix advances. `finish`
//! copies what is left with the caller's help, seals the blocks and returns when others can find them. A step that
//! cannot be saved is a later miss and nothing more.
//!
//! Blocks whose reader is known are forwarded as soon as they have room, so that each layer is on its way to the reader's
//! worker while the next is computed.

mod forward;
mod step;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use chariot_client::Client;
use chariot_types::Key;
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use self::forward::Forward;
use self::step::{PlannedBlock, Step};
use super::connection::Connection;
use super::pages::PagedCache;
use crate::chain::{Shard, key_of};
use crate::describe::to_value_error;

/// Saves the blocks of one step after the other.
///
/// `shards` holds, by group, the description of the shard that this rank keeps.
#[pyclass(module = "chariot_ds._native", frozen)]
pub(crate) struct Saver {
    client: Client,
    shards: Vec<Shard>,
    /// The step that has begun and not finished. Locked for a swap only.
    step: Mutex<Option<Arc<Step>>>,
    thread: Mutex<Option<Thread>>,
}

/// The thread that opens steps and copies their layers; it ends when its channel does.
struct Thread {
    errands: Sender<Errand>,
    handle: JoinHandle<()>,
}

/// Blocks that go last for some time.
struct SoftPin {
    time: Duration,
    keys: Vec<Key>,
}

/// What the thread does.
enum Errand {
    Carry(Arc<Step>),
    Forward(Vec<Forward>),
    SoftPin(Vec<SoftPin>),
}

/// What became of a step's blocks.
#[pyclass(module = "chariot_ds._native", frozen, get_all)]
pub(crate) struct SaveReport {
    /// Blocks that others can find now.
    saved: usize,
    /// Blocks that were there already.
    present: usize,
    /// Blocks for which there was no room, or no worker.
    dropped: usize,
    /// Bytes of the saved blocks.
    bytes: usize,
    /// Seconds that the caller waited.
    waited: f64,
    /// Why blocks were dropped, if any were.
    error: Option<String>,
}

/// A block to save: `(group, block, key, parent)`, the key of the block before it or `None`.
type BlockTuple = (usize, usize, PyBackedBytes, Option<PyBackedBytes>);

/// Blocks to soft-pin: for how many seconds, and each `(group, key)`.
type SoftPinTuple = (f64, Vec<(usize, PyBackedBytes)>);

/// Blocks to forward: the address of their reader's worker, and each `(group, key)`.
type ForwardTuple = (String, Vec<(usize, PyBackedBytes)>);

#[pymethods]
impl Saver {
    #[new]
    fn new(connection: &Connection, shards: Vec<PyBackedBytes>) -> PyResult<Self> {
        let shards = shards.iter().map(|description| Shard::new(description)).collect();
        let (errands, given) = channel();
        let thread = std::thread::Builder::new().name("chariot-save".to_owned());
        let handle = thread
            .spawn(run_errands(connection.client(), given))
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let thread = Mutex::new(Some(Thread { errands, handle }));
        Ok(Self { client: connection.client(), shards, step: Mutex::new(None), thread })
    }

    /// Begins a step: `blocks`, whose pages in `cache` are about to be written or have been, are to be saved, and
    /// `forwards`, some of them and others, go on to other workers. A step that was not finished is given up.
    fn begin(&self, cache: &PagedCache, blocks: Vec<BlockTuple>, forwards: Vec<ForwardTuple>) -> PyResult<()> {
        let blocks = blocks.into_iter().map(|block| self.planned(&block)).collect::<PyResult<_>>()?;
        let step = Step::new(self.client.clone(), cache.pages(), blocks, self.forwards(&forwards)?);
        let step = Arc::new(step.map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?);
        if let Some(unfinished) = self.step.lock().replace(step.clone()) {
            unfinished.give_up();
        }
        self.send(Errand::Carry(step))
    }

    /// Forwards blocks in a step that saves none. Returns at once.
    fn forward(&self, forwards: Vec<ForwardTuple>) -> PyResult<()> {
        self.send(Errand::Forward(self.forwards(&forwards)?))
    }

    /// Soft-pins blocks that are there, or are saved in the step that has begun. Returns at once; what cannot be pinned goes
    /// as other blocks do.
    fn soft_pin(&self, pins: Vec<SoftPinTuple>) -> PyResult<()> {
        let pin = |(seconds, blocks): &SoftPinTuple| {
            let time = Duration::try_from_secs_f64(*seconds).map_err(to_value_error)?;
            Ok(SoftPin { time, keys: self.keys(blocks)? })
        };
        self.send(Errand::SoftPin(pins.iter().map(pin).collect::<PyResult<_>>()?))
    }

    /// The model has written layer `layer` of group `group` in all blocks of the step. Returns at once.
    fn layer_ready(&self, group: usize, layer: usize) {
        if let Some(step) = &*self.step.lock() {
            step.layer_ready(group, layer);
        }
    }

    /// Saves what is left of the step; returns when its blocks can be found by all. `None` when no step has begun.
    fn finish(&self, py: Python<'_>) -> Option<SaveReport> {
        let step = self.step.lock().take()?;
        let began = std::time::Instant::now();
        let outcome = py.detach(|| step.finish());
        Some(SaveReport {
            saved: outcome.saved,
            present: outcome.present,
            dropped: outcome.dropped,
            bytes: outcome.bytes,
            waited: began.elapsed().as_secs_f64(),
            error: outcome.error,
        })
    }

    /// Gives up a step that was not finished, and ends the thread.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.end());
    }
}

impl Saver {
    fn planned(&self, (group, block, key, parent): &BlockTuple) -> PyResult<PlannedBlock> {
        let shard = self.shard(*group)?;
        let parent = parent.as_ref().map(|parent| key_of(parent)).transpose()?;
        Ok(PlannedBlock {
            group: *group,
            block: *block,
            key: shard.key(key_of(key)?),
            parent: parent.map(|parent| shard.key(parent)),
        })
    }

    fn forwards(&self, forwards: &[ForwardTuple]) -> PyResult<Vec<Forward>> {
        let forward = |(to, blocks): &ForwardTuple| {
            let to = to.parse().map_err(to_value_error)?;
            Ok(Forward { to, keys: self.keys(blocks)? })
        };
        forwards.iter().map(forward).collect()
    }

    /// The keys of what this rank keeps of blocks.
    fn keys(&self, blocks: &[(usize, PyBackedBytes)]) -> PyResult<Vec<Key>> {
        blocks.iter().map(|(group, key)| Ok(self.shard(*group)?.key(key_of(key)?))).collect()
    }

    fn shard(&self, group: usize) -> PyResult<Shard> {
        let shard = self.shards.get(group).copied();
        shard.ok_or_else(|| PyRuntimeError::new_err(format!("there is no group `{group}`")))
    }

    fn send(&self, errand: Errand) -> PyResult<()> {
        let thread = self.thread.lock();
        let thread = thread.as_ref().ok_or_else(|| PyRuntimeError::new_err("the saver is closed"))?;
        thread.errands.send(errand).map_err(|_| PyRuntimeError::new_err("the saver's thread has ended"))
    }

    fn end(&self) {
        if let Some(step) = self.step.lock().take() {
            step.give_up();
        }
        if let Some(Thread { errands, handle }) = self.thread.lock().take() {
            drop(errands);
            // A panic of the thread has been reported by the panic hook, and its step was given up.
            let _ = handle.join();
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.end();
    }
}

fn run_errands(client: Client, given: Receiver<Errand>) -> impl FnOnce() {
    move || {
        while let Ok(errand) = given.recv() {
            match errand {
                Errand::Carry(step) => step.carry(),
                Errand::Forward(forwards) => forwards.iter().for_each(|forward| {
                    // A worker that is gone has nothing to forward.
                    let _ = forward.tell(&client);
                }),
                Errand::SoftPin(pins) => pins.iter().for_each(|SoftPin { time, keys }| {
                    // Nor to pin; and where too much is pinned already, `dscli status` says so.
                    let _ = client.soft_pin(keys, Some(*time));
                }),
            }
        }
    }
}
