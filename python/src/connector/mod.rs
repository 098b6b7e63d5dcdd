//! What the vLLM connector does without the interpreter: it looks keys up, copies pages to blocks while the model runs,
//! and copies blocks to pages while the engine does other things.
//!
//! Knows groups, layers and pages as numbers; vLLM and torch are known in `chariot_ds.vllm` only.

mod connection;
mod loader;
mod lookup;
mod pages;
mod saver;

use pyo3::prelude::*;

/// Adds the connector's classes to `module`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<crate::chain::KeyChain>()?;
    module.add_function(wrap_pyfunction!(crate::chain::shard_key, module)?)?;
    module.add_class::<connection::Connection>()?;
    module.add_function(wrap_pyfunction!(connection::check_address, module)?)?;
    module.add_class::<lookup::Lookup>()?;
    module.add_class::<lookup::PrefixQuestion>()?;
    module.add_class::<lookup::ExistQuestion>()?;
    module.add_class::<pages::PagedCache>()?;
    module.add_class::<saver::Saver>()?;
    module.add_class::<saver::SaveReport>()?;
    module.add_class::<loader::Loader>()?;
    module.add_class::<loader::LoadReport>()
}
