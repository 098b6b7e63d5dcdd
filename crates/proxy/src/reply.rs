//! The body of an instance's answer. It owns the connection that it arrives on: reading it drives the socket, its end
//! gives the connection back, and dropping it earlier closes the socket. What else was asked for the same client goes on
//! with it, and ends with it at the latest.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::connection::Connection;
use crate::fleet::Lease;

/// A body on its way from an instance.
pub(crate) struct Reply {
    body: Incoming,
    /// None once the reply is complete.
    source: Option<(Connection, Lease)>,
    /// What [`Reply::begin`] has read and nobody has taken.
    first: Option<Result<Frame<Bytes>, hyper::Error>>,
    /// What goes on meanwhile. Driven by whoever reads the reply.
    meanwhile: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Reply {
    pub(crate) fn new(body: Incoming, connection: Connection, lease: Lease) -> Self {
        let mut reply = Self { body, source: Some((connection, lease)), first: None, meanwhile: None };
        // A reader need not poll a body that is known to be empty.
        if reply.body.is_end_stream() {
            reply.complete();
        }
        reply
    }

    /// Waits for the first piece of the body, or its end. It stays in the reply.
    pub(crate) async fn begin(&mut self) {
        if self.first.is_none() {
            self.first = std::future::poll_fn(|cx| self.read(cx)).await;
        }
    }

    /// Lets `other` go on while the reply is read. What it is not done with when the reply ends is cancelled.
    pub(crate) fn go_on_with(&mut self, other: impl Future<Output = ()> + Send + 'static) {
        self.meanwhile = Some(Box::pin(other));
    }

    fn complete(&mut self) {
        if let Some((connection, lease)) = self.source.take() {
            lease.keep(connection);
        }
    }
}

impl Reply {
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some((connection, _)) = &mut self.source
        {
            connection.drive(cx);
            polled = Pin::new(&mut self.body).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(None) => self.complete(),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.complete(),
            Poll::Ready(Some(Err(cause))) => {
                if let Some((_, lease)) = self.source.take() {
                    lease.cut(cause);
                }
            }
            _ => {}
        }
        polled
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some(meanwhile) = &mut this.meanwhile
            && meanwhile.as_mut().poll(cx).is_ready()
        {
            this.meanwhile = None;
        }
        match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => this.read(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => 0,
        };
        let left = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(left.lower() + read);
        if let Some(upper) = left.upper() {
            hint.set_upper(upper + read);
        }
        hint
    }
}
