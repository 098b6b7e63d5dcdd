//! The proxy between real sockets: a client on one side, instances that only pretend to be vLLM on the other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod balance;
mod cancel;
mod client;
mod completion;
mod dispatch;
mod failure;
mod fake_engine;
mod limits;
mod server;
