//! [`EtcdEndpoint`]: where one member of etcd listens for clients.

use std::fmt;
use std::str::FromStr;

/// Where one member of etcd listens for clients: `host:port`, with or without `http://` or `https://` before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtcdEndpoint {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// What an endpoint says about encryption.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    Unsaid,
    Http,
    Https,
}

/// A text that is no endpoint of etcd.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no address of etcd: expected `host:port`, such as `127.0.0.1:2379`, and commas between several")]
pub struct EndpointError {
    text: String,
}

impl EtcdEndpoint {
    /// The host, without brackets.
    pub(crate) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host:port`, as in a URL.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// All endpoints, as the user would write them.
    pub(crate) fn list(endpoints: &[Self]) -> String {
        endpoints.iter().map(Self::to_string).collect::<Vec<_>>().join(",")
    }
}

impl FromStr for EtcdEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError { text: text.to_owned() };
        let (scheme, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (Scheme::Http, rest),
            (_, Some(rest)) => (Scheme::Https, rest),
            _ => (Scheme::Unsaid, text),
        };
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let usable = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                !host.is_empty() && host.len() <= 253 && host.chars().all(fits)
            }
        };
        let port = port.parse().ok().filter(|port| *port != 0 && usable).ok_or_else(wrong)?;
        Ok(Self { scheme, host: host.to_owned(), port })
    }
}

impl fmt::Display for EtcdEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Unsaid => "",
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        };
        write!(f, "{scheme}{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_back_as_written() {
        for text in ["127.0.0.1:2379", "[::1]:2379", "http://etcd-0.example:1", "https://etcd_1:65535"] {
            assert_eq!(text.parse::<EtcdEndpoint>().unwrap().to_string(), text);
        }
        assert_eq!("https://a:1/".parse::<EtcdEndpoint>().unwrap().authority(), "a:1");
        assert_eq!("[::1]:1".parse::<EtcdEndpoint>().unwrap().host(), "::1");
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["", "etcd", "etcd:0", "etcd:65536", ":2379", "::1:2379", "[::g]:1", "ftp://a:1", "a b:1", "a:1/x"]
        {
            assert!(text.parse::<EtcdEndpoint>().unwrap_err().to_string().contains(text), "{text}");
        }
    }
}
