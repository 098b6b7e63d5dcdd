//! An OpenAI-like server without a model: it answers what a test's script says and remembers what it was asked.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chariot_proxy::InstanceAddress;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// What every wait in these tests ends at.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

type Answering = Pin<Box<dyn Future<Output = Response<FakeBody>> + Send>>;
type Script = Arc<dyn Fn(Received) -> Answering + Send + Sync>;

/// A fake instance. Dropping it closes its socket and every connection.
pub(crate) struct FakeEngine {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    connections: tokio::task::JoinHandle<()>,
}

/// One request as an instance received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// What the instance has seen so far; a test can wait on each number.
struct Seen {
    requests: Mutex<Vec<Received>>,
    begun: watch::Sender<usize>,
    connected: watch::Sender<usize>,
    abandoned: watch::Sender<usize>,
}

impl FakeEngine {
    /// Answers every request with what `script` makes of it.
    pub(crate) async fn start<F>(script: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<FakeBody>> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    /// The same at an address of the caller's choice: an instance that comes back.
    pub(crate) async fn start_at<F>(address: SocketAddr, script: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<FakeBody>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Script = Arc::new(move |received| Box::pin(script(received)));
        let seen = Arc::new(Seen {
            requests: Mutex::default(),
            begun: watch::Sender::new(0),
            connected: watch::Sender::new(0),
            abandoned: watch::Sender::new(0),
        });
        let connections = tokio::spawn(accept(listener, script, Arc::clone(&seen)));
        Self { address, seen, connections }
    }

    /// Answers everything with one JSON value.
    pub(crate) async fn saying(status: u16, body: Value) -> Self {
        Self::start(move |_| {
            let body = body.clone();
            async move { json(status, &body) }
        })
        .await
    }

    /// Never answers anything.
    pub(crate) async fn silent() -> Self {
        Self::start(|_| std::future::pending()).await
    }

    /// Answers its first request with an event stream that the test writes, and no further one.
    pub(crate) async fn streaming() -> (Self, FakeBodySender) {
        let (sender, body) = FakeBody::open();
        let body = Mutex::new(Some(body));
        let engine = Self::start(move |_| {
            let body = body.lock().unwrap().take();
            async move { event_stream(body.expect("one request was expected")) }
        });
        (engine.await, sender)
    }

    pub(crate) fn instance(&self) -> InstanceAddress {
        self.address.to_string().parse().unwrap()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.remove(0)
    }

    pub(crate) fn connected(&self) -> usize {
        *self.seen.connected.borrow()
    }

    /// Waits until so many requests have come.
    pub(crate) async fn has_begun(&self, requests: usize) {
        reaches(&self.seen.begun, requests).await;
    }

    /// Waits until so many requests were given up before their answer was complete.
    pub(crate) async fn was_abandoned(&self, requests: usize) {
        reaches(&self.seen.abandoned, requests).await;
    }

    pub(crate) fn abandoned(&self) -> usize {
        *self.seen.abandoned.borrow()
    }

    /// Closes the socket and every connection, and leaves the address to the next.
    pub(crate) async fn stop(self) -> SocketAddr {
        let address = self.address;
        self.connections.abort();
        while !self.connections.is_finished() {
            tokio::task::yield_now().await;
        }
        address
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.connections.abort();
    }
}

async fn reaches(count: &watch::Sender<usize>, least: usize) {
    let mut count = count.subscribe();
    let waiting = count.wait_for(|count| *count >= least);
    tokio::time::timeout(PATIENCE, waiting).await.expect("the instance never saw it").unwrap();
}

/// An address where nothing listens, and nothing else will while this value lives.
pub(crate) struct Nowhere {
    pub(crate) address: SocketAddr,
    _bound: TcpSocket,
}

pub(crate) fn nowhere() -> Nowhere {
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    Nowhere { address: bound.local_addr().unwrap(), _bound: bound }
}

impl Nowhere {
    pub(crate) fn instance(&self) -> InstanceAddress {
        self.address.to_string().parse().unwrap()
    }
}

async fn accept(listener: TcpListener, script: Script, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.connected.send_modify(|count| *count += 1);
        connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen)));
    }
}

async fn serve(stream: TcpStream, script: Script, seen: Arc<Seen>) {
    stream.set_nodelay(true).unwrap();
    let answer = service_fn(|request: Request<Incoming>| {
        let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let target = head.uri.to_string();
            let received = Received { method: head.method, target, headers: head.headers, body };
            seen.requests.lock().unwrap().push(received.clone());
            seen.begun.send_modify(|count| *count += 1);
            let mut watched = Watched { seen, complete: false };
            let answer = script(received).await;
            if answer.body().is_end_stream() {
                watched.complete = true;
            }
            Ok::<_, Infallible>(answer.map(|body| WatchedBody { body, watched }))
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// Counts an answer as abandoned when it is dropped before its end.
struct Watched {
    seen: Arc<Seen>,
    complete: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.complete {
            self.seen.abandoned.send_modify(|count| *count += 1);
        }
    }
}

struct WatchedBody {
    body: FakeBody,
    watched: Watched,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.watched.complete |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}

/// A body that a test writes piece by piece. It ends when its sender is dropped.
pub(crate) struct FakeBody(mpsc::UnboundedReceiver<io::Result<Bytes>>);

pub(crate) type FakeBodySender = mpsc::UnboundedSender<io::Result<Bytes>>;

impl FakeBody {
    pub(crate) fn open() -> (FakeBodySender, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }

    pub(crate) fn of(pieces: &[&[u8]]) -> Self {
        let (sender, body) = Self::open();
        for piece in pieces {
            sender.send(Ok(Bytes::copy_from_slice(piece))).unwrap();
        }
        body
    }
}

impl Body for FakeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

pub(crate) fn json(status: u16, body: &Value) -> Response<FakeBody> {
    let text = body.to_string();
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/json")
        .header("content-length", text.len())
        .body(FakeBody::of(&[text.as_bytes()]))
        .unwrap()
}

pub(crate) fn event_stream(body: FakeBody) -> Response<FakeBody> {
    Response::builder().header("content-type", "text/event-stream; charset=utf-8").body(body).unwrap()
}
