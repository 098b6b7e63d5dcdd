//! Membership in real etcd servers, of each version that `./dev setup` has installed.

#![allow(clippy::unwrap_used)]

mod away;
mod certificates;
mod gate;
mod inspecting;
mod joining;
mod security;
mod server;
mod untrusted;
mod workers;
