//! The client of a data worker: put, get, follow and wait for blocks, from any thread.
//!
//! A [`Client`] holds one connection. On the worker's own host that is a Unix socket and a mapping of the worker's
//! arena and its index: a put is one copy, a get none and not even a message. From another host it is TCP, with the bytes
//! behind the messages. What a client sees is the same.
//!
//! Everything that a client holds (pins, growing blocks, granted room) belongs to its connection and is taken back
//! when that ends. While the worker is away every call fails at once with [`ClientError::Unavailable`]; a background
//! thread finds the worker again by itself. This crate knows nothing of tokens, tensors or engines.

mod block;
mod client;
mod connection;
mod copier;
mod copy;
mod dial;
mod error;
mod follow;
mod fork;
mod glance;
mod growing;
mod keeper;
mod local;
mod lookout;
mod mailbox;
mod options;
mod pending;
mod question;
mod reader;
mod regions;
mod riders;
mod token;
mod touched;

pub use block::Block;
pub use chariot_pool::Prefix;
pub use chariot_wire::{Progress, SessionStatus, Status};
pub use client::{Client, Evict, Put, Reserve};
pub use copy::copy_into_shared_memory;
pub use error::ClientError;
pub use growing::GrowingBlock;
pub use options::{ConnectOptions, Room, Transport, Wait};
pub use pending::PendingGet;
pub use question::{PendingExists, PendingPrefix, Question};
pub use token::{NoToken, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, token_from_environment, token_in_file};
