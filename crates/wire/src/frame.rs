//! [`Header`], the fixed part of every frame, and [`FrameWriter`], which makes frames.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{MAX_BODY, MAX_PAYLOAD};
use crate::{PeerMessage, Reply, Request, WireError};

/// Bytes of a frame header.
pub const HEADER_LEN: usize = size_of::<RawHeader>();

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    body: U32,
    kind: U16,
    zero: U16,
    request: U64,
    payload: U64,
}

/// A frame's header: what follows, and what it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The kind of message.
    pub kind: u16,
    /// The request that this is, or answers; 0 for a one-way request.
    pub request: u64,
    /// Bytes of body that follow the header.
    pub body: usize,
    /// Bytes of payload that follow the body.
    pub payload: u64,
}

impl Header {
    /// Reads a header and checks what it announces.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        let raw = RawHeader::ref_from_bytes(bytes).expect("an unaligned struct of the array's size");
        let (body, payload) = (raw.body.get() as usize, raw.payload.get());
        if body > MAX_BODY || payload > MAX_PAYLOAD || raw.zero != 0 {
            return Err(WireError::BadHeader { body: body as u64, payload });
        }
        Ok(Self { kind: raw.kind.get(), request: raw.request.get(), body, payload })
    }
}

/// Appends frames to a buffer.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    buffer: &'a mut Vec<u8>,
}

impl<'a> FrameWriter<'a> {
    /// A writer that appends to `buffer`.
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self { buffer }
    }

    /// Appends a request; `payload` bytes are to be sent right behind it.
    pub fn request(&mut self, id: u64, request: &Request<'_>, payload: u64) {
        self.frame(request.kind(), id, payload, |body| request.encode_body(body));
    }

    /// Appends the reply to the request `id`; `payload` bytes are to be sent right behind it.
    pub fn reply(&mut self, id: u64, reply: &Reply<'_>, payload: u64) {
        self.frame(reply.kind(), id, payload, |body| reply.encode_body(body));
    }

    /// Appends what a worker says to another about `id`; `payload` bytes are to be sent right behind it.
    pub fn peer(&mut self, id: u64, message: &PeerMessage<'_>, payload: u64) {
        self.frame(message.kind(), id, payload, |body| message.encode_body(body));
    }

    fn frame(&mut self, kind: u16, request: u64, payload: u64, encode_body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        self.buffer.resize(start + HEADER_LEN, 0);
        encode_body(self.buffer);
        let body = self.buffer.len() - start - HEADER_LEN;
        let header = RawHeader {
            body: U32::new(u32::try_from(body).expect("batches are limited, so bodies are small")),
            kind: U16::new(kind),
            zero: U16::new(0),
            request: U64::new(request),
            payload: U64::new(payload),
        };
        self.buffer[start..start + HEADER_LEN].copy_from_slice(header.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_announces_too_much_is_refused() {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&(MAX_BODY as u32 + 1).to_le_bytes());
        assert!(matches!(Header::decode(&bytes), Err(WireError::BadHeader { .. })));
        let mut bytes = [0; HEADER_LEN];
        bytes[16..].copy_from_slice(&(MAX_PAYLOAD + 1).to_le_bytes());
        assert!(matches!(Header::decode(&bytes), Err(WireError::BadHeader { .. })));
    }
}
