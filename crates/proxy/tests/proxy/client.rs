//! A proxy under test, and a client that talks to it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chariot_proxy::{InstanceAddress, Proxy, ProxyConfig};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fake_engine::{FakeEngine, PATIENCE};

pub(crate) const COMPLETIONS: &str = "/v1/completions";
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A running proxy.
pub(crate) struct TestProxy {
    pub(crate) address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl TestProxy {
    pub(crate) async fn between(prefill: &[&FakeEngine], decode: &[&FakeEngine]) -> Self {
        Self::start(config(addresses(prefill), addresses(decode))).await
    }

    pub(crate) async fn start(config: ProxyConfig) -> Self {
        let proxy = Proxy::bind(config).await.unwrap();
        let address = proxy.local_addr();
        let (shutdown, asked) = oneshot::channel::<()>();
        let running = tokio::spawn(proxy.run(async {
            let _ = asked.await;
        }));
        Self { address, shutdown: Some(shutdown), running }
    }

    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.shutdown.take());
    }

    pub(crate) async fn has_stopped(&mut self) {
        timeout(PATIENCE, &mut self.running).await.expect("the proxy never stopped").unwrap();
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request.body(Full::from(body.to_owned())).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Full::default()).unwrap()).await
    }

    /// Sends a request on a connection of its own and reads the whole reply.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        timeout(PATIENCE, self.try_send(request)).await.expect("the proxy never answered").unwrap()
    }

    async fn try_send(&self, mut request: Request<Full<Bytes>>) -> hyper::Result<Reply> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        request.headers_mut().insert("host", "proxy".parse().unwrap());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driving = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        driving.abort();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// The value of one line of `GET /metrics`; none where the line is missing.
    pub(crate) async fn metric(&self, line: &str) -> Option<f64> {
        let text = self.get("/metrics").await.text();
        text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a line of `GET /metrics` has a value.
    pub(crate) async fn metric_reaches(&self, line: &str, value: f64) {
        let polling = async {
            while self.metric(line).await != Some(value) {
                tokio::task::yield_now().await;
            }
        };
        if timeout(PATIENCE, polling).await.is_err() {
            panic!("`{line}` never became {value}:\n{}", self.get("/metrics").await.text());
        }
    }
}

/// A reply that was read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn error_message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn config(prefill: Vec<InstanceAddress>, decode: Vec<InstanceAddress>) -> ProxyConfig {
    let mut config = ProxyConfig::new(prefill, decode);
    config.port = 0;
    config.backoff.first = Duration::from_millis(20);
    config.backoff.most = Duration::from_millis(20);
    config
}

pub(crate) fn addresses(engines: &[&FakeEngine]) -> Vec<InstanceAddress> {
    engines.iter().map(|engine| engine.instance()).collect()
}

pub(crate) fn instance(address: SocketAddr) -> InstanceAddress {
    address.to_string().parse().unwrap()
}

/// A connection that speaks in bytes, for clients that misbehave.
pub(crate) struct RawClient(TcpStream);

impl RawClient {
    pub(crate) async fn connect(proxy: &TestProxy) -> Self {
        Self(TcpStream::connect(proxy.address).await.unwrap())
    }

    pub(crate) async fn post(proxy: &TestProxy, path: &str, body: &str) -> Self {
        let mut client = Self::connect(proxy).await;
        let length = body.len();
        client.write(&format!("POST {path} HTTP/1.1\r\nhost: p\r\ncontent-length: {length}\r\n\r\n{body}")).await;
        client
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Reads until what was read since the connection began ends with `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let reading = async {
            while !text.ends_with(end.as_bytes()) {
                text.push(self.0.read_u8().await.unwrap());
            }
        };
        let ended = timeout(PATIENCE, reading).await;
        let text = String::from_utf8(text).unwrap();
        assert!(ended.is_ok(), "`{end}` never came, only `{text}`");
        text
    }

    /// Reads until the proxy closes the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut text = Vec::new();
        let ended = timeout(PATIENCE, self.0.read_to_end(&mut text)).await.expect("the connection never closed");
        // A reset is an end as well.
        let _ = ended;
        String::from_utf8(text).unwrap()
    }
}
