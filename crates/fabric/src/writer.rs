//! Sends what a connection's outbox holds, until it is closed.

use std::io;
use std::sync::atomic::Ordering;

use chariot_wire::{FrameWriter, PeerMessage};

use crate::checksum::checksum;
use crate::connection::Connection;
use crate::outbox::{Next, Turn};
use crate::stream::Look;
use crate::transport::{Payload, Sender};

/// Bytes of a block that are sent before it is another's turn. As many are checked at once by the receiver, so it is
/// also how far readers of a growing block are behind.
const CHUNK: u64 = 256 << 10;

/// So few bytes are sent together with the messages around them.
const SMALL: u64 = 16 << 10;

/// Sends until the outbox is closed.
pub(crate) async fn write(connection: &Connection, mut sender: Box<dyn Sender>) -> io::Result<()> {
    let mut frames = Vec::new();
    while !connection.outbox.is_closed() {
        match gather(connection, &mut frames) {
            Some((mut turn, len)) => {
                sender.send(&frames, turn.source.bytes(turn.sent, len)).await?;
                connection.counters.bytes_sent.fetch_add(len, Ordering::Relaxed);
                turn.sent += len;
                connection.outbox.put_back(turn, Next::Again);
            }
            None if frames.is_empty() => connection.outbox.roused().await,
            None => sender.send(&frames, Payload::NONE).await?,
        }
        frames.clear();
    }
    Ok(())
}

/// Collects messages and small pieces of blocks, up to a large piece, which is announced and returned.
fn gather(connection: &Connection, frames: &mut Vec<u8>) -> Option<(Turn, u64)> {
    let outbox = &connection.outbox;
    loop {
        outbox.take_frames(frames);
        if frames.len() as u64 > CHUNK {
            return None;
        }
        let mut turn = outbox.next_turn()?;
        let stream = turn.stream;
        match turn.look() {
            Look::More(len) => {
                let len = len.min(CHUNK);
                let bytes = turn.source.bytes(turn.sent, len).bytes;
                let message = PeerMessage::Bytes { offset: turn.sent, checksum: checksum(bytes) };
                FrameWriter::new(frames).peer(stream, &message, len);
                if len > SMALL {
                    return Some((turn, len));
                }
                frames.extend_from_slice(bytes);
                connection.counters.bytes_sent.fetch_add(len, Ordering::Relaxed);
                turn.sent += len;
                outbox.put_back(turn, Next::Again);
            }
            Look::NotYet => outbox.put_back(turn, Next::WhenTold),
            Look::Whole => {
                FrameWriter::new(frames).peer(stream, &PeerMessage::Seal, 0);
                outbox.put_back(turn, Next::Never);
            }
            Look::Lost => {
                FrameWriter::new(frames).peer(stream, &PeerMessage::Lose, 0);
                drop(turn);
                outbox.forget(stream);
            }
        }
    }
}
