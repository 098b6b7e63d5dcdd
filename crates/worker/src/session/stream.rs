//! [`Stream`]: a client's socket, of either kind.

use std::io;
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// How long a client may take to hang up.
const HANG_UP_PATIENCE: Duration = Duration::from_secs(1);

/// A client's socket.
pub(crate) enum Stream {
    /// A client on this host, which maps the arena.
    Unix(UnixStream),
    /// A client anywhere, whose bytes travel inline.
    Tcp(TcpStream),
}

impl Stream {
    /// Says nothing more, and waits until the client has heard that and hung up as well: it would not hear what was said
    /// last if this were closed while something of its own is unread.
    pub(super) async fn hang_up(&self) {
        let _ = match self {
            Self::Unix(stream) => rustix::net::shutdown(stream, Shutdown::Write),
            Self::Tcp(stream) => rustix::net::shutdown(stream, Shutdown::Write),
        };
        let mut unread = vec![0; 64 << 10];
        let rest = async {
            while self.readable().await.is_ok() {
                match self.try_read(&mut unread) {
                    Ok(0) => return,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        };
        let _ = tokio::time::timeout(HANG_UP_PATIENCE, rest).await;
    }

    /// Its name in `dscli status`.
    pub(super) fn transport(&self) -> &'static str {
        match self {
            Self::Unix(_) => "unix",
            Self::Tcp(_) => "tcp",
        }
    }

    /// Whether bytes travel behind the messages.
    pub(super) fn is_inline(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.readable().await,
            Self::Tcp(stream) => stream.readable().await,
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.writable().await,
            Self::Tcp(stream) => stream.writable().await,
        }
    }

    pub(super) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_read(into),
            Self::Tcp(stream) => stream.try_read(into),
        }
    }

    /// Says that the socket has been read empty, so that the next wait for it to become readable does wait. What
    /// arrives meanwhile is not missed: it makes the socket readable anew.
    pub(super) fn expect_nothing_more(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = match self {
            Self::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
        };
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
        }
    }
}
