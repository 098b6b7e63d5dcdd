//! The first step of a completion: one prefill instance computes the prompt's KV cache.
//!
//! Prefill is asked, never needed. Only what decode would refuse as well stops a request here, and the whole step has one
//! deadline. The caller may drop it at any time; the instance then sees its connection close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::Response;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::ProxyConfig;
use crate::balance::Tried;
use crate::fleet::{Fleet, Lease};
use crate::metrics::{Metrics, PrefillOutcome, UpstreamFailure};
use crate::outbound::Outbound;
use crate::split::Object;

/// The prefill side.
pub(crate) struct Prefill {
    fleet: Arc<Fleet>,
    metrics: Arc<Metrics>,
    time: std::time::Duration,
    most_reply_bytes: usize,
    /// Whether the last step found no instance: said when it begins and when it ends, not for each request between.
    absent: AtomicBool,
}

/// What prefill says to a request.
pub(crate) enum Prefilled {
    /// The KV cache is there, and decode needs these parameters to find it.
    Carried(Box<RawValue>),
    /// Decode needs no parameters: the cache is found by content, or there is none because no instance answered.
    Plain,
    /// The request is wrong, and decode would say the same.
    Rejected(Response<Bytes>),
}

impl Prefill {
    pub(crate) fn new(fleet: Arc<Fleet>, config: &ProxyConfig, metrics: Arc<Metrics>) -> Self {
        Self {
            fleet,
            metrics,
            time: config.timeouts.prefill,
            most_reply_bytes: config.limits.max_body_bytes,
            absent: AtomicBool::new(false),
        }
    }

    /// Asks one instance after the other until one answers, none is left, or the time is up.
    pub(crate) async fn ask(&self, outbound: &Outbound) -> Prefilled {
        let begun = Instant::now();
        let deadline = begun + self.time;
        let mut tried = Tried::default();
        while let Some(lease) = self.fleet.take_available(&tried) {
            let index = lease.index();
            tried.add(index);
            match timeout_at(deadline, self.attempt(lease, outbound)).await {
                Ok(Some(prefilled)) => return self.answered(prefilled, begun),
                Ok(None) => {}
                Err(elapsed) => {
                    self.fleet.failed(index, UpstreamFailure::TimedOut, &elapsed);
                    break;
                }
            }
        }
        self.nobody_answered(begun)
    }

    /// One instance's answer; none where another instance may do better.
    async fn attempt(&self, lease: Lease, outbound: &Outbound) -> Option<Prefilled> {
        let address = lease.address().clone();
        // Why not is counted and logged where it is found.
        let (head, body) = lease.send(outbound).await.ok()?.into_parts();
        let error = |what: &dyn std::fmt::Display| {
            self.metrics.upstream_failed(self.fleet.side(), &address, UpstreamFailure::Error);
            warn!(instance = %address, error = %what, "prefill instance answered with an error");
            None
        };
        if !head.status.is_success() && !head.status.is_client_error() {
            return error(&head.status);
        }
        let body = match Limited::new(body, self.most_reply_bytes).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(cause) => return error(&cause),
        };
        if head.status.is_client_error() {
            return Some(Prefilled::Rejected(Response::from_parts(head, body)));
        }
        match Object::parse(&body) {
            Ok(reply) => Some(match reply.transfer_params() {
                Some(params) => Prefilled::Carried(params.to_owned()),
                None => Prefilled::Plain,
            }),
            Err(cause) => error(&cause),
        }
    }

    fn answered(&self, prefilled: Prefilled, begun: Instant) -> Prefilled {
        if self.absent.swap(false, Ordering::Relaxed) {
            info!("prefill answers again");
        }
        let outcome = match &prefilled {
            Prefilled::Carried(_) => PrefillOutcome::Carried,
            Prefilled::Plain => PrefillOutcome::Plain,
            Prefilled::Rejected(_) => PrefillOutcome::Rejected,
        };
        self.metrics.prefill_ended(outcome, begun);
        prefilled
    }

    fn nobody_answered(&self, begun: Instant) -> Prefilled {
        if !self.absent.swap(true, Ordering::Relaxed) {
            warn!("no prefill instance answers: decode computes the prompts until one does");
        }
        self.metrics.prefill_ended(PrefillOutcome::Absent, begun);
        Prefilled::Plain
    }
}
