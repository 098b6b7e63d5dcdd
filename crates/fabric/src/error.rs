//! [`FabricError`]: why a connection between two workers has ended.

use std::io;

use chariot_types::RunId;
use chariot_wire::WireError;

/// Why a connection between two workers has ended. Another attempt can always help.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The network failed.
    #[error("the connection broke")]
    Io {
        /// How.
        #[from]
        source: io::Error,
    },
    /// The other side ended it.
    #[error("the other worker ended the connection")]
    Closed,
    /// This side has ended it.
    #[error("the connection was ended here")]
    Ended,
    /// The other side sent what is no message.
    #[error("the other worker sent what is no message")]
    Wire {
        /// What it sent.
        #[from]
        source: WireError,
    },
    /// The other side sent a message out of place.
    #[error("the other worker sent {what}")]
    OutOfPlace {
        /// What.
        what: &'static str,
    },
    /// A message, or bytes of a block, arrived changed.
    #[error("`{len}` bytes arrived with the checksum `{found:016x}`, and were sent with `{sent:016x}`")]
    Corrupt {
        /// How many bytes.
        len: u64,
        /// What the sender computed.
        sent: u64,
        /// What the receiver computed.
        found: u64,
    },
    /// The other side does not read what it is told.
    #[error("the other worker does not read what it is told")]
    Unread,
    /// There are too many connections already.
    #[error("there are `{limit}` connections from other workers already")]
    TooMany {
        /// How many may be.
        limit: usize,
    },
    /// The other side says nothing any more.
    #[error("the other worker has said nothing for `{seconds}` s")]
    Silent {
        /// For how long.
        seconds: u64,
    },
    /// The other side speaks another version.
    #[error("the other worker speaks version `{theirs}` of the workers' protocol, this one version `{ours}`")]
    Version {
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The other side belongs to another cluster.
    #[error("the other worker belongs to the cluster `{theirs}`")]
    Cluster {
        /// Which.
        theirs: String,
    },
    /// Another worker answers at the address.
    #[error("the address is that of another run, `{found}`")]
    AnotherRun {
        /// Which.
        found: RunId,
    },
}
