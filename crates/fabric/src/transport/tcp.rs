//! Links over TCP.
//!
//! Bytes of blocks are copied to the socket, and not sent from the arena's file by `sendfile`: that takes page by page,
//! and was measured to cost more than the copy on both sides (`docs/perf.md`).

use std::io::{self, IoSlice};
use std::net::TcpStream as StdTcpStream;
use std::sync::Arc;
use std::time::Duration;

use chariot_tcp::unpace;
use chariot_types::WorkerAddress;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use super::{Doing, Link, Receiver, Sender, Transport};
use crate::PATIENCE;

/// How long a connection may take to come about.
const DIAL_PATIENCE: Duration = Duration::from_secs(2);

/// Links over TCP.
#[derive(Clone, Copy, Default, Debug)]
pub struct TcpTransport;

impl Transport for TcpTransport {
    fn dial<'a>(&'a self, to: &'a WorkerAddress) -> Doing<'a, Link> {
        Box::pin(async move { Ok(link(dial(to).await?)) })
    }
}

/// Connects to a worker.
pub(super) async fn dial(to: &WorkerAddress) -> io::Result<TcpStream> {
    let dialled = timeout(DIAL_PATIENCE, connect(to)).await;
    prepare(dialled.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
}

async fn connect(to: &WorkerAddress) -> io::Result<TcpStream> {
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in lookup_host((to.host(), to.port())).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        unpace(&socket);
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Makes a link of a connection that was accepted. To be called in the runtime that will drive it.
pub fn adopt(stream: StdTcpStream) -> io::Result<Link> {
    stream.set_nonblocking(true)?;
    Ok(link(prepare(TcpStream::from_std(stream)?)?))
}

/// Sets what holds for all connections between workers.
pub(super) fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(true)?;
    // A host that is gone without a word is found out even while nothing is sent.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PATIENCE).with_interval(Duration::from_secs(1)))?;
    socket.set_tcp_user_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn link(stream: TcpStream) -> Link {
    let stream = Arc::new(stream);
    Link { sender: Box::new(TcpSender(stream.clone())), receiver: Box::new(TcpReceiver(stream)) }
}

struct TcpSender(Arc<TcpStream>);

struct TcpReceiver(Arc<TcpStream>);

impl Sender for TcpSender {
    fn send<'a>(&'a mut self, frames: &'a [u8], payload: &'a [u8]) -> Doing<'a, ()> {
        Box::pin(async move {
            let (mut first, mut second) = (frames, payload);
            while !(first.is_empty() && second.is_empty()) {
                match self.send_some(&[IoSlice::new(first), IoSlice::new(second)]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(sent) => {
                        let of_first = sent.min(first.len());
                        (first, second) = (&first[of_first..], &second[sent - of_first..]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let writable = timeout(PATIENCE, self.0.writable()).await;
                        writable.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    fn try_send(&mut self, frames: &[u8]) -> usize {
        self.send_some(&[IoSlice::new(frames)]).unwrap_or(0)
    }
}

impl TcpSender {
    fn send_some(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_io(Interest::WRITABLE, || {
            Ok(sendmsg(&*self.0, pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
        })
    }
}

impl Drop for TcpSender {
    fn drop(&mut self) {
        end(&self.0);
    }
}

impl Drop for TcpReceiver {
    fn drop(&mut self) {
        end(&self.0);
    }
}

/// One half is gone. The other may still be held, and nobody shall wait for what it brings, nor for it.
fn end(stream: &TcpStream) {
    // A connection that has ended already is no error.
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Both);
}

impl Receiver for TcpReceiver {
    fn receive<'a>(&'a mut self, into: &'a mut [u8]) -> Doing<'a, usize> {
        Box::pin(async move {
            loop {
                match self.0.try_read(into) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.0.readable().await?,
                    result => return result,
                }
            }
        })
    }
}
