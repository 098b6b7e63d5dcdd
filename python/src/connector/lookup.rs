//! [`Lookup`]: which blocks are there, asked by the scheduler, for all shards of a block at once.

use chariot_client::{Client, ClientError};
use chariot_types::Key;
use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use super::connection::{Connection, describe};
use crate::chain::{Shard, key_of};

/// Keys in one call of the client.
const MAX_BATCH: usize = 1 << 16;

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

    /// How many of `blocks`, each `(group, key)`, are there from the first on, whole or still being written.
    fn prefix(&self, py: Python<'_>, blocks: Vec<(usize, PyBackedBytes)>) -> PyResult<usize> {
        let (keys, ends) = self.keys(&blocks)?;
        let present = py.detach(|| self.present(&keys)).map_err(to_connection_error)?;
        Ok(ends.partition_point(|end| *end <= present))
    }

    /// Which of `blocks`, each `(group, key)`, are there whole.
    fn exist(&self, py: Python<'_>, blocks: Vec<(usize, PyBackedBytes)>) -> PyResult<Vec<bool>> {
        let (keys, ends) = self.keys(&blocks)?;
        let found =
            py.detach(|| keys.chunks(MAX_BATCH).map(|batch| self.client.exists(batch)).collect::<Result<Vec<_>, _>>());
        let found = found.map_err(to_connection_error)?.concat();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        Ok(starts.zip(&ends).map(|(start, end)| found[start..*end].iter().all(|is_there| *is_there)).collect())
    }
}

impl Lookup {
    /// How many of `keys` are there from the first on: one round trip for each message's worth of keys.
    fn present(&self, keys: &[Key]) -> Result<usize, ClientError> {
        let mut present = 0;
        for batch in keys.chunks(MAX_BATCH) {
            let prefix = self.client.longest_prefix(batch)?;
            present += prefix.present;
            if prefix.present < batch.len() {
                break;
            }
        }
        Ok(present)
    }

    /// The keys of all shards of `blocks`, and where those of each block end among them.
    fn keys(&self, blocks: &[(usize, PyBackedBytes)]) -> PyResult<(Vec<Key>, Vec<usize>)> {
        let mut keys = Vec::with_capacity(blocks.len());
        let mut ends = Vec::with_capacity(blocks.len());
        for (group, raw) in blocks {
            let shards = self.shards.get(*group);
            let shards = shards.ok_or_else(|| PyValueError::new_err(format!("there is no group `{group}`")))?;
            let content = key_of(raw)?;
            keys.extend(shards.iter().map(|shard| shard.key(content)));
            ends.push(keys.len());
        }
        Ok((keys, ends))
    }
}

fn to_connection_error(error: ClientError) -> PyErr {
    PyConnectionError::new_err(describe(&error))
}
