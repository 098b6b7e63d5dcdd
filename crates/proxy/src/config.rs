//! What a proxy is told before it starts: where to listen, which instances there are, and its limits.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

use chariot_types::WorkerAddress;

use crate::ProxyError;

/// Everything a proxy needs to know. [`ProxyConfig::new`] fills in the defaults.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The name or address to listen on.
    pub host: String,
    /// The port to listen on; 0 takes any free one.
    pub port: u16,
    /// The instances that compute prompts.
    pub prefill: Vec<InstanceAddress>,
    /// The instances that answer.
    pub decode: Vec<InstanceAddress>,
    /// The data workers on the decode instances' nodes: none, one that serves them all, or one for each in their order.
    /// Where they are known, prefill is told where its KV cache goes next.
    pub decode_workers: Vec<WorkerAddress>,
    /// When decode is asked.
    pub dispatch: Dispatch,
    /// How much a client may ask for.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How long an instance that failed is left alone.
    pub backoff: Backoff,
}

/// When decode is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// When prefill has answered.
    #[default]
    Sequential,
    /// Together with prefill: decode takes the KV cache as it comes. What needs prefill's answer is not carried.
    Concurrent,
}

/// How much a client may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest request body, in bytes, and the largest reply accepted from prefill.
    pub max_body_bytes: usize,
    /// The most header lines of a request.
    pub max_headers: usize,
    /// The most bytes of a request's head: request line and headers together.
    pub max_head_bytes: usize,
    /// The most client connections at one time; further ones wait in the listen queue.
    pub max_connections: usize,
}

/// How long things may take.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From a connection's turn to the end of a request's head; also how long a client may keep an idle connection.
    pub head_read: Duration,
    /// The whole of a request's body.
    pub body_read: Duration,
    /// Opening a connection to an instance.
    pub connect: Duration,
    /// The whole prefill step, further instances tried included. After it, decode computes the prompt.
    pub prefill: Duration,
    /// One instance's answer to a health question.
    pub health: Duration,
    /// How long a peer, client or instance, may take none of the bytes sent to it, or leave the system's keep-alive
    /// probes unanswered, before it counts as gone.
    pub peer_silence: Duration,
    /// How long an idle connection to an instance is kept. Below the five seconds after which vLLM's server closes it.
    pub upstream_idle: Duration,
    /// How long a shutdown waits for the requests in flight.
    pub shutdown_grace: Duration,
}

/// How long an instance that failed is left alone: `first`, then twice as long each time it fails again, up to `most`.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer than this.
    pub most: Duration,
}

impl ProxyConfig {
    /// A proxy on `127.0.0.1:8000` with the default limits.
    pub fn new(prefill: Vec<InstanceAddress>, decode: Vec<InstanceAddress>) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            prefill,
            decode,
            decode_workers: Vec::new(),
            dispatch: Dispatch::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            backoff: Backoff::default(),
        }
    }

    /// Refuses a configuration that cannot serve.
    pub fn validate(&self) -> Result<(), ProxyError> {
        for (side, instances) in [(Side::Prefill, &self.prefill), (Side::Decode, &self.decode)] {
            if instances.is_empty() {
                return Err(ProxyError::NoInstance { side });
            }
        }
        let all: Vec<_> = self.prefill.iter().chain(&self.decode).collect();
        if let Some((_, repeated)) = all.iter().enumerate().find(|(at, address)| all[..*at].contains(address)) {
            return Err(ProxyError::RepeatedAddress { address: repeated.to_string() });
        }
        let (workers, instances) = (self.decode_workers.len(), self.decode.len());
        if workers > 1 && workers != instances {
            return Err(ProxyError::UnpairedWorkers { workers, instances });
        }
        self.refuse_too_small()
    }

    /// The data worker on the node of the decode instance at `index`, where it is known.
    pub(crate) fn decode_worker(&self, index: usize) -> Option<&WorkerAddress> {
        match &self.decode_workers[..] {
            [shared] => Some(shared),
            each => each.get(index),
        }
    }

    fn refuse_too_small(&self) -> Result<(), ProxyError> {
        let Limits { max_body_bytes, max_headers, max_head_bytes, max_connections } = self.limits;
        let at_least = [
            ("max_body_bytes", max_body_bytes, 1),
            ("max_headers", max_headers, 8),
            ("max_head_bytes", max_head_bytes, 1024),
            ("max_connections", max_connections, 1),
        ];
        if let Some((setting, ..)) = at_least.into_iter().find(|(_, value, least)| value < least) {
            return Err(ProxyError::TooSmall { setting });
        }
        let Timeouts { head_read, body_read, connect, prefill, .. } = self.timeouts;
        let positive = [("head_read", head_read), ("body_read", body_read), ("connect", connect), ("prefill", prefill)];
        match positive.into_iter().find(|(_, value)| value.is_zero()) {
            Some((setting, _)) => Err(ProxyError::TooSmall { setting }),
            None => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_body_bytes: 64 << 20, max_headers: 100, max_head_bytes: 64 << 10, max_connections: 4096 }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head_read: Duration::from_secs(30),
            body_read: Duration::from_secs(60),
            connect: Duration::from_secs(2),
            prefill: Duration::from_secs(600),
            health: Duration::from_secs(2),
            peer_silence: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(4),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), most: Duration::from_secs(5) }
    }
}

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It computes the KV cache of prompts.
    Prefill,
    /// It answers.
    Decode,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where one vLLM instance listens. Parsed from `host:port` or `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceAddress {
    host: String,
    port: u16,
}

impl InstanceAddress {
    /// Pairs the hosts and ports of repeated options: one host serves all ports, one port is meant on all hosts,
    /// and otherwise the first host belongs to the first port, and so on.
    pub fn pair(hosts: &[String], ports: &[u16]) -> Result<Vec<Self>, ProxyError> {
        let pairs: Vec<(&String, u16)> = match (hosts, ports) {
            ([host], ports) => ports.iter().map(|port| (host, *port)).collect(),
            (hosts, [port]) => hosts.iter().map(|host| (host, *port)).collect(),
            (hosts, ports) if hosts.len() == ports.len() => hosts.iter().zip(ports.iter().copied()).collect(),
            (hosts, ports) => return Err(ProxyError::Unpaired { hosts: hosts.len(), ports: ports.len() }),
        };
        pairs.into_iter().map(|(host, port)| Self::from_parts(host, port)).collect()
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn from_parts(host: &str, port: u16) -> Result<Self, ProxyError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") }.parse()
    }
}

impl FromStr for InstanceAddress {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let bad = |reason| ProxyError::BadAddress { address: text.to_owned(), reason };
        if text.starts_with("https://") {
            return Err(bad("the proxy speaks plain http to its instances"));
        }
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        if bare.contains('/') {
            return Err(bad("it has a path"));
        }
        if bare.contains('@') {
            return Err(bad("it has a user name"));
        }
        let (host, port) = bare.rsplit_once(':').ok_or_else(|| bad("it has no port"))?;
        let port = port.parse().map_err(|_| bad("its port is no number up to 65535"))?;
        if port == 0 {
            return Err(bad("its port is 0"));
        }
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
            None if host.chars().all(named) => host,
            _ => return Err(bad("its host is no name, IPv4 address or IPv6 address in brackets")),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for InstanceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(addresses: &[InstanceAddress]) -> Vec<String> {
        addresses.iter().map(InstanceAddress::to_string).collect()
    }

    fn owned(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn one_host_serves_several_ports() {
        let paired = InstanceAddress::pair(&owned(&["10.0.0.1"]), &[8100, 8101]).unwrap();
        assert_eq!(texts(&paired), ["10.0.0.1:8100", "10.0.0.1:8101"]);
    }

    #[test]
    fn one_port_is_meant_on_every_host() {
        let paired = InstanceAddress::pair(&owned(&["a", "::1"]), &[8100]).unwrap();
        assert_eq!(texts(&paired), ["a:8100", "[::1]:8100"]);
    }

    #[test]
    fn equal_counts_pair_in_order_and_unequal_ones_are_refused() {
        let paired = InstanceAddress::pair(&owned(&["a", "b"]), &[1, 2]).unwrap();
        assert_eq!(texts(&paired), ["a:1", "b:2"]);
        let refused = InstanceAddress::pair(&owned(&["a", "b"]), &[1, 2, 3]).unwrap_err();
        assert_eq!(refused.to_string(), "2 hosts and 3 ports do not pair up");
    }

    #[test]
    fn addresses_are_read_with_and_without_a_scheme() {
        for text in ["localhost:8100", "http://localhost:8100", "http://localhost:8100/"] {
            assert_eq!(text.parse::<InstanceAddress>().unwrap().to_string(), "localhost:8100");
        }
        let v6: InstanceAddress = "http://[::1]:8100".parse().unwrap();
        assert_eq!((v6.host(), v6.port()), ("::1", 8100));
    }

    #[test]
    fn addresses_that_cannot_work_are_refused() {
        for text in [
            "",
            "host",
            ":80",
            "host:0",
            "https://host:1",
            "http://host:1/v1",
            "u@host:1",
            "host:99999",
            "a b:1",
            "a[::1]:1",
        ] {
            assert!(text.parse::<InstanceAddress>().is_err(), "`{text}` was accepted");
        }
    }

    #[test]
    fn a_configuration_that_cannot_serve_is_refused() {
        let a: InstanceAddress = "a:1".parse().unwrap();
        let b: InstanceAddress = "b:1".parse().unwrap();
        assert!(ProxyConfig::new(vec![a.clone()], vec![b.clone()]).validate().is_ok());
        let none = ProxyConfig::new(vec![], vec![b.clone()]).validate().unwrap_err();
        assert_eq!(none.hint(), "name at least one with --prefiller-port");
        let none = ProxyConfig::new(vec![a.clone()], vec![]).validate().unwrap_err();
        assert_eq!(none.hint(), "name at least one with --decoder-port");
        assert!(ProxyConfig::new(vec![a.clone()], vec![a.clone()]).validate().is_err());
        let mut unpaired = ProxyConfig::new(vec![a.clone()], vec![b.clone()]);
        unpaired.decode_workers = ["h:1", "h:2"].map(|address| address.parse().unwrap()).to_vec();
        assert_eq!(unpaired.validate().unwrap_err().to_string(), "2 workers and 1 decode instances do not pair up");
        let mut tiny = ProxyConfig::new(vec![a], vec![b]);
        tiny.limits.max_connections = 0;
        assert!(tiny.validate().is_err());
    }
}
