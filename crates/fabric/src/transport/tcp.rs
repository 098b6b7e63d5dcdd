//! Links over TCP.
//!
//! Bytes of blocks are sent from the arena's file: the kernel takes its pages as they are, so that sending costs the
//! processor next to nothing. Whoever receives pays for the one copy, into its own arena.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use chariot_types::WorkerAddress;
use rustix::net::SendFlags;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Doing, Link, Payload, Receiver, Sender, Transport};
use crate::PATIENCE;

/// How long a connection may take to come about.
const DIAL_PATIENCE: Duration = Duration::from_secs(2);

/// Links over TCP.
#[derive(Clone, Copy, Default, Debug)]
pub struct TcpTransport;

impl Transport for TcpTransport {
    fn dial<'a>(&'a self, to: &'a WorkerAddress) -> Doing<'a, Link> {
        Box::pin(async move {
            let dialled = timeout(DIAL_PATIENCE, TcpStream::connect((to.host(), to.port()))).await;
            link(dialled.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
        })
    }
}

/// Makes a link of a connection that was accepted. To be called in the runtime that will drive it.
pub fn adopt(stream: StdTcpStream) -> io::Result<Link> {
    stream.set_nonblocking(true)?;
    link(TcpStream::from_std(stream)?)
}

fn link(stream: TcpStream) -> io::Result<Link> {
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(true)?;
    // A host that is gone without a word is found out even while nothing is sent.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PATIENCE).with_interval(Duration::from_secs(1)))?;
    socket.set_tcp_user_timeout(Some(PATIENCE))?;
    let stream = Arc::new(stream);
    Ok(Link { sender: Box::new(TcpSender(stream.clone())), receiver: Box::new(TcpReceiver(stream)) })
}

struct TcpSender(Arc<TcpStream>);

struct TcpReceiver(Arc<TcpStream>);

impl Sender for TcpSender {
    fn send<'a>(&'a mut self, frames: &'a [u8], payload: Payload<'a>) -> Doing<'a, ()> {
        Box::pin(async move {
            let flags =
                if payload.bytes.is_empty() { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::MORE };
            self.send_all(frames.len(), |sent| Ok(rustix::net::send(&*self.0, &frames[sent..], flags)?)).await?;
            match payload.file {
                Some((file, start)) => {
                    self.send_all(payload.bytes.len(), |sent| {
                        send_from_file(&self.0, file, start + sent as u64, payload.bytes.len() - sent)
                    })
                    .await
                }
                None => {
                    let bytes = payload.bytes;
                    let send = |sent: usize| Ok(rustix::net::send(&*self.0, &bytes[sent..], SendFlags::NOSIGNAL)?);
                    self.send_all(bytes.len(), send).await
                }
            }
        })
    }
}

impl TcpSender {
    /// Sends `len` bytes by calls of `send`, which is told how many are sent and returns how many more it has.
    async fn send_all(&self, len: usize, send: impl Fn(usize) -> io::Result<usize>) -> io::Result<()> {
        let mut sent = 0;
        while sent < len {
            match self.0.try_io(Interest::WRITABLE, || send(sent)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => sent += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    timeout(PATIENCE, self.0.writable())
                        .await
                        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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

fn send_from_file(to: impl AsFd, file: BorrowedFd<'_>, mut from: u64, len: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(to, file, Some(&mut from), len)?)
}
