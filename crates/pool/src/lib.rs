//! The shared-memory arena and the life of its blocks.
