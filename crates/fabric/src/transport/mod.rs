//! How bytes get from one worker to another: small traits, so that another kind of network touches nothing else.
//!
//! A [`Link`] is an ordered, reliable connection. Its sender is handed messages, and bytes of a block where they lie in
//! the arena; its receiver fills memory that it is given, which for bytes of a block is the arena again. One suite,
//! `tests/transports.rs`, runs on every implementation.

mod memory;
mod tcp;
mod tls;

use std::io;
use std::pin::Pin;

use chariot_types::WorkerAddress;

pub use memory::{MemoryNetwork, MemoryTransport};
pub use tcp::{TcpTransport, adopt};
pub use tls::{Credentials, TlsTransport};

/// Something that a link is doing.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A way to reach other workers.
pub trait Transport: Send + Sync + 'static {
    /// Connects to the worker that listens at `to`. Dropped, it gives up.
    fn dial<'a>(&'a self, to: &'a WorkerAddress) -> Doing<'a, Link>;
}

/// An ordered, reliable connection to another worker. It ends when either half is dropped, or fails at any time: the other
/// side receives what was sent before, most likely, then the end, and its sends fail.
pub struct Link {
    /// What is sent through it.
    pub sender: Box<dyn Sender>,
    /// What comes out of it.
    pub receiver: Box<dyn Receiver>,
}

/// The sending half of a link.
pub trait Sender: Send {
    /// Sends `frames` and then `payload`, and returns when neither is needed any more. Fails when nothing moves for
    /// [`PATIENCE`](crate::PATIENCE). Not to be called again after a failure, or before it has returned.
    fn send<'a>(&'a mut self, frames: &'a [u8], payload: &'a [u8]) -> Doing<'a, ()>;

    /// Sends as much of `frames` as can be sent without waiting, on any thread, and returns how many bytes that was. What
    /// fails counts as nothing: the next [`send`](Sender::send) tells why.
    fn try_send(&mut self, frames: &[u8]) -> usize;
}

/// The receiving half of a link.
pub trait Receiver: Send {
    /// Receives at least one byte into `into`; 0 when the other side has ended the link. Loses nothing when dropped.
    fn receive<'a>(&'a mut self, into: &'a mut [u8]) -> Doing<'a, usize>;
}
