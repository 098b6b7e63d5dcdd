//! [`Reader`]: cuts the bytes that arrive on a connection into frames.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use chariot_wire::{HEADER_LEN, Header};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::mailbox::Answer;

/// How long the bytes behind an answer may pause.
const STALL: Duration = Duration::from_secs(2);

/// Cuts the bytes that arrive into frames; remembers a frame that has arrived in part.
#[derive(Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    // Bytes of `buffer` in use: `start..end`.
    start: usize,
    end: usize,
    payload: Option<PartialPayload>,
}

struct PartialPayload {
    header: Header,
    body: Vec<u8>,
    payload: Vec<u8>,
}

impl Reader {
    /// The next whole frame, or nothing at the deadline; receives at least once. Payload that keeps coming is waited
    /// for beyond the deadline.
    pub(crate) fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        flags: RecvFlags,
        mut deadline: Instant,
    ) -> io::Result<Option<(u64, Answer)>> {
        let mut has_received = false;
        loop {
            if self.payload.is_none()
                && let Some(frame) = self.take_frame()?
            {
                return Ok(Some(frame));
            }
            if has_received && Instant::now() >= deadline {
                return Ok(None);
            }
            match self.payload.take() {
                None => self.fill(socket, flags)?,
                Some(partial) => {
                    let before = partial.payload.len();
                    match self.go_on_with(partial, socket, flags)? {
                        Ok(frame) => return Ok(Some(frame)),
                        Err(partial) => {
                            if partial.payload.len() > before {
                                // The worker has answered; how long the bytes take is the network's to say.
                                deadline = deadline.max(Instant::now() + STALL);
                            }
                            self.payload = Some(partial);
                        }
                    }
                }
            }
            has_received = true;
            if flags.contains(RecvFlags::DONTWAIT) {
                deadline = Instant::now();
            }
        }
    }

    /// Takes the next frame out of the buffer if it is there whole; one with a payload becomes the partial one.
    fn take_frame(&mut self) -> io::Result<Option<(u64, Answer)>> {
        let held = &self.buffer[self.start..self.end];
        let Some(header) = held.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = Header::decode(header).map_err(io::Error::other)?;
        let Some(body) = held[HEADER_LEN..].get(..header.body).map(<[u8]>::to_vec) else {
            let frame = HEADER_LEN + header.body;
            if self.start + frame > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
                self.buffer.resize(self.buffer.len().max(frame), 0);
            }
            return Ok(None);
        };
        self.start += HEADER_LEN + header.body;
        if header.payload == 0 {
            return Ok(Some((header.request, Answer { kind: header.kind, body, payload: Vec::new() })));
        }
        let held = &self.buffer[self.start..self.end];
        let here = held.len().min(usize::try_from(header.payload).unwrap_or(usize::MAX));
        let mut payload = Vec::with_capacity(header.payload as usize);
        payload.extend_from_slice(&held[..here]);
        self.start += here;
        self.payload = Some(PartialPayload { header, body, payload });
        Ok(None)
    }

    /// Receives into the payload; the whole frame, or the payload as it now is.
    fn go_on_with(
        &mut self,
        mut partial: PartialPayload,
        socket: BorrowedFd<'_>,
        flags: RecvFlags,
    ) -> io::Result<Result<(u64, Answer), PartialPayload>> {
        let left = partial.header.payload as usize - partial.payload.len();
        if left > 0 {
            let spare = &mut partial.payload.spare_capacity_mut()[..left];
            let received = match rustix::net::recv(socket, spare, flags) {
                Ok(((filled, _), _)) => filled.len(),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Err(partial)),
                Err(errno) => return Err(errno.into()),
            };
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let filled = partial.payload.len() + received;
            // SAFETY: the kernel has just initialised `received` bytes of the spare capacity.
            unsafe { partial.payload.set_len(filled) };
            if received < left {
                return Ok(Err(partial));
            }
        }
        let PartialPayload { header, body, payload } = partial;
        Ok(Ok((header.request, Answer { kind: header.kind, body, payload })))
    }

    /// Receives once into the buffer; nothing when the receive slice passes.
    fn fill(&mut self, socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.is_empty() {
            self.buffer.resize(64 << 10, 0);
        }
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match rustix::net::recv(socket, &mut self.buffer[self.end..], flags) {
            Ok((_, 0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, received)) => {
                self.end += received;
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
