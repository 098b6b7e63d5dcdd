//! [`Lookup`]: which blocks are there, asked by the scheduler, for all shards of a block at once.
//!
//! The scheduler must not wait. What the data worker's index shows is known at once; what the worker has to find out is
//! asked, and its answer is looked for each time that the scheduler comes by.

mod exist;
mod prefix;

use chariot_client::{Client, ClientError};
use chariot_types::Key;
use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

pub(super) use self::exist::ExistQuestion;
pub(super) use self::prefix::PrefixQuestion;
use super::connection::Connection;
use crate::chain::{Shard, key_of};
use crate::describe::describe;

/// Keys in one call of the client.
const MAX_BATCH: usize = 1 << 16;

/// More keys than this take longer to be looked up than it takes to hand the interpreter over.
const KEYS_AT_A_GLANCE: usize = 4096;

/// Asks the data worker which blocks can be loaded.
///
/// `shards` holds, by group, the descriptions of the shards that make up a block of that group (one a rank): a block
/// is there when all of its shards are. A call that the worker does not answer raises `ConnectionError`.
#[pyclass(module = "chariot_ds._native", frozen)]
pub(crate) struct Lookup {
    client: Client,
    shards: Vec<Vec<Shard>>,
}

#[pymethods]
impl Lookup {
    #[new]
    fn new(connection: &Connection, shards: Vec<Vec<PyBackedBytes>>) -> Self {
        let shards = shards.iter().map(|group| group.iter().map(|description| Shard::new(description)).collect());
        Self { client: connection.client(), shards: shards.collect() }
    }

    /// Asks how many of `blocks`, each `(group, key)`, are there from the first on, whole or still being written.
    fn prefix(&self, py: Python<'_>, blocks: Vec<(usize, PyBackedBytes)>) -> PyResult<PrefixQuestion> {
        let keys = self.keys(&blocks)?;
        Self::begin(py, keys.keys.len(), || PrefixQuestion::ask(&self.client, keys))
    }

    /// Whether the worker is seen to hold all of `blocks`, each `(group, key)`, whole and by itself.
    fn holds(&self, py: Python<'_>, blocks: Vec<(usize, PyBackedBytes)>) -> PyResult<bool> {
        let keys = self.keys(&blocks)?.keys;
        let holds = |batch| self.client.holds(batch).map(|held| held.iter().all(|is_held| *is_held));
        let all = py.detach(|| keys.chunks(MAX_BATCH).map(holds).collect::<Result<Vec<_>, _>>());
        Ok(all.map_err(to_connection_error)?.into_iter().all(|is_held| is_held))
    }

    /// Asks which of `blocks`, each `(group, key)`, are there whole.
    fn exist(&self, py: Python<'_>, blocks: Vec<(usize, PyBackedBytes)>) -> PyResult<ExistQuestion> {
        let keys = self.keys(&blocks)?;
        Self::begin(py, keys.keys.len(), || ExistQuestion::ask(&self.client, keys))
    }
}

/// The keys of all shards of some blocks.
struct BlockKeys {
    keys: Vec<Key>,
    /// Where those of each block end.
    ends: Vec<usize>,
}

impl Lookup {
    /// Looks the keys up, or asks for them. The scheduler's thread keeps the interpreter for what takes less time than to
    /// get it back from another thread.
    fn begin<T: Send>(py: Python<'_>, keys: usize, ask: impl FnOnce() -> Result<T, ClientError> + Send) -> PyResult<T> {
        let begun = if keys <= KEYS_AT_A_GLANCE { ask() } else { py.detach(ask) };
        begun.map_err(to_connection_error)
    }

    fn keys(&self, blocks: &[(usize, PyBackedBytes)]) -> PyResult<BlockKeys> {
        let mut keys = Vec::with_capacity(blocks.len());
        let mut ends = Vec::with_capacity(blocks.len());
        for (group, raw) in blocks {
            let shards = self.shards.get(*group);
            let shards = shards.ok_or_else(|| PyValueError::new_err(format!("there is no group `{group}`")))?;
            let content = key_of(raw)?;
            keys.extend(shards.iter().map(|shard| shard.key(content)));
            ends.push(keys.len());
        }
        Ok(BlockKeys { keys, ends })
    }
}

fn to_connection_error(error: ClientError) -> PyErr {
    PyConnectionError::new_err(describe(&error))
}
