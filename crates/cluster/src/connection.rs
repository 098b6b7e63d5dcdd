//! [`Connection`]: one HTTP/2 connection to one member of etcd, over which requests are made.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::dial::Wire;
use crate::health::Reported;
use crate::{ANSWER_PATIENCE, EtcdEndpoint, EtcdError, LARGEST_MESSAGE, RequestKind};

/// One connection to one member of etcd. It ends when it is dropped.
pub(crate) struct Connection {
    endpoint: EtcdEndpoint,
    scheme: http::uri::Scheme,
    sender: Sender,
    token: Option<MetadataValue<Ascii>>,
    reported: Arc<Reported>,
    tasks: Tasks,
}

impl Connection {
    /// Speaks HTTP/2 over `wire`, which goes to `endpoint` by `scheme`.
    pub(crate) async fn over(
        wire: Box<dyn Wire>,
        scheme: http::uri::Scheme,
        endpoint: EtcdEndpoint,
        reported: Arc<Reported>,
    ) -> Result<Self, EtcdError> {
        let tasks = Tasks::default();
        let (sender, connection) = http2::handshake(tasks.clone(), TokioIo::new(wire))
            .await
            .map_err(|source| EtcdError::NotEtcd { endpoint: endpoint.clone(), source })?;
        tasks.spawn(async {
            // What ends it is told to those whose requests end with it.
            let _ = connection.await;
        });
        Ok(Self { endpoint, scheme, sender: Sender(sender), token: None, reported, tasks })
    }

    /// Which member it is.
    pub(crate) fn endpoint(&self) -> &EtcdEndpoint {
        &self.endpoint
    }

    /// Says from now on who asks.
    pub(crate) fn set_token(&mut self, token: &str) -> Result<(), EtcdError> {
        let token = token.parse().map_err(|_| self.nonsense(RequestKind::Authenticate))?;
        self.token = Some(token);
        Ok(())
    }

    /// Asks one question, which has one answer.
    pub(crate) async fn ask<Q, A>(&self, kind: RequestKind, question: Q) -> Result<A, EtcdError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let answer = async {
            let mut grpc = self.grpc().await?;
            let codec = ProstCodec::<Q, A>::default();
            Ok(grpc.unary(self.request(kind, question), path(kind), codec).await?.into_inner())
        };
        self.in_time(kind, answer).await
    }

    /// Asks questions as they come, and returns the answers as they come: the first within the usual time.
    pub(crate) async fn converse<Q, A>(
        &self,
        kind: RequestKind,
        questions: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<(A, Streaming<A>), EtcdError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let answers = async {
            let mut grpc = self.grpc().await?;
            let codec = ProstCodec::<Q, A>::default();
            let mut answers = grpc.streaming(self.request(kind, questions), path(kind), codec).await?.into_inner();
            let first = answers.message().await?.ok_or_else(|| Status::unavailable("the stream has ended"))?;
            Ok((first, answers))
        };
        self.in_time(kind, answers).await
    }

    /// What a status says, which ended a request of `kind`.
    pub(crate) fn refused(&self, asked: RequestKind, status: &Status) -> EtcdError {
        let mut message = status.message().to_owned();
        let mut cause = std::error::Error::source(status);
        while let Some(error) = cause {
            message = error.to_string();
            cause = error.source();
        }
        EtcdError::Refused { endpoint: self.endpoint.clone(), asked, code: status.code(), message: printable(&message) }
    }

    /// An answer to a request of `kind` that is none.
    pub(crate) fn nonsense(&self, asked: RequestKind) -> EtcdError {
        EtcdError::Nonsense { endpoint: self.endpoint.clone(), asked }
    }

    async fn in_time<T>(
        &self,
        asked: RequestKind,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, EtcdError> {
        self.reported.counters.count(asked);
        match timeout(ANSWER_PATIENCE, answer).await {
            Ok(answer) => answer.map_err(|status| self.refused(asked, &status)),
            Err(_) => Err(EtcdError::Silent { endpoint: self.endpoint.clone(), asked }),
        }
    }

    async fn grpc(&self) -> Result<Grpc<Sender>, Status> {
        let origin = http::Uri::builder().scheme(self.scheme.clone()).authority(self.endpoint.authority());
        let origin = origin.path_and_query("/").build().expect("an endpoint is an authority");
        let mut grpc = Grpc::with_origin(self.sender.clone(), origin).max_decoding_message_size(LARGEST_MESSAGE);
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        Ok(grpc)
    }

    fn request<Q>(&self, kind: RequestKind, question: Q) -> Request<Q> {
        let mut request = Request::new(question);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        if kind != RequestKind::Status {
            // A member that has lost the others refuses then, where it would let us wait.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        }
        request
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.0.lock().abort_all();
    }
}

/// Text from afar that goes to logs and terminals: none may move the reader's cursor, or go on for ever.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Where each kind of request goes.
fn path(kind: RequestKind) -> PathAndQuery {
    PathAndQuery::from_static(match kind {
        RequestKind::Authenticate => "/etcdserverpb.Auth/Authenticate",
        RequestKind::Range => "/etcdserverpb.KV/Range",
        RequestKind::Txn => "/etcdserverpb.KV/Txn",
        RequestKind::LeaseGrant => "/etcdserverpb.Lease/LeaseGrant",
        RequestKind::LeaseKeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
        RequestKind::LeaseTimeToLive => "/etcdserverpb.Lease/LeaseTimeToLive",
        RequestKind::LeaseRevoke => "/etcdserverpb.Lease/LeaseRevoke",
        RequestKind::Watch => "/etcdserverpb.Watch/Watch",
        RequestKind::Status => "/etcdserverpb.Maintenance/Status",
    })
}

/// What sends requests, as tonic wants it.
#[derive(Clone)]
struct Sender(http2::SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Sender {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// What runs for one connection.
// The lock is held to add one, or to end all.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}
