//! Copies between a paged KV cache in host memory and the bytes of blocks.
//!
//! An engine keeps its KV cache in pages: block `b` of a layer lies at `address + b * block_stride`, perhaps in several
//! parts (K and V, or one part a head). A Chariot block is the concatenation of one block's pages, layer after layer,
//! so that its readable prefix grows while layers arrive. [`PagedCache`] knows where the pages are and copies them both
//! ways; it knows no engine, no tensor and no key.
//!
//! Memory of accelerators is not reached from here: the connector copies that through the engine's own library.

mod cache;
mod layout;

pub use cache::{Group, PagedCache};
pub use layout::{GroupLayout, LayoutError, PartLayout};
