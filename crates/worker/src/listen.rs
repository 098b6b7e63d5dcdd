//! Lets clients in, and owns their sessions until the last has ended.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::session::{Session, Stream};
use crate::shared::Shared;

/// More clients than this on one door are turned away.
const MAX_SESSIONS: usize = 4096;

/// How long sessions may take to end once the worker ends.
const GRACE: Duration = Duration::from_secs(3);

/// Where clients come in.
pub(crate) enum Door {
    /// Clients on this host.
    Unix(UnixListener),
    /// Clients anywhere.
    Tcp(TcpListener),
}

impl Door {
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }
}

enum Accepting {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Accepting {
    fn new(door: Door) -> io::Result<Self> {
        Ok(match door {
            Door::Unix(listener) => Self::Unix(tokio::net::UnixListener::from_std(listener)?),
            Door::Tcp(listener) => Self::Tcp(tokio::net::TcpListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// Lets clients in through `door` until the worker ends.
pub(crate) async fn listen(shared: Arc<Shared>, door: Door) -> io::Result<()> {
    let door = Accepting::new(door)?;
    let mut sessions = JoinSet::new();
    let mut ending = shared.ending.subscribe();
    loop {
        tokio::select! {
            _ = ending.wait_for(|is_ending| *is_ending) => break,
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
            accepted = door.accept() => match accepted {
                Ok(_) if sessions.len() >= MAX_SESSIONS => {
                    tracing::warn!(limit = MAX_SESSIONS, "turned a client away: too many are connected");
                }
                Ok(stream) => {
                    sessions.spawn(Session::serve(shared.clone(), stream));
                }
                Err(error) => {
                    // Out of descriptors, most likely: those in use come back, a tight loop would not help.
                    tracing::warn!(%error, "cannot let a client in");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    let _ = tokio::time::timeout(GRACE, async { while sessions.join_next().await.is_some() {} }).await;
    sessions.shutdown().await;
    Ok(())
}
