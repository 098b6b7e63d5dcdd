//! Why the proxy cannot start. What goes wrong with one request is an answer to that request, see `answer`.

use std::io;

use crate::Side;

/// A proxy that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// One of the two sides has no instance.
    #[error("no {side} instance given")]
    NoInstance {
        /// The side that has none.
        side: Side,
    },
    /// Hosts and ports of one side do not pair up.
    #[error("{hosts} hosts and {ports} ports do not pair up")]
    Unpaired {
        /// How many hosts were given.
        hosts: usize,
        /// How many ports were given.
        ports: usize,
    },
    /// There are several data workers, and not one for each decode instance.
    #[error("{workers} workers and {instances} decode instances do not pair up")]
    UnpairedWorkers {
        /// How many workers were given.
        workers: usize,
        /// How many decode instances there are.
        instances: usize,
    },
    /// An instance address that cannot be read.
    #[error("`{address}` is not the address of an instance: {reason}")]
    BadAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One address was given twice.
    #[error("`{address}` is given more than once")]
    RepeatedAddress {
        /// The address.
        address: String,
    },
    /// A limit or a timeout that would refuse every request.
    #[error("`{setting}` is too small: every request would be refused")]
    TooSmall {
        /// The field of `ProxyConfig`.
        setting: &'static str,
    },
    /// The listening socket could not be opened.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where the proxy was to listen.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ProxyError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoInstance { side: Side::Prefill } => "name at least one with --prefiller-port".to_owned(),
            Self::NoInstance { side: Side::Decode } => "name at least one with --decoder-port".to_owned(),
            Self::Unpaired { .. } => "give one host for all ports, or as many hosts as ports".to_owned(),
            Self::UnpairedWorkers { .. } => {
                "give --decoder-worker once for all decode instances, or once for each, in their order".to_owned()
            }
            Self::BadAddress { .. } => "write it as `host:port` or `http://host:port`".to_owned(),
            Self::RepeatedAddress { .. } => "an instance serves either prefill or decode; name each once".to_owned(),
            Self::TooSmall { setting } => format!("raise {setting}"),
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => "stop what listens there, or choose another --port".to_owned(),
                io::ErrorKind::PermissionDenied => "choose a --port above 1023".to_owned(),
                _ => "--host must be an address of this machine".to_owned(),
            },
        }
    }
}
