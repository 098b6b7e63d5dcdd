//! The two steps of a completion, one after the other or side by side.
//!
//! Side by side, decode is told that the KV cache is on its way and waits for it. When no prefill instance answers after
//! all, or one says that it could not save the cache, before decode has sent its first byte, decode's request is cancelled
//! and sent anew without that, and decode computes the prompt. From its first byte on the reply stands, and prefill's answer
//! no longer matters.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Response;
use tracing::debug;

use crate::config::Dispatch;
use crate::fleet::{Fleet, Lease, NoAnswer};
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::prefill::{Prefill, Prefilled};
use crate::reply::Reply;
use crate::split::Object;
use crate::{ProxyConfig, headers};

/// Answers completions.
pub(crate) struct Completions {
    prefill: Arc<Prefill>,
    decodes: Arc<Fleet>,
    dispatch: Dispatch,
    /// Whether prefill can be told where its KV cache goes next.
    knows_workers: bool,
    metrics: Arc<Metrics>,
}

/// Why a completion has no reply.
pub(crate) enum Incomplete {
    /// The body is no JSON object.
    Unreadable(serde_json::Error),
    /// Prefill refused the request, and decode would say the same.
    Rejected(Response<Bytes>),
    /// No decode instance answered.
    Unanswered(NoAnswer),
}

impl Completions {
    pub(crate) fn new(prefills: Arc<Fleet>, decodes: Arc<Fleet>, config: &ProxyConfig, metrics: Arc<Metrics>) -> Self {
        Self {
            prefill: Arc::new(Prefill::new(prefills, config, Arc::clone(&metrics))),
            decodes,
            dispatch: config.dispatch,
            knows_workers: !config.decode_workers.is_empty(),
            metrics,
        }
    }

    /// Answers `request`, which is the client's. Dropping the future, or the reply, cancels what was asked of both sides.
    pub(crate) async fn answer(&self, request: Outbound) -> Result<Response<Reply>, Incomplete> {
        let body = request.body.clone();
        let object = Object::parse(&body).map_err(Incomplete::Unreadable)?;
        match self.dispatch {
            Dispatch::Sequential => self.one_after_the_other(&object, request).await,
            Dispatch::Concurrent => self.side_by_side(&object, request).await,
        }
    }

    async fn one_after_the_other(&self, object: &Object<'_>, request: Outbound) -> Result<Response<Reply>, Incomplete> {
        let decoder = self.knows_workers.then(|| self.decodes.choose());
        let prefilling = Arc::clone(&self.prefill).ask(for_prefill(object, &request, decoder.as_ref()));
        let decoding = match prefilling.await {
            Prefilled::Carried(params) | Prefilled::Unsaved(params) => {
                Outbound { body: object.for_decode(&params), ..request }
            }
            Prefilled::Plain | Prefilled::Absent => request,
            Prefilled::Rejected(response) => return Err(Incomplete::Rejected(response)),
        };
        let decoder = decoder.unwrap_or_else(|| self.decodes.choose());
        self.decodes.send_by(decoder, &decoding).await.map_err(Incomplete::Unanswered)
    }

    async fn side_by_side(&self, object: &Object<'_>, request: Outbound) -> Result<Response<Reply>, Incomplete> {
        let decoder = self.decodes.choose();
        let mut prefilling = Box::pin(Arc::clone(&self.prefill).ask(for_prefill(object, &request, Some(&decoder))));
        let waiting = Outbound { body: object.for_waiting_decode(), ..request.clone() };
        let mut decoding = Box::pin(async {
            let mut reply = self.decodes.send_by(decoder, &waiting).await?;
            reply.body_mut().begin().await;
            Ok(reply)
        });
        let prefilled = tokio::select! {
            prefilled = &mut prefilling => prefilled,
            decoded = &mut decoding => {
                let mut reply = decoded.map_err(Incomplete::Unanswered)?;
                // Prefill is all but done then, and what it computed is of use to others.
                reply.body_mut().go_on_with(async { drop(prefilling.await) });
                return Ok(reply);
            }
        };
        let anew = match prefilled {
            Prefilled::Carried(_) | Prefilled::Plain => return decoding.await.map_err(Incomplete::Unanswered),
            Prefilled::Rejected(response) => return Err(Incomplete::Rejected(response)),
            Prefilled::Unsaved(params) => Outbound { body: object.for_decode(&params), ..request },
            Prefilled::Absent => request,
        };
        drop(decoding);
        debug!("decode waits for a KV cache that does not come: it is asked anew");
        self.metrics.decode_restarted();
        self.decodes.send(&anew).await.map_err(Incomplete::Unanswered)
    }
}

/// What prefill is asked, for a decode instance where one is chosen.
fn for_prefill(object: &Object<'_>, request: &Outbound, decoder: Option<&Lease>) -> Outbound {
    Outbound {
        headers: headers::for_prefill(&request.headers),
        body: object.for_prefill(decoder.and_then(Lease::worker)),
        ..request.clone()
    }
}
