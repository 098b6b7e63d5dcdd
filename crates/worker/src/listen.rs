//! Lets clients in, and owns their sessions until the last has ended.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_fabric::transport::{TlsTransport, adopt};
use chariot_fabric::whose;
use chariot_wire::{HEADER_LEN, Header, PeerMessage};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Plain;
use crate::handover::{Course, PausedSession};
use crate::node::Node;
use crate::seldom::Seldom;
use crate::session::{Session, Stream};
use crate::shared::Shared;
use crate::tenants::Tenants;

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
async fn admit(tenants: Arc<Tenants>, stream: Stream) {
    let Stream::Tcp(stream) = stream else { return Session::serve(&tenants, stream).await };
    let shared = tenants.first();
    let handed_over = match (who_is(&stream).await, shared.node(), shared.tls()) {
        (Who::Worker, Some(_), Some(_)) => Err(io::Error::other("it does not speak TLS")),
        (Who::Worker, Some(node), None) => hand_over(&tenants, &node, None, stream).await,
        (Who::SpeaksTls, Some(node), Some(tls)) => hand_over(&tenants, &node, Some(tls), stream).await,
        _ if is_refused(shared, &stream) => Err(io::Error::other("it is on another host, and TLS is required")),
        _ => return Session::serve(&tenants, Stream::Tcp(stream)).await,
    };
    if let Err(error) = handed_over
        && let Some(others) = shared.turned_away.is_due(Instant::now())
    {
        tracing::warn!(%error, others, "turned a connection away");
    }
}

/// Hands another worker to the part of this one that is in its cluster.
async fn hand_over(
    tenants: &Arc<Tenants>,
    node: &Node,
    tls: Option<&TlsTransport>,
    stream: TcpStream,
) -> io::Result<()> {
    let (stream, tls, tenants) = (stream.into_std()?, tls.cloned(), tenants.clone());
    let handing_over = node.threads().spawn(async move {
        let mut link = match tls {
            Some(tls) => tls.adopt(stream).await?,
            None => adopt(stream)?,
        };
        let (cluster, early) = whose(&mut link).await.map_err(io::Error::other)?;
        match tenants.of_cluster(&cluster) {
            Some(node) => node.accept(link, early),
            None => {
                return Err(io::Error::other(format!("it is a worker of the cluster `{}`", cluster.escape_debug())));
            }
        }
        Ok(())
    });
    handing_over.await.map_err(io::Error::other)?
}

/// Who is at the other end.
enum Who {
    Worker,
    SpeaksTls,
    /// A client, or nobody that one knows.
    Other,
}

/// How TLS begins: a handshake, of a version that says nothing. No first frame does, it would have 65 KiB of body.
const HANDSHAKE: &[u8] = &[22, 3, 1];

/// The first frame says who it is. Who says nothing is for the session to end.
async fn who_is(stream: &TcpStream) -> Who {
    let mut head = [0; HEADER_LEN];
    match tokio::time::timeout(HELLO_PATIENCE, stream.peek(&mut head)).await {
        Ok(Ok(_)) if head.starts_with(HANDSHAKE) => Who::SpeaksTls,
        Ok(Ok(HEADER_LEN)) if Header::decode(&head).is_ok_and(|header| PeerMessage::is_kind(header.kind)) => {
            Who::Worker
        }
        _ => Who::Other,
    }
}

/// Whether TLS is required of a client there.
fn is_refused(shared: &Shared, stream: &TcpStream) -> bool {
    shared.plain == Plain::Refused && !is_on_this_host(stream)
}

/// Nobody else has a conversation from the address that this host is reached at: its kernel drops what pretends to.
fn is_on_this_host(stream: &TcpStream) -> bool {
    let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    peer.ip().to_canonical().is_loopback() || peer.ip() == own.ip()
}

/// Lets clients in through `door` until the worker ends or is gone, and goes on with `paused` ones.
pub(crate) async fn listen(tenants: Arc<Tenants>, door: Door, paused: Vec<PausedSession>) -> io::Result<()> {
    let door = Accepting::new(door)?;
    let shared = tenants.first();
    let mut sessions = JoinSet::new();
    for client in paused {
        sessions.spawn(Session::go_on(shared.clone(), client));
    }
    let (crowded, failed) = (Seldom::default(), Seldom::default());
    let mut ending = shared.ending.subscribe();
    loop {
        tokio::select! {
            _ = ending.wait_for(|is_ending| *is_ending) => break,
            () = shared.pause() => match shared.settled_course().await {
                Course::Gone => break,
                Course::Serving | Course::Pausing(_) => {}
            },
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
            accepted = door.accept() => match accepted {
                Ok(_) if sessions.len() >= MAX_SESSIONS => {
                    if let Some(others) = crowded.is_due(Instant::now()) {
                        tracing::warn!(limit = MAX_SESSIONS, others, "turned a client away: too many are connected");
                    }
                }
                Ok(stream) => {
                    sessions.spawn(admit(tenants.clone(), stream));
                }
                Err(error) => {
                    // Out of descriptors, most likely: those in use come back, a tight loop would not help.
                    if let Some(others) = failed.is_due(Instant::now()) {
                        tracing::warn!(%error, others, "cannot let a client in");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    let _ = tokio::time::timeout(GRACE, async { while sessions.join_next().await.is_some() {} }).await;
    sessions.shutdown().await;
    Ok(())
}
