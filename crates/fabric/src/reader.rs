//! [`Reader`]: receives what the other side of a connection says, and checks it; bytes of blocks where they belong.

use std::ops::Range;
use std::sync::Arc;

use chariot_wire::{Channel, Header, PeerMessage};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::checksum::Checksum;
use crate::connection::Connection;
use crate::hear::{hear, lose};
use crate::incoming::Unchecked;
use crate::transport::{Doing, Receiver};
use crate::{FabricError, PATIENCE, TURN, frames};

/// Bytes received at once.
const BUFFER: usize = 64 << 10;

/// Bytes received at once behind a large piece of a block. Another one follows, most likely, and that is to be received
/// where it belongs, not here.
const NEXT_HEADER: usize = 256;

/// Receives what the other side says.
pub(crate) struct Reader {
    connection: Arc<Connection>,
    receiver: Box<dyn Receiver>,
    buffer: Vec<u8>,
    // The bytes of `buffer` that are in use.
    start: usize,
    end: usize,
    /// How many to receive at once.
    appetite: usize,
    /// How many were received since others had their turn.
    in_a_row: usize,
}

impl Reader {
    /// A reader that has received `early` bytes already.
    pub(crate) fn new(connection: Arc<Connection>, receiver: Box<dyn Receiver>, early: Vec<u8>) -> Self {
        let (end, mut buffer) = (early.len(), early);
        buffer.resize(end.max(BUFFER), 0);
        Self { connection, receiver, buffer, start: 0, end, appetite: BUFFER, in_a_row: 0 }
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
        while let Some((header, len)) = self.next_frame()? {
            let frame = self.start..self.start + len;
            self.start = frame.end;
            match self.heed(&header, frame)? {
                Some(piece) => {
                    let appetite = if piece.len > BUFFER as u64 { NEXT_HEADER } else { BUFFER };
                    self.receive_piece(piece).await?;
                    self.appetite = appetite;
                }
                None => self.appetite = BUFFER,
            }
        }
        self.fill().await
    }

    /// The next frame, if it is here whole: its header and length.
    fn next_frame(&mut self) -> Result<Option<(Header, usize)>, FabricError> {
        let held = &self.buffer[self.start..self.end];
        let counters = &self.connection.counters;
        let header = frames::header(held).inspect_err(|error| counters.note_if_corrupt(error))?;
        let Some(header) = header else { return Ok(None) };
        let frame = frames::len(&header);
        if held.len() < frame {
            self.appetite = self.appetite.max(frame - held.len());
            if self.start + frame > self.buffer.len() {
                self.move_to_front();
                self.buffer.resize(self.buffer.len().max(frame), 0);
            }
            return Ok(None);
        }
        Ok(Some((header, frame)))
    }

    /// Checks a frame and sees to what it says; what it says of bytes that follow is returned.
    fn heed(&mut self, header: &Header, frame: Range<usize>) -> Result<Option<Piece>, FabricError> {
        let counters = &self.connection.counters;
        let body = frames::body(&self.buffer[frame]).inspect_err(|error| counters.note_if_corrupt(error))?;
        match PeerMessage::decode(header, body)? {
            PeerMessage::Bytes { offset } => Ok(Some(Piece { stream: header.request, offset, len: header.payload })),
            message => hear(&self.connection, header.request, message).map(|()| None),
        }
    }

    async fn fill(&mut self) -> Result<(), FabricError> {
        let is_due = self.start != self.end;
        if !is_due {
            (self.start, self.end) = (0, 0);
            self.buffer.truncate(BUFFER);
            self.buffer.shrink_to(BUFFER);
        } else if self.end == self.buffer.len() {
            self.move_to_front();
        }
        let until = self.buffer.len().min(self.end + self.appetite);
        self.give_way(until - self.end).await;
        let receiving = self.receiver.receive(&mut self.buffer[self.end..until]);
        // Between two messages there may be nothing to say for as long as the other side likes.
        let received = if is_due { in_time(receiving).await? } else { receiving.await? };
        self.end += received;
        self.note_received(received)
    }

    /// Notes how many bytes were received; none are the end.
    fn note_received(&mut self, received: usize) -> Result<(), FabricError> {
        if received == 0 {
            return Err(FabricError::Closed);
        }
        if self.connection.channel == Channel::Control {
            self.connection.note_heard();
        }
        self.in_a_row += received;
        Ok(())
    }

    /// Lets others have their turn, where this has had its own. Not before what is small: that may be all that somebody
    /// waits for.
    async fn give_way(&mut self, before: usize) {
        if self.in_a_row >= TURN && before > NEXT_HEADER {
            self.in_a_row = 0;
            yield_now().await;
        }
    }

    fn move_to_front(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Receives bytes of a block where they belong. They count when their sum was heard.
    async fn receive_piece(&mut self, piece: Piece) -> Result<(), FabricError> {
        let Some(mut coming) = self.connection.incoming.hold(piece.stream) else {
            return self.discard(piece.len).await;
        };
        if !coming.continues_with(piece.offset, piece.len) {
            lose(&self.connection, piece.stream, coming);
            return Err(FabricError::OutOfPlace { what: "bytes that do not continue their block" });
        }
        let mut checksum = Checksum::new();
        let target = coming.sink.room(piece.offset, piece.len);
        assert_eq!(target.len() as u64, piece.len, "a sink gives the room that it is asked for");
        if let Err(error) = self.receive_into(target, &mut checksum).await {
            lose(&self.connection, piece.stream, coming);
            return Err(error);
        }
        coming.unchecked = Some(Unchecked { len: piece.len, found: checksum.finish() });
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
            self.give_way(target.len() - filled).await;
            let received = in_time(self.receiver.receive(&mut target[filled..])).await?;
            checksum.add(&target[filled..filled + received]);
            filled += received;
            self.note_received(received)?;
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
}

/// What is due must not be waited for in vain.
async fn in_time(receiving: Doing<'_, usize>) -> Result<usize, FabricError> {
    let received = timeout(PATIENCE, receiving).await;
    Ok(received.map_err(|_| FabricError::Silent { seconds: PATIENCE.as_secs() })??)
}

/// Bytes of a block that are announced.
struct Piece {
    stream: u64,
    offset: u64,
    len: u64,
}
