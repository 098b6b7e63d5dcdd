//! [`PagedCache`]: an engine's registered pages, kept alive by Python.

use std::sync::Arc;

use chariot_device::{GroupLayout, PartLayout};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Where a KV cache in host memory lies.
///
/// `groups` is a list of `(blocks, layers)`; a layer is a list of parts, each `(address, block_stride, page_bytes)`.
/// `owner` is whatever keeps the memory alive (the tensors).
#[pyclass(module = "chariot_ds._native", frozen)]
pub(crate) struct PagedCache {
    pages: Arc<Pages>,
}

/// The pages together with what keeps their memory.
pub(crate) struct Pages {
    pub(crate) cache: chariot_device::PagedCache,
    _owner: Py<PyAny>,
}

impl PagedCache {
    pub(crate) fn pages(&self) -> Arc<Pages> {
        self.pages.clone()
    }
}

type Parts = Vec<(usize, usize, usize)>;

#[pymethods]
impl PagedCache {
    #[new]
    fn new(groups: Vec<(usize, Vec<Parts>)>, owner: Py<PyAny>) -> PyResult<Self> {
        let part = |(address, block_stride, page_bytes)| PartLayout { address, block_stride, page_bytes };
        let groups = groups.into_iter().map(|(blocks, layers)| GroupLayout {
            blocks,
            layers: layers.into_iter().map(|parts| parts.into_iter().map(part).collect()).collect(),
        });
        // SAFETY: the connector takes addresses and strides from tensors and hands those in as `owner`, which lives as
        // long as the pages do.
        let cache = unsafe { chariot_device::PagedCache::new(groups.collect()) };
        let cache = cache.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { pages: Arc::new(Pages { cache, _owner: owner }) })
    }

    /// Bytes of one block of group `group`.
    fn block_bytes(&self, group: usize) -> PyResult<usize> {
        let group = self.pages.cache.group(group).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(group.block_bytes())
    }
}
