//! OpenAI-compatible proxy over prefill and decode instances.
//!
//! A completion request is answered in two steps: a copy of it, cut down to one token, goes to a prefill instance, whose
//! KV cache the connector carries away; then the request itself goes to a decode instance, together with the
//! `kv_transfer_params` that prefill returned, and decode's reply is streamed to the client as it arrives. Everything
//! else goes to a decode instance untouched. With [`Dispatch::Concurrent`] both are asked at once, and decode takes the KV
//! cache while prefill computes it.
//!
//! The proxy knows nothing of KV caches or models, and of data workers only the addresses that it hands on. It keeps no
//! state between requests but how busy and how reachable each instance is, so any number of proxies can stand side by side.
//!
//! What it promises:
//! - Prefill is an optimisation. Where no prefill instance answers, decode gets the request alone and computes the prompt.
//! - A client that goes away takes its upstream request with it, in either step, at once. See `connection`.
//! - A reply is never held back: what decode sends is written to the client in the same turn of the event loop. (Asked
//!   together with prefill, decode may send the head of its reply long before the first byte; the client gets both then.)
//!
//! What it does not do: TLS on either side, HTTP/2, protocol upgrades (WebSocket), or looking into prompts to route by
//! their prefix. A router for large fleets does; the connector works behind those as well.
//!
//! The entry points are [`serve`] and, where the caller wants the bound address first, [`Proxy`].

mod answer;
mod balance;
mod body;
mod completion;
mod config;
mod connection;
mod error;
mod fleet;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod metrics;
mod outbound;
mod prefill;
mod reply;
mod routes;
mod server;
mod split;

pub use config::{Backoff, Dispatch, InstanceAddress, Limits, ProxyConfig, Side, Timeouts};
pub use error::ProxyError;
pub use server::{Proxy, serve};
