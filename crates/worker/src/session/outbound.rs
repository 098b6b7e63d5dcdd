//! [`Outbound`]: what a client is still to be sent.
//!
//! Bytes of blocks are sent straight from the arena; they stay pinned until they are sent.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use chariot_pool::{BlockId, OwnerId};
use chariot_types::Extent;
use chariot_wire::{FrameWriter, Reply};

use super::{End, Stream};
use crate::shared::Shared;

/// With more than this to send, nothing more is read from the client.
const LARGE: usize = 1 << 20;

/// A client that reads nothing for this long is dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a block that are sent before others are served.
const PIECE: usize = 1 << 20;

/// What a client is still to be sent.
#[derive(Default)]
pub(super) struct Outbound {
    frames: Vec<u8>,
    // Runs of `frames`, each up to an end and followed by bytes of the arena; what is left of `frames` comes last.
    blocks: VecDeque<(usize, BlockBytes)>,
    /// The client takes nothing more. What it has said before it went is still to be done.
    is_unheard: bool,
}

/// Bytes of a block to send.
pub(super) struct BlockBytes {
    pub(super) extent: Extent,
    /// To be released when they are sent.
    pub(super) unpin: Option<BlockId>,
}

impl Outbound {
    /// Appends a reply without bytes.
    pub(super) fn reply(&mut self, request: u64, reply: &Reply<'_>) {
        FrameWriter::new(&mut self.frames).reply(request, reply, 0);
    }

    /// Appends a reply with bytes behind it.
    pub(super) fn reply_with(&mut self, request: u64, reply: &Reply<'_>, blocks: Vec<BlockBytes>) {
        let payload = blocks.iter().map(|block| block.extent.len).sum();
        FrameWriter::new(&mut self.frames).reply(request, reply, payload);
        let end = self.frames.len();
        self.blocks.extend(blocks.into_iter().map(|block| (end, block)));
    }

    /// Sends all, unless the client has gone: that is for whoever reads to find out, after all that it has said.
    pub(super) async fn flush(&mut self, stream: &Stream, shared: &Shared, owner: OwnerId) -> Result<(), End> {
        if shared.is_gone() {
            // It may have been found in what is left here, where nothing is.
            return Err(End::Moved);
        }
        if !self.is_unheard {
            match self.send(stream, shared, owner).await {
                Err(End::Io { .. }) => self.is_unheard = true,
                sent => return sent,
            }
        }
        self.frames.clear();
        // What is pinned for these goes with the session.
        self.blocks.clear();
        Ok(())
    }

    /// From now on nothing that is said is heard.
    pub(super) fn fall_silent(&mut self) {
        self.is_unheard = true;
    }

    /// Sends this, and nothing else any more.
    pub(super) async fn say_last(&mut self, request: u64, reply: &Reply<'_>, stream: &Stream) {
        let mut frame = Vec::new();
        FrameWriter::new(&mut frame).reply(request, reply, 0);
        if !self.is_unheard {
            let _ = write_all(stream, &frame).await;
        }
    }

    async fn send(&mut self, stream: &Stream, shared: &Shared, owner: OwnerId) -> Result<(), End> {
        let mut sent = 0;
        while let Some((end, block)) = self.blocks.pop_front() {
            write_all(stream, &self.frames[sent..end]).await?;
            sent = end;
            // SAFETY: the bytes are readable ones of a block that this session has pinned.
            let bytes = unsafe { shared.arena.bytes(block.extent) }.expect("the pool keeps to the arena");
            for piece in bytes.chunks(PIECE) {
                write_all(stream, piece).await?;
                tokio::task::yield_now().await;
            }
            if let Some(id) = block.unpin {
                // It was pinned by this session; that it is still pinned cannot fail.
                let _ = shared.change(|state| state.pool.unpin(owner, id));
            }
        }
        write_all(stream, &self.frames[sent..]).await?;
        self.frames.clear();
        Ok(())
    }

    /// Sends all if there is much.
    pub(super) async fn flush_if_large(&mut self, stream: &Stream, shared: &Shared, owner: OwnerId) -> Result<(), End> {
        if self.frames.len() > LARGE || !self.blocks.is_empty() {
            self.flush(stream, shared, owner).await?;
        }
        Ok(())
    }
}

pub(super) async fn write_all(stream: &Stream, mut bytes: &[u8]) -> Result<(), End> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match tokio::time::timeout(PATIENCE, stream.writable()).await {
                    Ok(ready) => ready?,
                    Err(_) => return Err(End::TooSlow { what: "reading answers" }),
                }
            }
            Err(source) => return Err(source.into()),
        }
    }
    Ok(())
}
