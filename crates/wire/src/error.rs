//! [`WireError`]: bytes that are not a message.

/// Bytes that are not a message of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A header announces more than [`limits`](crate::limits) allow, or sets bits that must be zero.
    #[error("a frame header announces a body of `{body}` and a payload of `{payload}` bytes, which is not allowed")]
    BadHeader {
        /// Bytes of body announced.
        body: u64,
        /// Bytes of payload announced.
        payload: u64,
    },
    /// No message is of this kind.
    #[error("`{kind}` is not a kind of message")]
    UnknownKind {
        /// The kind's number.
        kind: u16,
    },
    /// The body does not have the shape of its kind.
    #[error("a body of `{len}` bytes is not a `{what}` message")]
    BadBody {
        /// The kind's name.
        what: &'static str,
        /// Bytes of the body.
        len: usize,
    },
    /// A batch with more entries than allowed.
    #[error("a `{what}` message has `{count}` entries; at most 65,536 are allowed")]
    TooMany {
        /// The kind's name.
        what: &'static str,
        /// Entries in the batch.
        count: usize,
    },
}
