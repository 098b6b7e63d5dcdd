//! Connecting: TCP to the worker's address, then its Unix socket and its memory when it is on this host.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_tcp::unpace;
use chariot_types::{NamespaceName, WorkerAddress};
use chariot_wire::{FrameWriter, HEADER_LEN, Header, Hello, PROTOCOL_VERSION, Refusal, Reply, Request};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::connection::{Connection, Payload, RECEIVE_SLICE};
use crate::local::Local;
use crate::{ConnectOptions, Transport};

/// Connects, within `options.timeout`.
pub(crate) fn dial(
    address: &WorkerAddress,
    options: &ConnectOptions,
    wake_keeper: Arc<OwnedFd>,
) -> io::Result<Connection> {
    let deadline = Instant::now() + options.timeout;
    let (tcp, remote) = match greet_over_tcp(address, options, deadline) {
        // It went on in another process as it was greeted: that one greets back.
        Err(error) if has_hung_up(&error) => greet_over_tcp(address, options, deadline)?,
        greeted => greeted?,
    };
    let (socket, payload) = match options.transport {
        Transport::Tcp => (tcp, Payload::Inline),
        Transport::Auto => match go_local(&remote, options, deadline) {
            Ok((socket, local)) => (socket, Payload::Mapped(Box::new(local))),
            Err(error) => {
                tracing::debug!(%address, %error, "no way through shared memory, staying on tcp");
                (tcp, Payload::Inline)
            }
        },
    };
    if options.namespace != NamespaceName::default() {
        send(&socket, 0, &Request::Namespace(options.namespace.as_str()), deadline)?;
    }
    socket.set_read_timeout(Some(RECEIVE_SLICE))?;
    socket.set_write_timeout(Some(options.request_timeout))?;
    let timeout = options.request_timeout;
    Ok(Connection::new(address.clone(), socket.into(), payload, remote.arena, timeout, wake_keeper))
}

/// Why a worker does not let a client in, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotLetIn(pub(crate) String);

/// What a worker says of itself.
struct Remote {
    run: [u8; 16],
    arena: u64,
    local_path: PathBuf,
}

fn greet_over_tcp(
    address: &WorkerAddress,
    options: &ConnectOptions,
    deadline: Instant,
) -> io::Result<(Socket, Remote)> {
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for socket_address in address.resolve()? {
        let socket = Socket::new(Domain::for_address(socket_address), Type::STREAM, None)?;
        unpace(&socket);
        let connected = socket.connect_timeout(&socket_address.into(), left(deadline)?).and_then(|()| {
            socket.set_tcp_nodelay(true)?;
            greet(&socket, options, deadline)
        });
        match connected {
            Ok((remote, _)) => return Ok((socket, remote)),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

fn has_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn go_local(remote: &Remote, options: &ConnectOptions, deadline: Instant) -> io::Result<(Socket, Local)> {
    if remote.local_path.as_os_str().is_empty() {
        return Err(io::Error::other("the worker has no local socket"));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(left(deadline)?))?;
    socket.connect(&SockAddr::unix(&remote.local_path)?)?;
    let (local, files) = greet(&socket, options, deadline)?;
    if local.run != remote.run {
        return Err(io::Error::other("another worker listens on the local socket"));
    }
    Ok((socket, Local::map(&files, local.arena)?))
}

/// Says hello and waits to be welcomed; also returns the descriptors that came with the welcome.
fn greet(socket: &Socket, options: &ConnectOptions, deadline: Instant) -> io::Result<(Remote, Vec<OwnedFd>)> {
    let name = &options.name.as_bytes()[..options.name.len().min(chariot_wire::limits::MAX_NAME)];
    let token = options.token.as_ref().map_or(&b""[..], |token| token.secret().as_bytes());
    let hello = Hello { version: PROTOCOL_VERSION, pid: std::process::id(), name, token };
    send(socket, 1, &Request::Hello(hello), deadline)?;
    let mut files = Vec::new();
    let mut head = [0; HEADER_LEN];
    receive_exact(socket, &mut head, deadline, &mut files)?;
    let header = Header::decode(&head).map_err(io::Error::other)?;
    if header.body > 64 << 10 || header.payload != 0 {
        return Err(io::Error::other("what answers there is not a data worker"));
    }
    let mut body = vec![0; header.body];
    receive_exact(socket, &mut body, deadline, &mut files)?;
    match Reply::decode(header.kind, &body).map_err(io::Error::other)? {
        Reply::Welcome(welcome) if welcome.version == PROTOCOL_VERSION => {
            let local_path = PathBuf::from(std::ffi::OsStr::from_bytes(welcome.local_path));
            Ok((Remote { run: welcome.run, arena: welcome.arena, local_path }, files))
        }
        Reply::Refused { refusal: Refusal::Stranger, text } => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, NotLetIn(text.to_owned())))
        }
        Reply::Refused { text, .. } => Err(io::Error::other(text.to_owned())),
        _ => Err(io::Error::other("the worker speaks another version of the protocol")),
    }
}

fn send(socket: &Socket, id: u64, request: &Request<'_>, deadline: Instant) -> io::Result<()> {
    let mut frame = Vec::new();
    FrameWriter::new(&mut frame).request(id, request, 0);
    socket.set_write_timeout(Some(left(deadline)?))?;
    let mut unsent = &frame[..];
    while !unsent.is_empty() {
        let sent = rustix::net::send(socket.as_fd(), unsent, SendFlags::NOSIGNAL)?;
        unsent = &unsent[sent..];
    }
    Ok(())
}

fn receive_exact(socket: &Socket, mut into: &mut [u8], deadline: Instant, files: &mut Vec<OwnedFd>) -> io::Result<()> {
    while !into.is_empty() {
        socket.set_read_timeout(Some(left(deadline)?))?;
        let received = receive(socket.as_fd(), into, files)?;
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into = &mut into[received..];
    }
    Ok(())
}

fn receive(socket: BorrowedFd<'_>, into: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(into)];
    let message = rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = ancillary {
            files.extend(came);
        }
    }
    Ok(message.bytes)
}

/// The time that is left, which sockets want to be more than none.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}
