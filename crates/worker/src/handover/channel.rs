//! [`Channel`]: a socket on which messages and descriptors travel, with deadlines.

use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::HandoverError;
use super::message::{HEAD, Head, Message};

/// Descriptors that travel with one message at most.
pub(crate) const MOST_FILES: usize = 128;

/// Bytes of a body that are received at a time, so that a length that is not true costs no memory.
const PIECE: u64 = 1 << 20;

/// A socket to the other worker.
pub(crate) struct Channel {
    stream: UnixStream,
}

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Sends a message with descriptors, of which the other gets its own.
    pub(crate) fn send(
        &self,
        message: &Message,
        files: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), HandoverError> {
        let bytes = message.encode();
        let mut sent = 0;
        while sent < bytes.len() {
            self.stream.set_write_timeout(Some(left(deadline)?))?;
            // With the first byte, so that they are received with the head.
            let files = if sent == 0 { files } else { &[] };
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
                return Err(HandoverError::Nonsense { what: "too many descriptors for one message" });
            }
            sent +=
                rustix::net::sendmsg(&self.stream, &[IoSlice::new(&bytes[sent..])], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// The next message, and the descriptors that come with it.
    pub(crate) fn receive(&self, deadline: Instant) -> Result<(Message, Vec<OwnedFd>), HandoverError> {
        let (mut head, mut have, mut files) = ([0; HEAD], 0, Vec::new());
        while have < HEAD {
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut head[have..])];
            let received = rustix::net::recvmsg(&self.stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
            for ancillary in control.drain() {
                if let RecvAncillaryMessage::ScmRights(came) = ancillary {
                    files.extend(came);
                }
            }
            if received == 0 {
                return Err(HandoverError::Gone);
            }
            have += received;
        }
        let head = Head::decode(&head)?;
        let mut body = Vec::new();
        while (body.len() as u64) < head.len {
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            let piece = PIECE.min(head.len - body.len() as u64);
            if (&self.stream).take(piece).read_to_end(&mut body)? as u64 != piece {
                return Err(HandoverError::Gone);
            }
        }
        Ok((head.message(&body)?, files))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The time that is left, which sockets want to be more than none.
fn left(deadline: Instant) -> Result<Duration, HandoverError> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(HandoverError::Late),
        left => Ok(left),
    }
}

/// Ends a thread's waiting.
#[derive(Clone)]
pub(crate) struct Wake(Arc<OwnedFd>);

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// There is something to read, or the end of it.
    Readable,
    /// Neither that, nor was it woken.
    InTime,
    /// It was woken.
    Ending,
}

impl Wake {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Ends all waiting, for good.
    pub(crate) fn end(&self) {
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Waits until there is something to read, or the time is over.
    pub(crate) fn wait(&self, source: impl AsFd, time: Option<Duration>) -> Woken {
        let source = source.as_fd();
        let mut polled = [PollFd::new(&*self.0, PollFlags::IN), PollFd::new(&source, PollFlags::IN)];
        self.poll(&mut polled, time)
    }

    /// Waits until the time is over.
    pub(crate) fn sleep(&self, time: Duration) -> Woken {
        self.poll(&mut [PollFd::new(&*self.0, PollFlags::IN)], Some(time))
    }

    fn poll(&self, polled: &mut [PollFd<'_>], time: Option<Duration>) -> Woken {
        let time = time.map(|time| Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() });
        while poll(polled, time.as_ref()) == Err(rustix::io::Errno::INTR) {}
        match polled {
            [wake, ..] if !wake.revents().is_empty() => Woken::Ending,
            [_, source] if !source.revents().is_empty() => Woken::Readable,
            _ => Woken::InTime,
        }
    }
}
