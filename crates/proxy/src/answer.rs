//! What the proxy answers: an instance's reply as it comes, or a few bytes of its own. Its own errors have the shape that
//! vLLM and OpenAI clients know.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::metrics::InFlight;
use crate::reply::Reply;

/// The body of an answer.
pub(crate) enum Answer {
    /// Bytes that are there already.
    Whole(Full<Bytes>),
    /// A reply on its way, and the count that it ends.
    Relayed(Reply, InFlight),
}

impl Answer {
    pub(crate) fn relayed(reply: Reply, mut in_flight: InFlight) -> Self {
        // Nobody polls a body that is known to be empty.
        if reply.is_end_stream() {
            in_flight.end();
        }
        Self::Relayed(reply, in_flight)
    }
}

/// Why a request is refused here, in the words of the `type` field of an error.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// The request cannot be read.
    BadRequest,
    /// The request came too slowly.
    Timeout,
    /// The request is too large.
    TooLarge,
    /// The method makes no sense here.
    Method,
    /// No instance answered.
    BadGateway,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::BadRequest | Self::Method => "BadRequestError",
            Self::Timeout => "RequestTimeoutError",
            Self::TooLarge => "RequestTooLargeError",
            Self::BadGateway => "BadGatewayError",
        }
    }
}

/// An error with its message, and a hint that says what to do next.
pub(crate) fn refuse(refusal: Refusal, message: &str, hint: &str) -> Response<Answer> {
    let status = refusal.status();
    let error = json!({
        "error": {
            "message": format!("{message}. hint: {hint}"),
            "type": refusal.name(),
            "param": null,
            "code": status.as_u16(),
        }
    });
    whole(status, HeaderValue::from_static("application/json"), error.to_string())
}

/// An answer of the proxy's own.
pub(crate) fn whole(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Pin::new(bytes).poll_frame(cx).map_err(|never| match never {}),
            Self::Relayed(reply, in_flight) => {
                let polled = Pin::new(&mut *reply).poll_frame(cx);
                let over = matches!(polled, Poll::Ready(None | Some(Err(_))));
                if over || (polled.is_ready() && reply.is_end_stream()) {
                    in_flight.end();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_end_stream(),
            Self::Relayed(reply, _) => reply.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => bytes.size_hint(),
            Self::Relayed(reply, _) => reply.size_hint(),
        }
    }
}
