//! Sends what a connection's outbox holds, until it is closed.

use std::sync::atomic::Ordering;

use chariot_wire::PeerMessage;
use tokio::task::yield_now;

use crate::checksum::checksum;
use crate::connection::Connection;
use crate::outbox::{End, Next, Turn};
use crate::stream::Look;
use crate::transport::{Payload, Sender};
use crate::{FabricError, frames};

/// Bytes of a block that are sent before it is another's turn. As many are checked at once by the receiver, so it is
/// also how far readers of a growing block are behind.
const CHUNK: u64 = 256 << 10;

/// So few bytes are sent together with the messages around them.
const SMALL: u64 = 16 << 10;

/// Bytes of the buffer for messages that stay allocated.
const MOST_KEPT: usize = 1 << 20;

/// Sends until the outbox is closed, or nothing can be sent, for the reason returned.
pub(crate) async fn write(connection: &Connection, mut sender: Box<dyn Sender>) -> FabricError {
    let mut frames = Vec::new();
    loop {
        match connection.outbox.end() {
            Some(End::Closed) => return FabricError::Ended,
            Some(End::Unread) => return FabricError::Unread,
            None => {}
        }
        let sent = match gather(connection, &mut frames) {
            Some((mut turn, len)) => {
                let sent = sender.send(&frames, turn.source.bytes(turn.sent, len)).await;
                turn.sent += len;
                connection.counters.bytes_sent.fetch_add(len, Ordering::Relaxed);
                connection.outbox.put_back(turn, Next::Again);
                sent
            }
            None if frames.is_empty() => {
                connection.outbox.roused().await;
                continue;
            }
            None => sender.send(&frames, Payload::NONE).await,
        };
        if let Err(source) = sent {
            return source.into();
        }
        frames.clear();
        frames.shrink_to(MOST_KEPT);
        // A socket that takes everything at once must not keep this thread from the other connections.
        yield_now().await;
    }
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
            Look::More(len @ 1..) => {
                let len = len.min(CHUNK);
                let bytes = turn.source.bytes(turn.sent, len).bytes;
                let message = PeerMessage::Bytes { offset: turn.sent, checksum: checksum(bytes) };
                frames::append(frames, stream, &message, len);
                if len > SMALL {
                    return Some((turn, len));
                }
                frames.extend_from_slice(bytes);
                connection.counters.bytes_sent.fetch_add(len, Ordering::Relaxed);
                turn.sent += len;
                outbox.put_back(turn, Next::Again);
            }
            Look::More(0) | Look::NotYet => outbox.put_back(turn, Next::WhenTold),
            Look::Whole => {
                frames::append(frames, stream, &PeerMessage::Seal, 0);
                outbox.put_back(turn, Next::Never);
            }
            Look::Lost => {
                frames::append(frames, stream, &PeerMessage::Lose, 0);
                drop(turn);
                outbox.forget(stream);
            }
        }
    }
}
