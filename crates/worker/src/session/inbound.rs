//! [`Inbound`]: what a client has sent, cut into frames.

use std::io;
use std::ops::Range;
use std::time::Duration;

use chariot_wire::{HEADER_LEN, Header};

use super::{End, Stream};

/// Bytes received at once; larger frames make the buffer grow for as long as they are in it.
const CHUNK: usize = 64 << 10;

/// A client that announced bytes and sends none for this long is dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client has sent and is not yet done with.
#[derive(Default)]
pub(super) struct Inbound {
    buffer: Vec<u8>,
    // The bytes of `buffer` that are in use.
    start: usize,
    end: usize,
}

impl Inbound {
    /// What was received elsewhere, and is no whole frame yet.
    pub(super) fn of(received: Vec<u8>) -> Self {
        Self { end: received.len(), start: 0, buffer: received }
    }

    /// What was received and is no whole frame yet.
    pub(super) fn received(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Receives once; `false` when nothing was there.
    pub(super) fn fill(&mut self, stream: &Stream) -> Result<bool, End> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() != CHUNK {
                self.buffer = vec![0; CHUNK];
            }
        }
        if self.end == self.buffer.len() {
            self.move_to_front();
            // What came from elsewhere fills its buffer.
            self.buffer.resize(self.buffer.len().max(CHUNK), 0);
        }
        match stream.try_read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(End::Closed),
            Ok(received) => {
                self.end += received;
                if self.end < self.buffer.len() {
                    // There was room for more: the socket is empty, and asking again would only cost a system call.
                    stream.expect_nothing_more();
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(source) => Err(source.into()),
        }
    }

    /// The next frame, if it is here whole: its header, and where its body is (see [`body`](Self::body)). Its payload
    /// comes next and is the caller's to receive.
    pub(super) fn next_frame(&mut self) -> Result<Option<(Header, Range<usize>)>, End> {
        let held = &self.buffer[self.start..self.end];
        let Some(header) = held.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = Header::decode(header)?;
        let frame = HEADER_LEN + header.body;
        if held.len() < frame {
            if self.start + frame > self.buffer.len() {
                self.move_to_front();
                self.buffer.resize(self.buffer.len().max(frame), 0);
            }
            return Ok(None);
        }
        let body = self.start + HEADER_LEN..self.start + frame;
        self.start = body.end;
        Ok(Some((header, body)))
    }

    /// The bytes of a body that [`next_frame`](Self::next_frame) found, until the next bytes are received.
    pub(super) fn body(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Receives the next `target.len()` bytes of payload into `target`.
    pub(super) async fn receive_exact(&mut self, stream: &Stream, mut target: &mut [u8]) -> Result<(), End> {
        let here = target.len().min(self.end - self.start);
        target[..here].copy_from_slice(&self.buffer[self.start..self.start + here]);
        self.start += here;
        target = &mut target[here..];
        while !target.is_empty() {
            match stream.try_read(target) {
                Ok(0) => return Err(End::Closed),
                Ok(received) => {
                    target = &mut target[received..];
                    // Others are served between two pieces of a long payload.
                    tokio::task::yield_now().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => patiently(stream.readable()).await?,
                Err(source) => return Err(source.into()),
            }
        }
        Ok(())
    }

    /// Receives the next `len` bytes of payload and forgets them.
    pub(super) async fn discard(&mut self, stream: &Stream, mut len: u64) -> Result<(), End> {
        let mut sink = vec![0; CHUNK];
        while len > 0 {
            let piece = len.min(CHUNK as u64);
            self.receive_exact(stream, &mut sink[..piece as usize]).await?;
            len -= piece;
        }
        Ok(())
    }

    fn move_to_front(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }
}

async fn patiently(readable: impl Future<Output = io::Result<()>>) -> Result<(), End> {
    match tokio::time::timeout(PATIENCE, readable).await {
        Ok(ready) => Ok(ready?),
        Err(_) => Err(End::TooSlow { what: "payload" }),
    }
}
