//! What each request gets: the two steps for completions, the proxy's own health and metrics, and for everything else
//! the answer of a decode instance.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{EXPECT, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::{Answer, Refusal, refuse, whole};
use crate::body::{self, Unread};
use crate::completion::{Completions, Incomplete};
use crate::fleet::{Fleet, NoAnswer};
use crate::metrics::{Metrics, Route};
use crate::outbound::{Outbound, Repeat};
use crate::reply::Reply;
use crate::{ProxyConfig, Side, headers};

/// Everything that answers requests.
pub(crate) struct Routes {
    prefills: Arc<Fleet>,
    completions: Completions,
    decodes: Arc<Fleet>,
    metrics: Arc<Metrics>,
    max_body_bytes: usize,
    body_time: Duration,
    health_time: Duration,
}

impl Routes {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        let metrics = Metrics::new();
        let prefills = Fleet::new(Side::Prefill, config, Arc::clone(&metrics));
        let decodes = Fleet::new(Side::Decode, config, Arc::clone(&metrics));
        Self {
            completions: Completions::new(Arc::clone(&prefills), Arc::clone(&decodes), config, Arc::clone(&metrics)),
            prefills,
            decodes,
            metrics,
            max_body_bytes: config.limits.max_body_bytes,
            body_time: config.timeouts.body_read,
            health_time: config.timeouts.health,
        }
    }

    /// Answers one request. Dropping the future, or the body it returns, cancels what was asked of an instance.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        let route = Route::of(&request);
        let mut in_flight = self.metrics.begin(route);
        let response = match route {
            Route::Health => self.health().await,
            Route::Metrics => self.render_metrics(),
            Route::Completions | Route::ChatCompletions | Route::Forwarded => match self.relay(route, request).await {
                Ok(reply) => {
                    in_flight.answered(reply.status());
                    return Ok(reply.map(|reply| Answer::relayed(reply, in_flight)));
                }
                Err(refusal) => refusal,
            },
        };
        in_flight.answered(response.status());
        in_flight.end();
        Ok(response)
    }

    /// A decode instance's reply, or the proxy's own answer in its place.
    async fn relay(&self, route: Route, request: Request<Incoming>) -> Result<Response<Reply>, Response<Answer>> {
        let (outbound, request_id) = self.receive(route, request).await?;
        let relayed = match route {
            Route::Forwarded => self.forward(outbound).await,
            _ => self.complete(outbound).await,
        };
        match relayed {
            Ok(mut reply) => {
                headers::keep_for_client(reply.headers_mut());
                name_request(reply.headers_mut(), request_id);
                Ok(reply)
            }
            Err(mut refusal) => {
                name_request(refusal.headers_mut(), request_id);
                Err(refusal)
            }
        }
    }

    /// What a client has asked, whole, as instances are asked it, and the id it is known by; or why it is refused.
    pub(crate) async fn receive(
        &self,
        route: Route,
        request: Request<Incoming>,
    ) -> Result<(Outbound, Option<HeaderValue>), Response<Answer>> {
        if request.method() == Method::CONNECT {
            return Err(refuse(Refusal::Method, "this is no tunnel", "send the request itself"));
        }
        let (mut head, body) = request.into_parts();
        // Who asks before sending is answered before anything is sent.
        if head.headers.contains_key(EXPECT) && body.size_hint().lower() > self.max_body_bytes as u64 {
            return Err(self.unread(Unread::TooLarge));
        }
        let body = body::read(body, self.max_body_bytes, self.body_time).await.map_err(|unread| self.unread(unread))?;
        headers::keep_for_instance(&mut head.headers);
        Ok(match route {
            Route::Forwarded => {
                let request_id = head.headers.get(&headers::REQUEST_ID).cloned();
                (outbound_as_it_came(head, body), request_id)
            }
            _ => {
                let request_id = headers::ensure_request_id(&mut head.headers);
                (Outbound { repeat: Repeat::Harmless, ..outbound_as_it_came(head, body) }, Some(request_id))
            }
        })
    }

    async fn complete(&self, request: Outbound) -> Result<Response<Reply>, Response<Answer>> {
        self.completions.answer(request).await.map_err(|incomplete| match incomplete {
            Incomplete::Unreadable(error) => {
                let message = format!("the request body is not a JSON object: {error}");
                refuse(Refusal::BadRequest, &message, "send one JSON object in UTF-8, uncompressed")
            }
            Incomplete::Rejected(mut response) => {
                headers::keep_for_client(response.headers_mut());
                response.map(|body| Answer::Whole(Full::new(body)))
            }
            Incomplete::Unanswered(unanswered) => no_decode(&unanswered),
        })
    }

    async fn forward(&self, request: Outbound) -> Result<Response<Reply>, Response<Answer>> {
        self.decodes.send(&request).await.map_err(|unanswered| no_decode(&unanswered))
    }

    /// Asks every instance whether it is well. The proxy is, as long as one decode instance is.
    async fn health(&self) -> Response<Answer> {
        let (prefill, decode) = tokio::join!(self.check(&self.prefills), self.check(&self.decodes));
        let well = decode.iter().any(|instance| instance["state"] == "up");
        let (status, word) =
            if well { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
        let report = json!({ "status": word, "prefill": prefill, "decode": decode });
        whole(status, HeaderValue::from_static("application/json"), report.to_string())
    }

    /// Each instance's state, in the order of the configuration: `up`, `unwell` (it answers, with an error) or `down`.
    async fn check(&self, fleet: &Arc<Fleet>) -> Vec<Value> {
        let busy = fleet.outstanding();
        let mut asking = JoinSet::new();
        for (index, address) in fleet.addresses().enumerate() {
            let (lease, time) = (fleet.take(index), self.health_time);
            let (url, outstanding) = (format!("http://{address}"), busy[index]);
            asking.spawn(async move {
                let state = match timeout(time, lease.send(&health_question())).await {
                    Ok(Ok(reply)) if !reply.status().is_server_error() => "up",
                    Ok(Ok(_)) => "unwell",
                    Ok(Err(_)) | Err(_) => "down",
                };
                (index, json!({ "url": url, "state": state, "outstanding": outstanding }))
            });
        }
        let mut answers = asking.join_all().await;
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, report)| report).collect()
    }

    fn render_metrics(&self) -> Response<Answer> {
        let text = self.metrics.render(&[&self.prefills, &self.decodes]);
        let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        whole(StatusCode::OK, content_type, text)
    }

    /// Closes connections to instances that nobody has used for a while.
    pub(crate) fn sweep(&self) {
        self.prefills.sweep();
        self.decodes.sweep();
    }

    fn unread(&self, unread: Unread) -> Response<Answer> {
        match unread {
            Unread::TooLarge => {
                let message = format!("the request body is larger than {} bytes", self.max_body_bytes);
                refuse(Refusal::TooLarge, &message, "send a shorter prompt, or raise the proxy's limit")
            }
            Unread::TooSlow => {
                let message = format!("the request body did not arrive within {:?}", self.body_time);
                refuse(Refusal::Timeout, &message, "send it again over a faster link")
            }
            Unread::Broken(error) => {
                refuse(Refusal::BadRequest, &format!("the request body is broken: {error}"), "send it again")
            }
        }
    }
}

impl Route {
    /// What a request asks for.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/completions") => Self::Completions,
            (&Method::POST, "/v1/chat/completions") => Self::ChatCompletions,
            (&Method::GET, "/health") => Self::Health,
            (&Method::GET, "/metrics") => Self::Metrics,
            _ => Self::Forwarded,
        }
    }
}

fn outbound_as_it_came(head: Parts, body: Bytes) -> Outbound {
    let repeat = if head.method.is_idempotent() { Repeat::Harmless } else { Repeat::Never };
    Outbound { path: path_of(&head), method: head.method, headers: head.headers, body, repeat }
}

fn path_of(head: &Parts) -> PathAndQuery {
    head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn health_question() -> Outbound {
    Outbound {
        method: Method::GET,
        path: PathAndQuery::from_static("/health"),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        repeat: Repeat::Harmless,
    }
}

/// Tells the client the id that the instances log, where the instance did not.
fn name_request(headers: &mut HeaderMap, request_id: Option<HeaderValue>) {
    if let Some(request_id) = request_id {
        headers.entry(&headers::REQUEST_ID).or_insert(request_id);
    }
}

fn no_decode(unanswered: &NoAnswer) -> Response<Answer> {
    refuse(Refusal::BadGateway, &unanswered.to_string(), "see `GET /health` for the state of each instance")
}
