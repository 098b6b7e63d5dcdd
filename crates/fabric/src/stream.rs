//! [`Source`] and [`Sink`]: where the bytes of a block come from and go to, whoever keeps them.

use std::sync::Weak;

use crate::connection::Connection;

/// A block that is being sent. Dropped when all of it is on its way, or the receiver wants it no more, or is gone.
pub trait Source: Send {
    /// How much more there is behind the first `sent` bytes. Where there is nothing yet, `growth` is to be told when
    /// there is.
    fn look(&mut self, sent: u64, growth: &Growth) -> Look;

    /// `len` bytes from `offset` on, which [`Source::look`] said are there.
    fn bytes(&self, offset: u64, len: u64) -> &[u8];
}

/// How much more of a block there is to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// So many bytes more, one at least.
    More(u64),
    /// Nothing yet.
    NotYet,
    /// Nothing, and the block is whole.
    Whole,
    /// Nothing ever.
    Lost,
}

/// A block that is being received. Dropped before it is sealed, it is lost.
pub trait Sink: Send {
    /// How many bytes it will have.
    fn len(&self) -> u64;

    /// Whether it will have none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Just the `len` bytes from `offset` on, to be written. They are within [`Sink::len`], and not readable yet.
    fn room(&mut self, offset: u64, len: u64) -> &mut [u8];

    /// The first `readable` bytes are there and have been checked.
    fn advance(&mut self, readable: u64);

    /// All are.
    fn seal(self: Box<Self>);
}

/// Tells whoever sends a block that there may be more of it.
#[derive(Clone, Debug)]
pub struct Growth {
    pub(crate) connection: Weak<Connection>,
    pub(crate) stream: u64,
}

impl Growth {
    /// There may be more.
    pub fn tell(&self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.outbox.rouse(self.stream);
        }
    }
}
