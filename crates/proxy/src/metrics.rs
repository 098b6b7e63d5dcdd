//! What the proxy counts. All metric names are here; all are served by `GET /metrics` in the Prometheus text format.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use hyper::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::fleet::Fleet;
use crate::{InstanceAddress, Side};

const PREFIX: &str = "chariot_proxy";
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// The counters of one proxy.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    disconnects: Family<RouteLabels, Counter>,
    prefills: Family<PrefillLabels, Counter>,
    restarts: Counter,
    failures: Family<FailureLabels, Counter>,
    outstanding: Family<InstanceLabels, Gauge<i64, AtomicI64>>,
    prefill_seconds: Histogram,
    first_byte_seconds: Histogram,
}

/// What a request asked for: the paths that are known by name, so that clients cannot invent label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    Completions,
    ChatCompletions,
    Health,
    Metrics,
    Forwarded,
}

/// How the prefill step of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PrefillOutcome {
    /// Prefill answered with parameters, and decode got them.
    Carried,
    /// Prefill answered, and could not save the KV cache. Decode computed the prompt.
    Unsaved,
    /// Prefill answered without parameters: the connector, if any, finds the KV cache by content.
    Plain,
    /// Prefill refused the request, and so did the proxy.
    Rejected,
    /// No prefill instance answered. Decode computed the prompt.
    Absent,
}

/// What was wrong with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UpstreamFailure {
    /// No connection.
    Unreachable,
    /// The connection closed before an answer.
    Broken,
    /// The answer broke off.
    Cut,
    /// No answer in time.
    TimedOut,
    /// An error that is the instance's own: a status of 500 or above, or a reply that makes no sense.
    Error,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            requests: Family::default(),
            disconnects: Family::default(),
            prefills: Family::default(),
            restarts: Counter::default(),
            failures: Family::default(),
            outstanding: Family::default(),
            prefill_seconds: Histogram::new(SECONDS),
            first_byte_seconds: Histogram::new(SECONDS),
        };
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests answered, by route and status", self.requests.clone());
        registry.register("client_disconnects", "Requests whose client went away", self.disconnects.clone());
        registry.register("prefills", "Prefill steps, by how they ended", self.prefills.clone());
        registry.register(
            "decode_restarts",
            "Decode requests that waited for a prefill that failed, and were sent anew",
            self.restarts.clone(),
        );
        registry.register("upstream_failures", "Failures of instances", self.failures.clone());
        registry.register("outstanding_requests", "Requests an instance is working on", self.outstanding.clone());
        registry.register("prefill_seconds", "Time of the prefill step", self.prefill_seconds.clone());
        registry.register(
            "first_byte_seconds",
            "Time from the end of a completion request to the head of its reply",
            self.first_byte_seconds.clone(),
        );
    }

    /// The text for `GET /metrics`.
    pub(crate) fn render(&self, fleets: &[&Fleet]) -> String {
        for fleet in fleets {
            for (address, count) in fleet.addresses().zip(fleet.outstanding()) {
                let labels = InstanceLabels { side: fleet.side(), instance: address.to_string() };
                self.outstanding.get_or_create(&labels).set(count as i64);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a string cannot fail");
        text
    }

    /// A request has begun.
    pub(crate) fn begin(self: &Arc<Self>, route: Route) -> InFlight {
        InFlight { metrics: Arc::clone(self), route, begun: Instant::now(), ended: false }
    }

    pub(crate) fn prefill_ended(&self, outcome: PrefillOutcome, begun: Instant) {
        self.prefills.get_or_create(&PrefillLabels { outcome }).inc();
        self.prefill_seconds.observe(begun.elapsed().as_secs_f64());
    }

    pub(crate) fn decode_restarted(&self) {
        self.restarts.inc();
    }

    pub(crate) fn upstream_failed(&self, side: Side, instance: &InstanceAddress, failure: UpstreamFailure) {
        let labels = FailureLabels { side, instance: instance.to_string(), failure };
        self.failures.get_or_create(&labels).inc();
    }
}

/// A request on its way. Dropped before its end, it was left by its client.
pub(crate) struct InFlight {
    metrics: Arc<Metrics>,
    route: Route,
    begun: Instant,
    ended: bool,
}

impl InFlight {
    /// The head of the answer is known.
    pub(crate) fn answered(&self, status: StatusCode) {
        let labels = RequestLabels { route: self.route, code: status.as_u16() };
        self.metrics.requests.get_or_create(&labels).inc();
        if matches!(self.route, Route::Completions | Route::ChatCompletions) && status.is_success() {
            self.metrics.first_byte_seconds.observe(self.begun.elapsed().as_secs_f64());
        }
    }

    /// There is no more to come, whether all went well or an instance broke off.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.ended {
            self.metrics.disconnects.get_or_create(&RouteLabels { route: self.route }).inc();
        }
    }
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::ChatCompletions => "chat_completions",
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Forwarded => "forwarded",
        }
    }
}

impl PrefillOutcome {
    fn name(self) -> &'static str {
        match self {
            Self::Carried => "carried",
            Self::Unsaved => "unsaved",
            Self::Plain => "plain",
            Self::Rejected => "rejected",
            Self::Absent => "absent",
        }
    }
}

impl UpstreamFailure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Cut => "cut",
            Self::TimedOut => "timed_out",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Route,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Route,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PrefillLabels {
    outcome: PrefillOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    side: Side,
    instance: String,
    failure: UpstreamFailure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceLabels {
    side: Side,
    instance: String,
}

macro_rules! label_by_name {
    ($($label:ty),*) => {$(
        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                encoder.write_str(self.name())
            }
        }
    )*};
}

label_by_name!(Route, PrefillOutcome, UpstreamFailure, Side);
