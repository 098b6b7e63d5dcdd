//! The data worker: a daemon that owns one host's pool of KV-cache blocks and serves it to clients.
//!
//! This crate composes the parts: it hands the pool's arena to local clients over a Unix socket, carries bytes for
//! clients on other hosts over TCP, wakes those who wait, and takes back what a client held when its connection ends.
//! What a block is and when it may be freed is the pool's to say; what the messages mean is written in `chariot-wire`.
//!
//! Two threads serve: one all local clients, whose messages are short, and one all TCP clients, whose bytes take time
//! to copy and would delay them. A third touches the arena's pages ahead, and a fourth waits for a process that the worker is
//! to go on in (`handover`). [`Worker::start`] is the way in.

mod clustered;
mod config;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handover;
mod listen;
mod node;
mod place;
mod rest;
mod running;
mod seldom;
mod session;
mod shared;
mod status;
mod tenants;
mod tier;
mod touch;
mod waiters;
mod worker;

pub use chariot_fabric::transport::Credentials;
pub use config::{Plain, Quota, Security, Tenant, WorkerConfig, default_shared_memory};
pub use error::WorkerError;
pub use handover::HandoverError;
pub use place::{Place, default_run_dir};
pub use tier::SpillTo;
pub use worker::Worker;
