//! The body of an instance's answer. It owns the connection that it arrives on: reading it drives the socket, its end
//! gives the connection back, and dropping it earlier closes the socket.

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
}

impl Reply {
    pub(crate) fn new(body: Incoming, connection: Connection, lease: Lease) -> Self {
        let mut reply = Self { body, source: Some((connection, lease)) };
        // A reader need not poll a body that is known to be empty.
        if reply.body.is_end_stream() {
            reply.complete();
        }
        reply
    }

    fn complete(&mut self) {
        if let Some((connection, lease)) = self.source.take() {
            lease.keep(connection);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending()
            && let Some((connection, _)) = &mut this.source
        {
            connection.drive(cx);
            polled = Pin::new(&mut this.body).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(None) => this.complete(),
            Poll::Ready(Some(Ok(_))) if this.body.is_end_stream() => this.complete(),
            Poll::Ready(Some(Err(cause))) => {
                if let Some((_, lease)) = this.source.take() {
                    lease.cut(cause);
                }
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
