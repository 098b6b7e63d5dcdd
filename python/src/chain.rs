//! Keys of KV-cache blocks for Python: [`KeyChain`] over token ids, and [`shard_key`] for one shard of a block.

use chariot_types::{Key, Namespace};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::HashMap;

/// The keys of one sequence's blocks, computed as the sequence grows.
///
/// `namespace` describes all that the blocks depend on besides their tokens, in a canonical form; `block_size` is how
/// many tokens a full block holds. Keys are `bytes`.
#[pyclass(module = "chariot_ds._native")]
pub(crate) struct KeyChain {
    namespace: Namespace,
    chain: chariot_types::KeyChain,
    block_size: usize,
}

#[pymethods]
impl KeyChain {
    #[new]
    fn new(namespace: &[u8], block_size: usize) -> PyResult<Self> {
        if block_size == 0 {
            return Err(PyValueError::new_err("a block holds at least one token"));
        }
        let namespace = Namespace::new(namespace);
        Ok(Self { namespace, chain: namespace.chain(), block_size })
    }

    /// Goes on over `tokens`, a whole number of blocks; returns one key a block. `extras` holds, by the block's index
    /// among these, what else a block's bytes depend on.
    fn extend<'py>(
        &mut self,
        py: Python<'py>,
        tokens: Vec<u32>,
        extras: HashMap<usize, Vec<u8>>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let blocks = tokens.chunks_exact(self.block_size);
        if !blocks.remainder().is_empty() {
            let text = format!("`{}` tokens are no whole number of blocks of `{}`", tokens.len(), self.block_size);
            return Err(PyValueError::new_err(text));
        }
        let extra = |index| extras.get(&index).map_or(&[][..], Vec::as_slice);
        let keys = blocks.enumerate().map(|(index, block)| self.chain.push(block, extra(index)));
        Ok(keys.map(|key| PyBytes::new(py, key.as_bytes())).collect())
    }

    /// The key of the block that follows the one called `parent` and holds only `tokens` so far. The chain stays where
    /// it is.
    #[pyo3(signature = (parent, tokens, extra))]
    fn partial<'py>(
        &self,
        py: Python<'py>,
        parent: Option<&[u8]>,
        tokens: Vec<u32>,
        extra: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let parent = parent.map(key_of).transpose()?;
        let key = chariot_types::KeyChain::resume(self.namespace, parent).partial(&tokens, extra);
        Ok(PyBytes::new(py, key.as_bytes()))
    }
}

/// What tells the shards of a block apart: where its bytes come from and how they are laid out.
#[derive(Clone, Copy)]
pub(crate) struct Shard(Namespace);

impl Shard {
    pub(crate) fn new(description: &[u8]) -> Self {
        Self(Namespace::new(description))
    }

    /// The key under which this shard of the block called `content` is kept.
    pub(crate) fn key(self, content: Key) -> Key {
        self.0.block_key(Some(content), &[], &[])
    }
}

/// The key in `raw`.
pub(crate) fn key_of(raw: &[u8]) -> PyResult<Key> {
    let raw = raw.try_into();
    raw.map(Key::from_bytes).map_err(|_| PyValueError::new_err(format!("a key has {} bytes", Key::LEN)))
}

/// The key under which the worker keeps one shard of the block called `content`; `description` is the shard's.
#[pyfunction]
pub(crate) fn shard_key<'py>(py: Python<'py>, description: &[u8], content: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, Shard::new(description).key(key_of(content)?).as_bytes()))
}
