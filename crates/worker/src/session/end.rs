//! [`End`]: why a session is over.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use chariot_pool::{Misuse, OwnerId};
use chariot_wire::{Refusal, WireError};

use crate::shared::Shared;

/// Why a session is over.
#[derive(Debug)]
pub(super) enum End {
    /// The client went.
    Closed,
    /// The worker ends.
    Ending,
    /// The worker goes on in another process.
    Moved,
    /// The client's session goes on there.
    GoesOn,
    /// The connection broke.
    Io { source: io::Error },
    /// The client did not read, write or say hello in time.
    TooSlow { what: &'static str },
    /// The client sent what is no message.
    Wire { source: WireError },
    /// The client asked for what it may not.
    Misuse { request: u64, source: Misuse },
    /// The client sent a message out of place.
    OutOfPlace { request: u64, what: &'static str },
    /// The client speaks another version.
    Version { theirs: u32 },
    /// The client shows no token of a tenant.
    Stranger { request: u64 },
}

impl End {
    /// The request to which the farewell answers; 0 for none.
    pub(super) fn request(&self) -> u64 {
        match self {
            Self::Misuse { request, .. } | Self::OutOfPlace { request, .. } | Self::Stranger { request } => *request,
            // A client sends its hello as request 1.
            Self::Version { .. } => 1,
            _ => 0,
        }
    }

    /// What the client is told, if anything.
    pub(super) fn farewell(&self) -> Option<(Refusal, String)> {
        match self {
            Self::Closed | Self::GoesOn | Self::Io { .. } | Self::TooSlow { .. } => None,
            Self::Moved => Some((Refusal::Moved, "the worker goes on in another process".to_owned())),
            Self::Ending => Some((Refusal::Draining, "the worker ends".to_owned())),
            Self::Wire { source } => Some((Refusal::Misuse, source.to_string())),
            Self::Misuse { source, .. } => Some((Refusal::Misuse, source.to_string())),
            Self::OutOfPlace { what, .. } => Some((Refusal::Misuse, (*what).to_owned())),
            Self::Stranger { .. } => Some((
                Refusal::Stranger,
                "it serves tenants, and the token shown, if any, is none of theirs".to_owned(),
            )),
            Self::Version { theirs } => {
                let ours = chariot_wire::PROTOCOL_VERSION;
                Some((
                    Refusal::Version,
                    format!("the worker speaks version {ours} of the protocol, the client version {theirs}"),
                ))
            }
        }
    }

    /// Logs what is worth it, and counts what the client is to blame for.
    pub(super) fn log(&self, owner: Option<OwnerId>, shared: &Shared) {
        let session = owner.map(|owner| owner.0);
        match self {
            Self::Closed | Self::Ending | Self::Moved | Self::GoesOn => tracing::debug!(session, "client went"),
            Self::Io { source } => tracing::debug!(session, error = %source, "connection broke"),
            Self::TooSlow { what } => tracing::warn!(session, what, "dropped a client that is too slow"),
            Self::Wire { .. }
            | Self::Misuse { .. }
            | Self::OutOfPlace { .. }
            | Self::Version { .. }
            | Self::Stranger { .. } => {
                shared.misuses.fetch_add(1, Ordering::Relaxed);
                if let Some(unsaid) = shared.shown_out.is_due(Instant::now()) {
                    let reason = self.farewell().map(|(_, text)| text);
                    tracing::warn!(session, reason, others = unsaid, "showed a client out");
                }
            }
        }
    }
}

impl From<io::Error> for End {
    fn from(source: io::Error) -> Self {
        Self::Io { source }
    }
}

impl From<WireError> for End {
    fn from(source: WireError) -> Self {
        Self::Wire { source }
    }
}
