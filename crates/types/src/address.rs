//! [`WorkerAddress`]: where a data worker listens.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// Where a data worker listens: `host:port`, as in `--worker_address` and `DS_WORKER_ADDR`.
///
/// The host is a name, an IPv4 address or an IPv6 address in brackets; the port is not 0.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WorkerAddress {
    host: String,
    port: u16,
}

/// Why a text is not a worker address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// No `:port` at the end.
    #[error("worker address `{text}` has no port: expected `host:port`, such as `127.0.0.1:31501`")]
    NoPort {
        /// What was given.
        text: String,
    },
    /// The part after the last colon is no port.
    #[error("worker address `{text}` has the port `{port}`: expected a number from 1 to 65535")]
    BadPort {
        /// What was given.
        text: String,
        /// The port's text.
        port: String,
    },
    /// The part before the port is no host.
    #[error(
        "worker address `{text}` has no usable host: expected a name, an IPv4 address or an IPv6 address in brackets"
    )]
    BadHost {
        /// What was given.
        text: String,
    },
}

impl WorkerAddress {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket addresses that the host resolves to.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host(), self.port).to_socket_addrs()?.collect())
    }
}

impl FromStr for WorkerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(AddressError::NoPort { text: text.to_owned() });
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if bracketed && host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_err() {
            return Err(AddressError::BadHost { text: text.to_owned() });
        }
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !bracketed && (host.is_empty() || host.len() > 253 || !host.chars().all(usable)) {
            return Err(AddressError::BadHost { text: text.to_owned() });
        }
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self { host: host.to_owned(), port }),
            _ => Err(AddressError::BadPort { text: text.to_owned(), port: port.to_owned() }),
        }
    }
}

impl fmt::Display for WorkerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        for text in ["127.0.0.1:31501", "[::1]:31501", "node-3.rack_1.example:1"] {
            assert_eq!(text.parse::<WorkerAddress>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:9".parse::<WorkerAddress>().unwrap().host(), "::1");
    }

    #[test]
    fn each_wrong_address_is_told_what_is_wrong_with_it() {
        let error = |text: &str| text.parse::<WorkerAddress>().unwrap_err();
        assert!(matches!(error("localhost"), AddressError::NoPort { .. }));
        assert!(matches!(error("localhost:0"), AddressError::BadPort { .. }));
        assert!(matches!(error("localhost:65536"), AddressError::BadPort { .. }));
        assert!(matches!(error("::1:31501"), AddressError::BadHost { .. }));
        assert!(matches!(error(":31501"), AddressError::BadHost { .. }));
        assert!(matches!(error("http://a:1"), AddressError::BadHost { .. }));
    }
}
