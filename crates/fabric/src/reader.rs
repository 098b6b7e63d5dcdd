//! [`Reader`]: receives what the other side of a connection says, and sees to it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chariot_types::Key;
use chariot_wire::{Channel, HEADER_LEN, Header, NO_RUN, PeerMessage};
use tokio::time::timeout;

use crate::checksum::Checksum;
use crate::connection::Connection;
use crate::host::{Asker, PullEnd};
use crate::incoming::{Answer, Coming};
use crate::stream::Sink;
use crate::transport::Receiver;
use crate::{FabricError, PATIENCE};

/// Bytes received at once.
const BUFFER: usize = 64 << 10;

/// Bytes received at once behind a large piece of a block. Another one follows, most likely, and that is to be received
/// where it belongs, not here.
const NEXT_HEADER: usize = 256;

/// Blocks that the other side may send unasked at once.
const MOST_OFFERED: usize = 4096;

/// Receives what the other side says, and sees to it.
pub(crate) struct Reader {
    connection: Arc<Connection>,
    receiver: Box<dyn Receiver>,
    buffer: Vec<u8>,
    // The bytes of `buffer` that are in use.
    start: usize,
    end: usize,
    /// How many to receive at once.
    appetite: usize,
}

impl Reader {
    /// A reader that has received `early` bytes already.
    pub(crate) fn new(connection: Arc<Connection>, receiver: Box<dyn Receiver>, early: Vec<u8>) -> Self {
        let (end, mut buffer) = (early.len(), early);
        buffer.resize(end.max(BUFFER), 0);
        Self { connection, receiver, buffer, start: 0, end, appetite: BUFFER }
    }

    /// Reads until the connection ends, for the reason returned.
    pub(crate) async fn read(mut self) -> FabricError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), FabricError> {
        while let Some((header, body)) = self.next_frame()? {
            self.connection.note_heard();
            match PeerMessage::decode(&header, &self.buffer[body])? {
                PeerMessage::Bytes { offset, checksum } => {
                    let piece = Piece { stream: header.request, offset, len: header.payload, checksum };
                    let appetite = if piece.len > BUFFER as u64 { NEXT_HEADER } else { BUFFER };
                    self.receive_piece(piece).await?;
                    self.appetite = appetite;
                }
                message => {
                    hear(&self.connection, header.request, message)?;
                    self.appetite = BUFFER;
                }
            }
        }
        self.fill().await
    }

    /// The next frame, if it is here whole: its header, and where its body is.
    fn next_frame(&mut self) -> Result<Option<(Header, Range<usize>)>, FabricError> {
        let held = &self.buffer[self.start..self.end];
        let Some(header) = held.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = Header::decode(header)?;
        let frame = HEADER_LEN + header.body;
        if held.len() < frame {
            self.appetite = self.appetite.max(frame - held.len());
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

    async fn fill(&mut self) -> Result<(), FabricError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.buffer.truncate(BUFFER);
        } else if self.end == self.buffer.len() {
            self.move_to_front();
        }
        let until = self.buffer.len().min(self.end + self.appetite);
        match self.receiver.receive(&mut self.buffer[self.end..until]).await? {
            0 => Err(FabricError::Closed),
            received => {
                self.end += received;
                Ok(())
            }
        }
    }

    fn move_to_front(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Receives bytes of a block where they belong, and checks them.
    async fn receive_piece(&mut self, piece: Piece) -> Result<(), FabricError> {
        let Some(mut coming) = self.connection.incoming.hold(piece.stream) else {
            return self.discard(piece.len).await;
        };
        let is_next = piece.offset == coming.received;
        let Some(end) = coming.received.checked_add(piece.len).filter(|end| is_next && *end <= coming.sink.len())
        else {
            self.lose(piece.stream, coming);
            return Err(FabricError::OutOfPlace { what: "bytes that do not continue their block" });
        };
        let mut checksum = Checksum::new();
        let target = coming.sink.room(piece.offset, piece.len);
        let received = self.receive_into(target, &mut checksum).await;
        let found = checksum.finish();
        if let Err(error) = received {
            self.lose(piece.stream, coming);
            return Err(error);
        }
        if found != piece.checksum {
            self.lose(piece.stream, coming);
            self.connection.counters.corrupt.fetch_add(1, Ordering::Relaxed);
            return Err(FabricError::Corrupt { len: piece.len, sent: piece.checksum, found });
        }
        self.connection.counters.bytes_received.fetch_add(piece.len, Ordering::Relaxed);
        coming.received = end;
        coming.sink.advance(end);
        self.connection.incoming.put_back(piece.stream, coming);
        Ok(())
    }

    /// Fills `target`, and adds each run of bytes to `checksum` while the processor still has it at hand.
    async fn receive_into(&mut self, target: &mut [u8], checksum: &mut Checksum) -> Result<(), FabricError> {
        let here = target.len().min(self.end - self.start);
        target[..here].copy_from_slice(&self.buffer[self.start..self.start + here]);
        self.start += here;
        checksum.add(&target[..here]);
        let mut filled = here;
        while filled < target.len() {
            let received = timeout(PATIENCE, self.receiver.receive(&mut target[filled..])).await;
            match received.map_err(|_| FabricError::Silent { seconds: PATIENCE.as_secs() })?? {
                0 => return Err(FabricError::Closed),
                received => {
                    checksum.add(&target[filled..filled + received]);
                    filled += received;
                }
            }
        }
        Ok(())
    }

    async fn discard(&mut self, len: u64) -> Result<(), FabricError> {
        let mut sink = vec![0; usize::try_from(len).map_or(BUFFER, |len| len.min(BUFFER))];
        let mut left = len;
        while left > 0 {
            let piece = left.min(sink.len() as u64) as usize;
            self.receive_into(&mut sink[..piece], &mut Checksum::new()).await?;
            left -= piece as u64;
        }
        Ok(())
    }

    fn lose(&self, stream: u64, coming: Coming) {
        let pulled = coming.pulled;
        drop(coming);
        self.connection.incoming.finish(stream);
        if let Some(key) = pulled {
            self.connection.tell_end(key, PullEnd::Lost);
        }
    }
}

/// Bytes of a block that are announced.
struct Piece {
    stream: u64,
    offset: u64,
    len: u64,
    checksum: u64,
}

/// Sees to a message that no bytes follow.
fn hear(connection: &Arc<Connection>, id: u64, message: PeerMessage<'_>) -> Result<(), FabricError> {
    let is_control = connection.channel == Channel::Control;
    if is_control { hear_control(connection, id, message) } else { hear_data(connection, id, message) }
}

fn hear_control(connection: &Arc<Connection>, id: u64, message: PeerMessage<'_>) -> Result<(), FabricError> {
    let (host, peer) = (&connection.host, connection.peer());
    match message {
        PeerMessage::Announce(keys) => host.announced(peer, keys),
        PeerMessage::Withdraw(keys) => host.withdrawn(peer, keys),
        PeerMessage::Lookup(keys) => {
            let holders: Vec<_> = host.holders(keys).into_iter().map(|holder| holder.unwrap_or(NO_RUN)).collect();
            connection.outbox.say(id, &PeerMessage::Holders(&holders));
        }
        PeerMessage::Delete(keys) => {
            let flags: Vec<u8> = host.delete(keys).into_iter().map(u8::from).collect();
            connection.outbox.say(id, &PeerMessage::Deleted(&flags));
        }
        PeerMessage::Holders(runs) => connection.incoming.answer(id, Answer::Holders(runs.to_vec())),
        PeerMessage::Deleted(flags) => connection.incoming.answer(id, Answer::Deleted(flags.to_vec())),
        PeerMessage::Ping => connection.outbox.say(id, &PeerMessage::Pong),
        PeerMessage::Pong => {}
        _ => return Err(FabricError::OutOfPlace { what: "about a block on the control channel" }),
    }
    Ok(())
}

fn hear_data(connection: &Arc<Connection>, stream: u64, message: PeerMessage<'_>) -> Result<(), FabricError> {
    let incoming = &connection.incoming;
    match message {
        PeerMessage::Pull(pull) => connection.host.pull(Asker { connection: connection.clone(), stream }, pull),
        PeerMessage::Offer(block) => {
            let sink =
                if incoming.len() < MOST_OFFERED { connection.host.offered(connection.peer(), &block) } else { None };
            begin(connection, stream, sink, None);
        }
        PeerMessage::Open(block) => {
            let Some(key) = incoming.take_asked(stream) else { return Ok(()) };
            if key != block.key {
                connection.tell_end(key, PullEnd::Miss);
                return Err(FabricError::OutOfPlace { what: "another block than it was asked for" });
            }
            begin(connection, stream, connection.host.opened(connection.peer(), &block), Some(key));
        }
        PeerMessage::Elsewhere(holder) => end_asked(connection, stream, PullEnd::Elsewhere(holder)),
        PeerMessage::Miss => end_asked(connection, stream, PullEnd::Miss),
        PeerMessage::Seal => {
            let Some(coming) = incoming.hold(stream) else { return Ok(()) };
            incoming.finish(stream);
            if coming.received != coming.sink.len() {
                tell_lost(connection, coming);
                return Err(FabricError::OutOfPlace { what: "the end of a block before all of it" });
            }
            coming.sink.seal();
            connection.counters.blocks_received.fetch_add(1, Ordering::Relaxed);
            connection.outbox.say(stream, &PeerMessage::Done);
            if let Some(key) = coming.pulled {
                connection.tell_end(key, PullEnd::Whole);
            }
        }
        PeerMessage::Lose => {
            if let Some(coming) = incoming.hold(stream) {
                incoming.finish(stream);
                tell_lost(connection, coming);
            }
        }
        PeerMessage::Done | PeerMessage::Stop => connection.outbox.forget(stream),
        _ => return Err(FabricError::OutOfPlace { what: "what belongs on the control channel" }),
    }
    Ok(())
}

/// A block begins to come, if there is a sink for it.
fn begin(connection: &Arc<Connection>, stream: u64, sink: Option<Box<dyn Sink>>, pulled: Option<Key>) {
    let declined = match sink {
        Some(sink) => connection.incoming.begin(stream, Coming { sink, received: 0, pulled }).is_err(),
        None => true,
    };
    if declined {
        connection.outbox.say(stream, &PeerMessage::Stop);
        if let Some(key) = pulled {
            connection.tell_end(key, PullEnd::Declined);
        }
    }
}

fn end_asked(connection: &Connection, stream: u64, end: PullEnd) {
    if let Some(key) = connection.incoming.take_asked(stream) {
        connection.tell_end(key, end);
    }
}

fn tell_lost(connection: &Connection, coming: Coming) {
    let pulled = coming.pulled;
    // The sink first: who is told looks again.
    drop(coming);
    if let Some(key) = pulled {
        connection.tell_end(key, PullEnd::Lost);
    }
}
