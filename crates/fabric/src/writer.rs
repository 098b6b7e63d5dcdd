//! Sends what a connection's outbox holds, until it is closed.

use std::sync::atomic::Ordering;

use chariot_wire::PeerMessage;
use tokio::task::yield_now;

use crate::checksum::Checksum;
use crate::connection::Connection;
use crate::outbox::{End, Next, Turn};
use crate::stream::Look;
use crate::transport::Sender;
use crate::{FabricError, TURN, frames};

/// Bytes of a block that are sent before it is another's turn. As many are checked at once by the receiver, so it is
/// also how far readers of a growing block are behind.
const CHUNK: u64 = 256 << 10;

/// So few bytes are sent together with the messages around them.
const SMALL: u64 = 16 << 10;

/// Bytes of the buffer for messages that stay allocated.
const MOST_KEPT: usize = 1 << 20;

/// Sends until the outbox is closed, or nothing can be sent, for the reason returned.
pub(crate) async fn write(connection: &Connection, mut sender: Box<dyn Sender>) -> FabricError {
    let outbox = &connection.outbox;
    let (mut frames, mut in_a_row) = (Vec::new(), 0);
    loop {
        if let Some(end) = outbox.end() {
            return end.into();
        }
        let large = gather(connection, &mut frames);
        if large.is_none() && frames.is_empty() {
            match outbox.rest(sender).await {
                Some(rested) => sender = rested,
                None => return outbox.end().unwrap_or(End::Closed).into(),
            }
            continue;
        }
        let payload = large.as_ref().map_or(&[][..], Piece::bytes);
        let len = frames.len() + payload.len();
        // Rather not before what is small: that may be all that somebody waits for.
        let turn = if len as u64 > SMALL { TURN } else { 2 * TURN };
        if in_a_row >= turn {
            in_a_row = 0;
            yield_now().await;
        }
        in_a_row += len;
        if let Err(source) = sender.send(&frames, payload).await {
            return source.into();
        }
        frames.clear();
        frames.shrink_to(MOST_KEPT);
        if let Some(large) = large {
            large.conclude(connection, &mut frames);
        }
    }
}

impl From<End> for FabricError {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::Ended,
            End::Unread => Self::Unread,
        }
    }
}

/// A piece of a block, which has been announced.
struct Piece {
    turn: Turn,
    len: u64,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        self.turn.source.bytes(self.turn.sent, self.len)
    }

    /// It is on its way, and the processor has its bytes at hand.
    fn conclude(mut self, connection: &Connection, frames: &mut Vec<u8>) {
        frames::append(frames, self.turn.stream, &PeerMessage::Sum(Checksum::of(self.bytes())), 0);
        connection.counters.bytes_sent.fetch_add(self.len, Ordering::Relaxed);
        self.turn.sent += self.len;
        connection.outbox.put_back(self.turn, Next::Again);
    }
}

/// Collects messages and small pieces of blocks, up to a large piece, which is announced and returned.
fn gather(connection: &Connection, frames: &mut Vec<u8>) -> Option<Piece> {
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
                frames::append(frames, stream, &PeerMessage::Bytes { offset: turn.sent }, len);
                let piece = Piece { turn, len };
                if len > SMALL {
                    return Some(piece);
                }
                frames.extend_from_slice(piece.bytes());
                piece.conclude(connection, frames);
            }
            Look::More(0) | Look::NotYet => outbox.put_back(turn, Next::WhenTold),
            Look::Whole => {
                frames::append(frames, stream, &PeerMessage::Seal, 0);
                end(connection, turn);
            }
            Look::Lost => {
                frames::append(frames, stream, &PeerMessage::Lose, 0);
                end(connection, turn);
            }
        }
    }
}

fn end(connection: &Connection, turn: Turn) {
    let stream = turn.stream;
    // The block first: whoever sees no stream any more sees it let go of.
    drop(turn);
    connection.outbox.forget(stream);
}
