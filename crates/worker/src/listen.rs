//! Lets clients in, and owns their sessions until the last has ended.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use chariot_wire::{HEADER_LEN, Header, PeerMessage};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::session::{Session, Stream};
use crate::shared::Shared;

/// More clients than this on one door are turned away.
const MAX_SESSIONS: usize = 4096;

/// How long it may take until someone who came in says something.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

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

/// Serves a client; or hands another worker, which comes through the same door, to those who deal with workers.
async fn admit(shared: Arc<Shared>, stream: Stream) {
    match (stream, shared.node()) {
        (Stream::Tcp(stream), Some(node)) if is_worker(&stream).await => match stream.into_std() {
            Ok(stream) => node.accept(stream),
            Err(error) => tracing::warn!(%error, "cannot hand over a connection from a worker"),
        },
        (stream, _) => Session::serve(shared, stream).await,
    }
}

/// Whether another worker is at the other end: its first frame says so. Who says nothing is for the session to end.
async fn is_worker(stream: &TcpStream) -> bool {
    let mut head = [0; HEADER_LEN];
    match tokio::time::timeout(HELLO_PATIENCE, stream.peek(&mut head)).await {
        Ok(Ok(HEADER_LEN)) => Header::decode(&head).is_ok_and(|header| PeerMessage::is_kind(header.kind)),
        _ => false,
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
                    sessions.spawn(admit(shared.clone(), stream));
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
