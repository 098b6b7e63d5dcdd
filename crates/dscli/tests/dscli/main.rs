//! dscli as a user and a script see it: real processes, their output, their exit codes, and what they leave behind.
#![allow(clippy::unwrap_used)]

mod cluster;
mod doctor;
mod evict;
mod node;
mod proxy;
mod restart;
mod spill;
mod start;
mod status;
mod stop;
mod tenants;
mod usage;
