//! Carries messages and bytes of blocks between the workers of a cluster.
//!
//! It knows nothing of pools, directories or members' lists: what another worker says goes to a [`Host`], bytes come from
//! a [`Source`] and go to a [`Sink`], and how they travel is a [`Transport`](transport::Transport)'s business. What is said is told in
//! `chariot-wire`'s `peer.rs`.
//!
//! A worker dials others to ask, announce and push, and is dialled for the same. To each peer there is one control channel,
//! so that questions never wait behind bytes, and up to four data channels. Bytes are received straight into their block,
//! and checked before anyone may read them. Nothing is queued but messages: what waits to be sent is the blocks
//! themselves, so a peer that reads slowly costs no memory.
//!
//! Whatever ends a connection, everything that was asked over it ends with a [`PullEnd`], everything that came over it
//! and is not whole is lost, and the next question dials anew, after a pause if the last attempt failed.

mod accepted;
mod checksum;
mod connection;
mod counters;
mod dialled;
mod error;
mod fabric;
mod frames;
mod hear;
mod hello;
mod host;
mod incoming;
mod outbox;
mod peer;
mod reader;
mod stream;
pub mod transport;
mod writer;

use std::time::Duration;

pub use counters::FabricStats;
pub use error::FabricError;
pub use fabric::{Away, Fabric, Pulling};
pub use hello::{Identity, whose};
pub use host::{Asker, Host, PullEnd};
pub use stream::{Growth, Look, Sink, Source};

/// A connection on which something is due and nothing moves for this long has ended.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// After so many bytes in a row a connection lets the others of its thread have their turn: a socket may never block.
const TURN: usize = 2 << 20;

/// How long the first words may take.
const HELLO_PATIENCE: Duration = Duration::from_secs(2);
