//! Copies between a paged KV cache and blocks.
