//! Sees to what the other side of a connection says.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chariot_types::Key;
use chariot_wire::{Channel, NO_RUN, PeerMessage};

use crate::FabricError;
use crate::connection::Connection;
use crate::host::{Asker, PullEnd};
use crate::incoming::{Answer, Coming, Unchecked};
use crate::outbox::Asked;
use crate::stream::Sink;

/// Blocks that the other side may send unasked at once.
const MOST_OFFERED: usize = 4096;

/// Sees to a message that no bytes follow.
pub(crate) fn hear(connection: &Arc<Connection>, id: u64, message: PeerMessage<'_>) -> Result<(), FabricError> {
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
        PeerMessage::Pull(pull) => match connection.outbox.owe(stream) {
            Asked::Owed => connection.host.pull(Asker::new(connection.clone(), stream), pull),
            Asked::TooMany => connection.outbox.say(stream, &PeerMessage::Miss),
            Asked::Twice => return Err(FabricError::OutOfPlace { what: "two questions under one number" }),
        },
        PeerMessage::Offer(block) => {
            let sink =
                if incoming.len() < MOST_OFFERED { connection.host.offered(connection.peer(), &block) } else { None };
            begin(connection, stream, sink, None);
        }
        PeerMessage::Open(block) => {
            let Some(key) = incoming.take_asked(stream) else { return refuse(connection, stream) };
            if key != block.block.key {
                connection.tell_end(key, PullEnd::Gone);
                return Err(FabricError::OutOfPlace { what: "another block than it was asked for" });
            }
            begin(connection, stream, connection.host.opened(connection.peer(), &block), Some(key));
        }
        PeerMessage::Elsewhere(holder) => end_asked(connection, stream, PullEnd::Elsewhere(holder)),
        PeerMessage::Miss => end_asked(connection, stream, PullEnd::Miss),
        PeerMessage::Sum(sent) => {
            let Some(coming) = incoming.hold(stream) else { return Ok(()) };
            check(connection, stream, coming, sent)?;
        }
        PeerMessage::Seal => {
            let Some(coming) = incoming.hold(stream) else { return Ok(()) };
            if coming.received != coming.sink.len() {
                lose(connection, stream, coming);
                return Err(FabricError::OutOfPlace { what: "the end of a block before all of it" });
            }
            coming.sink.seal();
            incoming.finish(stream);
            connection.counters.blocks_received.fetch_add(1, Ordering::Relaxed);
            if let Some(key) = coming.pulled {
                connection.tell_end(key, PullEnd::Whole);
            }
        }
        PeerMessage::Lose => {
            if let Some(coming) = incoming.hold(stream) {
                lose(connection, stream, coming);
            }
        }
        PeerMessage::Stop => connection.outbox.forget(stream),
        _ => return Err(FabricError::OutOfPlace { what: "what belongs on the control channel" }),
    }
    Ok(())
}

/// The last bytes of a block are right, or the block is lost.
fn check(connection: &Connection, stream: u64, mut coming: Coming, sent: u64) -> Result<(), FabricError> {
    let Some(Unchecked { len, found }) = coming.unchecked.take() else {
        lose(connection, stream, coming);
        return Err(FabricError::OutOfPlace { what: "the checksum of nothing" });
    };
    if found != sent {
        lose(connection, stream, coming);
        connection.counters.note_corrupt();
        return Err(FabricError::Corrupt { len, sent, found });
    }
    connection.counters.bytes_received.fetch_add(len, Ordering::Relaxed);
    coming.received += len;
    coming.sink.advance(coming.received);
    connection.incoming.put_back(stream, coming);
    Ok(())
}

/// A block begins to come, if there is a sink for it.
fn begin(connection: &Arc<Connection>, stream: u64, sink: Option<Box<dyn Sink>>, pulled: Option<Key>) {
    let declined = match sink {
        Some(sink) => connection.incoming.begin(stream, Coming::new(sink, pulled)).is_err(),
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

/// Nobody waits for the block that begins to come, any more.
fn refuse(connection: &Connection, stream: u64) -> Result<(), FabricError> {
    if connection.incoming.has(stream) {
        return Err(FabricError::OutOfPlace { what: "a block twice" });
    }
    connection.outbox.say(stream, &PeerMessage::Stop);
    Ok(())
}

/// A block that was coming is lost.
pub(crate) fn lose(connection: &Connection, stream: u64, coming: Coming) {
    let pulled = coming.pulled;
    // The sink first: who is told looks again.
    drop(coming);
    connection.incoming.finish(stream);
    if let Some(key) = pulled {
        connection.tell_end(key, PullEnd::Lost);
    }
}
