//! One HTTP/1.1 connection to an instance, driven by the request that uses it.
//!
//! There is no task behind a connection: whoever waits for an answer polls the socket. So an answer reaches its reader in
//! the turn of the event loop that received it, and dropping the reader closes the socket, which is how vLLM learns that
//! nobody wants the answer any more. Cancelling a request is dropping it, in every step, with nothing to forget.
//!
//! Knows one connection; which instance to use and whether to try again is decided by [`crate::fleet`].

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::InstanceAddress;

type Driver = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// An open connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None once the connection has ended: a finished driver must not be polled.
    /// Boxed because it holds the buffers' state, and connections move between pool and replies.
    driver: Option<Box<Driver>>,
}

/// An exchange that brought no answer.
pub(crate) enum Unanswered {
    /// Nothing was sent: the connection had ended before. The request can go elsewhere without harm.
    Unsent(Box<Request<Full<Bytes>>>),
    /// The connection broke after the request, or a part of it, was sent.
    Broken(hyper::Error),
}

impl Connection {
    /// Connects within `timeout`.
    pub(crate) async fn open(address: &InstanceAddress, timeout: Duration, silence: Duration) -> io::Result<Self> {
        let connecting = TcpStream::connect((address.host(), address.port()));
        let stream = tokio::time::timeout(timeout, connecting).await??;
        tune(&stream, silence)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self { sender, driver: Some(Box::new(driver)) })
    }

    /// Sends one request and waits for the head of its answer. The connection comes back with it: the body only
    /// arrives while the connection is driven.
    pub(crate) async fn exchange(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Self), Unanswered> {
        let ready = std::future::poll_fn(|cx| {
            self.drive(cx);
            self.sender.poll_ready(cx)
        });
        if ready.await.is_err() {
            return Err(Unanswered::Unsent(Box::new(request)));
        }
        let mut answer = pin!(self.sender.try_send_request(request));
        let answered = std::future::poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => Ok((response, self)),
            Err(mut unsent) => Err(match unsent.take_message() {
                Some(request) => Unanswered::Unsent(Box::new(request)),
                None => Unanswered::Broken(unsent.into_error()),
            }),
        }
    }

    /// Moves bytes in and out as far as the socket allows now. What it receives is found in the response's body.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(_ended) = Pin::new(driver).poll(cx)
        {
            // Why it ended is told to whoever waits for the answer or reads the body.
            self.driver = None;
        }
    }

    /// Whether the next request can be sent now: the last exchange is over and the peer has not closed.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// Small frames leave at once, and a peer that vanished without a word is noticed.
pub(crate) fn tune(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probe = (silence / 4).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(probe).with_interval(probe).with_retries(3))?;
    socket.set_tcp_user_timeout(Some(silence))
}
