//! How bytes get from one worker to another: small traits, so that another kind of network touches nothing else.
//!
//! A [`Link`] is an ordered, reliable connection. Its sender is handed messages, and the bytes of a block where they lie
//! in the arena; its receiver fills memory that it is given, which for bytes of a block is the arena again. One suite,
//! `tests/transports.rs`, runs on every implementation.

mod memory;
mod tcp;

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;

use chariot_types::WorkerAddress;

pub use memory::{MemoryNetwork, MemoryTransport};
pub use tcp::{TcpTransport, adopt};

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
    /// Sends `frames` and then `payload`, and returns when neither is needed any more, except that the payload's bytes in
    /// a file must stay as they are until the receiver says that it has them. Fails when nothing moves for
    /// [`PATIENCE`](crate::PATIENCE). Not to be called again after a failure.
    fn send<'a>(&'a mut self, frames: &'a [u8], payload: Payload<'a>) -> Doing<'a, ()>;
}

/// The receiving half of a link.
pub trait Receiver: Send {
    /// Receives at least one byte into `into`; 0 when the other side has ended the link. Loses nothing when dropped.
    fn receive<'a>(&'a mut self, into: &'a mut [u8]) -> Doing<'a, usize>;
}

/// Bytes of a block.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// A file that has the same bytes from this offset on, and from which the kernel can send them without a copy.
    pub file: Option<(BorrowedFd<'a>, u64)>,
}

impl Payload<'_> {
    /// No bytes.
    pub const NONE: Self = Payload { bytes: &[], file: None };
}
