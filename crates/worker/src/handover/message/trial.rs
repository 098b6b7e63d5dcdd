//! What comes of bytes that another process might send, without a socket: for tests, and for a fuzzer.

use std::time::Instant;

use chariot_pool::{Pool, Whose};

use super::{HEAD, Head, MESSAGE, Message, VERSION};
use crate::handover::HandoverError;

/// Bytes of the pool that is left behind and of the one that goes on.
pub(crate) const CAPACITY: u64 = 1 << 20;

/// Takes any bytes for a message, and for the body of one.
pub(crate) fn heed(bytes: &[u8]) {
    let _ = read(bytes).map(inherit);
    let head = Head { kind: MESSAGE, version: VERSION, len: bytes.len() as u64 };
    let _ = head.message(bytes).map(inherit);
}

/// The message that these bytes are, all of them.
pub(crate) fn read(bytes: &[u8]) -> Result<Message, HandoverError> {
    let (head, body) = bytes.split_first_chunk::<HEAD>().ok_or(HandoverError::Gone)?;
    let head = Head::decode(head)?;
    if head.len != body.len() as u64 {
        return Err(HandoverError::Gone);
    }
    head.message(body)
}

/// Has a pool go on with what a message tells. Where it does, all of it is free once nobody holds anything.
fn inherit(message: Message) {
    let Message::Legacy(legacy) = message else { return };
    let mut pool = Pool::new(CAPACITY);
    if pool.inherit(&legacy.estate, Instant::now()).is_err() {
        return;
    }
    legacy.estate.owners().for_each(|owner| pool.drop_owner(owner));
    let mut from = Some(0);
    while let Some(place) = from {
        from = pool.evict_all(Whose::Everybody, place, 16).1;
    }
    assert_eq!(pool.stats().free, CAPACITY, "room is lost that was held by nobody");
}
