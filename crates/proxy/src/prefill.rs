//! The first step of a completion: one prefill instance computes the prompt's KV cache.
//!
//! Prefill is asked, never needed. Only what decode would refuse as well stops a request here, and the whole step has one
//! deadline. The caller may drop it at any time; the instance then sees its connection close.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::balance::Tried;
use crate::fleet::{Fleet, Lease, MOST_BROKEN, NoAnswer};
use crate::metrics::{Metrics, PrefillOutcome, UpstreamFailure};
use crate::outbound::Outbound;
use crate::split::Object;
use crate::{InstanceAddress, ProxyConfig};

/// The prefill side.
pub(crate) struct Prefill {
    fleet: Arc<Fleet>,
    metrics: Arc<Metrics>,
    time: Duration,
    most_reply_bytes: usize,
    /// Whether the last step found no instance: said when it begins and when it ends, not for each request between.
    absent: AtomicBool,
}

/// What prefill says to a request.
pub(crate) enum Prefilled {
    /// The KV cache is there, and decode needs these parameters to find it.
    Carried(Box<RawValue>),
    /// Prefill answered with parameters, and says that the KV cache is not there: decode must not wait for it.
    Unsaved(Box<RawValue>),
    /// Decode needs no parameters: the cache, if there is one, is found by content.
    Plain,
    /// No instance answered: there is no cache.
    Absent,
    /// The request is wrong, and decode would say the same.
    Rejected(Response<Bytes>),
}

/// What came of asking one instance.
enum Attempt {
    Answered(Prefilled),
    /// Counted and logged by the fleet.
    Unanswered(NoAnswer),
    /// It answered with something that is no answer. Another instance may do better.
    Erred,
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
    pub(crate) async fn ask(self: Arc<Self>, outbound: Outbound) -> Prefilled {
        let begun = Instant::now();
        let deadline = begun + self.time;
        let mut tried = Tried::default();
        let mut broken = 0;
        while broken < MOST_BROKEN
            && let Some(lease) = self.fleet.take_available(&tried)
        {
            let index = lease.index();
            tried.add(index);
            match timeout_at(deadline, self.attempt(lease, &outbound)).await {
                Ok(Attempt::Answered(prefilled)) => return self.ended(prefilled, begun),
                Ok(Attempt::Unanswered(NoAnswer::Broken { .. })) => broken += 1,
                Ok(Attempt::Unanswered(_) | Attempt::Erred) => {}
                Err(elapsed) => {
                    self.fleet.failed(index, UpstreamFailure::TimedOut, &elapsed);
                    break;
                }
            }
        }
        self.ended(Prefilled::Absent, begun)
    }

    async fn attempt(&self, lease: Lease, outbound: &Outbound) -> Attempt {
        let address = lease.address().clone();
        let (head, body) = match lease.send(outbound).await {
            Ok(response) => response.into_parts(),
            Err(unanswered) => return Attempt::Unanswered(unanswered),
        };
        if !head.status.is_success() && !head.status.is_client_error() {
            return self.erred(&address, &head.status);
        }
        let body = match Limited::new(body, self.most_reply_bytes).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(cause) => return self.erred(&address, &cause),
        };
        if head.status.is_client_error() {
            return Attempt::Answered(Prefilled::Rejected(Response::from_parts(head, body)));
        }
        match Object::parse(&body) {
            Ok(reply) => Attempt::Answered(match reply.transfer_params() {
                Some(params) if says_unsaved(params) => Prefilled::Unsaved(params.to_owned()),
                Some(params) => Prefilled::Carried(params.to_owned()),
                None => Prefilled::Plain,
            }),
            Err(cause) => self.erred(&address, &cause),
        }
    }

    fn erred(&self, instance: &InstanceAddress, error: &dyn fmt::Display) -> Attempt {
        self.metrics.upstream_failed(self.fleet.side(), instance, UpstreamFailure::Error);
        warn!(%instance, %error, "prefill instance answered with an error");
        Attempt::Erred
    }

    fn ended(&self, prefilled: Prefilled, begun: Instant) -> Prefilled {
        let is_absent = matches!(prefilled, Prefilled::Absent);
        match (self.absent.swap(is_absent, Ordering::Relaxed), is_absent) {
            (false, true) => warn!("no prefill instance answers: decode computes the prompts until one does"),
            (true, false) => info!("prefill answers again"),
            _ => {}
        }
        let outcome = match &prefilled {
            Prefilled::Carried(_) => PrefillOutcome::Carried,
            Prefilled::Unsaved(_) => PrefillOutcome::Unsaved,
            Prefilled::Plain => PrefillOutcome::Plain,
            Prefilled::Absent => PrefillOutcome::Absent,
            Prefilled::Rejected(_) => PrefillOutcome::Rejected,
        };
        self.metrics.prefill_ended(outcome, begun);
        prefilled
    }
}

/// Whether prefill says that its KV cache is not where others find it. No connector but Chariot's says either.
fn says_unsaved(params: &RawValue) -> bool {
    let params: Result<Params, _> = serde_json::from_str(params.get());
    params.is_ok_and(|params| params.prefill_is_saved == Some(false))
}

#[derive(Deserialize)]
struct Params {
    prefill_is_saved: Option<bool>,
}
