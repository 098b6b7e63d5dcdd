//! The first words: hello, and welcome with the arena, the index and the client's pins.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_types::NamespaceName;
use chariot_wire::{FrameWriter, PROTOCOL_VERSION, Reply, Request, Welcome};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::inbound::Inbound;
use super::outbound::write_all;
use super::{End, Session, Stream};
use crate::shared::{SessionFacts, Shared};
use crate::tenants::Tenants;

/// A client that has not said hello by then is dropped.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client has said of itself.
pub(super) struct Heard {
    request: u64,
    facts: SessionFacts,
}

/// Waits for the client's hello, and finds whose it is.
pub(super) async fn hear_hello(
    tenants: &Tenants,
    stream: &Stream,
    inbound: &mut Inbound,
) -> Result<(Heard, Arc<Shared>), End> {
    if let Stream::Unix(stream) = stream {
        check_user(stream)?;
    }
    let heard = tokio::time::timeout(PATIENCE, hear_patiently(tenants, stream, inbound)).await;
    heard.map_err(|_| End::TooSlow { what: "hello" })?
}

async fn hear_patiently(
    tenants: &Tenants,
    stream: &Stream,
    inbound: &mut Inbound,
) -> Result<(Heard, Arc<Shared>), End> {
    loop {
        stream.readable().await?;
        inbound.fill(stream)?;
        let Some((header, body)) = inbound.next_frame()? else { continue };
        let Request::Hello(hello) = Request::decode(header.kind, inbound.body(body))? else {
            return Err(End::OutOfPlace { request: header.request, what: "a conversation begins with a hello" });
        };
        if hello.version != PROTOCOL_VERSION {
            return Err(End::Version { theirs: hello.version });
        }
        let request = header.request;
        let shared = tenants.of_client(hello.token).ok_or(End::Stranger { request })?.clone();
        let facts = SessionFacts {
            name: String::from_utf8_lossy(hello.name).into_owned(),
            pid: hello.pid,
            namespace: NamespaceName::default(),
            transport: stream.transport(),
            since: Instant::now(),
        };
        return Ok((Heard { request, facts }, shared));
    }
}

/// Tells a client why it is not let in, if it is to blame.
pub(super) async fn say_farewell(stream: &Stream, end: &End) {
    let Some((refusal, text)) = end.farewell() else { return };
    let mut frame = Vec::new();
    FrameWriter::new(&mut frame).reply(end.request(), &Reply::Refused { refusal, text: &text }, 0);
    // Who has gone does not want to know.
    let _ = write_all(stream, &frame).await;
}

impl Session {
    /// Welcomes the client that has said hello.
    pub(super) async fn welcome(&mut self, Heard { request, facts }: Heard) -> Result<(), End> {
        let shared = self.shared.clone();
        let local_path: &[u8] = if self.stream.is_inline() { shared.local_socket.as_os_str().as_bytes() } else { b"" };
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            pid: std::process::id(),
            run: shared.run,
            arena: shared.arena.len(),
            local_path,
        };
        self.send_welcome(request, &Reply::Welcome(welcome)).await?;
        self.shared.change(|state| state.sessions.insert(self.owner, facts));
        Ok(())
    }

    async fn send_welcome(&mut self, request: u64, welcome: &Reply<'_>) -> Result<(), End> {
        let Stream::Unix(stream) = &self.stream else {
            self.outbound.reply(request, welcome);
            return self.outbound.flush(&self.stream, &self.shared, self.owner).await;
        };
        let mut frame = Vec::new();
        FrameWriter::new(&mut frame).reply(request, welcome, 0);
        let owner = self.owner;
        let admitted = self.shared.change(|state| state.pool.admit_reader(owner));
        // The pool that is left when a worker has gone is not shared.
        let pins = admitted.ok_or(End::Moved)?.map_err(io::Error::other)?;
        loop {
            stream.writable().await?;
            let [index, board] = [&self.shared.index, &self.shared.board].map(|file| file.as_fd());
            let sent = stream.try_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fds = [self.shared.arena.as_fd(), index, board, pins.as_fd()];
                control.push(SendAncillaryMessage::ScmRights(&fds));
                Ok(rustix::net::sendmsg(stream, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)?)
            });
            match sent {
                // A welcome is far smaller than an empty socket buffer, so it is sent whole or not at all.
                Ok(sent) if sent == frame.len() => return Ok(()),
                Ok(_) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(source) => return Err(source.into()),
            }
        }
    }
}
/// Only the worker's own user, and root, get the arena.
fn check_user(stream: &UnixStream) -> Result<(), End> {
    let peer = stream.peer_cred()?.uid();
    if peer == 0 || peer == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(End::OutOfPlace { request: 0, what: "shared memory is for the worker's own user only" })
}
