//! The client of a data worker.
