//! What two workers say to each other when one goes on for the other.
//!
//! A head of fixed form, which all versions understand, and a body. A refusal is text, for the same reason.

use std::time::Duration;

use chariot_pool::Estate;
use serde::{Deserialize, Serialize};

use super::HandoverError;

/// Of everything but the head and refusals.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"chariot>";

/// Bytes of a head.
pub(crate) const HEAD: usize = 24;

/// More bytes than any worker has to tell.
const MOST: u64 = 64 << 30;

const MESSAGE: u32 = 0;
const REFUSAL: u32 = 1;

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// New to old: may I go on for you?
    Ask(Ask),
    /// Old to new: no. Never sent in this form, but as text.
    Refused(String),
    /// Old to new: all that I know. With the arena, the board, the doors and the lock.
    Legacy(Box<Legacy>),
    /// Old to new: the sockets and pins of some clients, in their order.
    Files,
    /// New to old: I can go on.
    Ready,
    /// Old to new: do.
    Yours,
    /// Old to new: I have left the cluster, and serve nobody.
    Left,
}

/// What the new worker wants.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) address: String,
    /// Bytes of the arena that it expects.
    pub(crate) shared_memory: u64,
    pub(crate) pid: u32,
}

/// All that the old worker knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Legacy {
    /// Bytes of the arena, and how many of them are touched.
    pub(crate) arena: u64,
    pub(crate) touched: u64,
    /// No session has this number or a greater one.
    pub(crate) next_session: u64,
    pub(crate) estate: Estate,
    pub(crate) clients: Vec<LeftClient>,
}

/// A client whose connection is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeftClient {
    pub(crate) owner: u64,
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) namespace: String,
    pub(crate) connected: Duration,
    pub(crate) received: Vec<u8>,
}

/// What follows a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    kind: u32,
    version: u32,
    pub(crate) len: u64,
}

impl Head {
    pub(crate) fn decode(bytes: &[u8; HEAD]) -> Result<Self, HandoverError> {
        let (magic, rest) = bytes.split_at(MAGIC.len());
        let (version, rest) = rest.split_at(4);
        let (kind, len) = rest.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes were split off"));
        let len = u64::from_le_bytes(len.try_into().expect("eight bytes are left"));
        let head = Self { kind: number(kind), version: number(version), len };
        match (magic == MAGIC, head.len <= MOST, head.kind) {
            (false, ..) => Err(HandoverError::Nonsense { what: "no message" }),
            (_, false, _) => Err(HandoverError::Nonsense { what: "a message without an end" }),
            (.., REFUSAL) => Ok(head),
            (.., MESSAGE) if head.version == VERSION => Ok(head),
            (.., MESSAGE) => Err(HandoverError::Version { theirs: head.version }),
            _ => Err(HandoverError::Nonsense { what: "an unknown kind of message" }),
        }
    }

    /// The message with this head.
    pub(crate) fn message(self, body: &[u8]) -> Result<Message, HandoverError> {
        match self.kind {
            REFUSAL => Ok(Message::Refused(String::from_utf8_lossy(body).into_owned())),
            _ => match postcard::take_from_bytes(body) {
                Ok((message, [])) => Ok(message),
                _ => Err(HandoverError::Nonsense { what: "a message that is none" }),
            },
        }
    }
}

impl Message {
    /// Head and body.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Refused(reason) => (REFUSAL, reason.clone().into_bytes()),
            message => (MESSAGE, postcard::to_stdvec(message).expect("nothing in it cannot be written")),
        };
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }
}

#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing))]
pub(crate) mod trial;
