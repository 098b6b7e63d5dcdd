//! [`Watch`]: what happens to the records of a cluster from a revision on, told by etcd.

use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use crate::connection::Connection;
use crate::proto::{Event, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::questions::end_of;
use crate::{EtcdError, RequestKind};

/// What happens to the records of a cluster from a revision on.
pub(crate) struct Watch {
    answers: Streaming<WatchResponse>,
}

/// What a watch tells.
pub(crate) enum Told {
    Events(Vec<Event>),
    /// Etcd has forgotten what happened since the revision: everything is to be listed anew.
    Forgotten,
}

impl Watch {
    /// Watches all keys that begin with `prefix`, from `revision` on; `None` when etcd has forgotten that one.
    pub(crate) async fn open(connection: &Connection, prefix: &str, revision: i64) -> Result<Option<Self>, EtcdError> {
        let create = WatchCreateRequest {
            key: prefix.into(),
            range_end: end_of(prefix),
            start_revision: revision,
            fragment: true,
        };
        // Etcd ends the watch when nothing more can be asked.
        let questions = tokio_stream::once(WatchRequest { create: Some(create) }).chain(tokio_stream::pending());
        let (first, answers) = connection.converse(RequestKind::Watch, questions).await?;
        match told(connection, first)? {
            Told::Events(_) => Ok(Some(Self { answers })),
            Told::Forgotten => Ok(None),
        }
    }

    /// What happens next. Nothing is lost when this is dropped before it returns.
    pub(crate) async fn next(&mut self, connection: &Connection) -> Result<Told, EtcdError> {
        let answer = self.answers.message().await.and_then(|answer| answer.ok_or_else(|| Status::unavailable("ended")));
        told(connection, answer.map_err(|status| connection.refused(RequestKind::Watch, &status))?)
    }
}

fn told(connection: &Connection, answer: WatchResponse) -> Result<Told, EtcdError> {
    match answer {
        WatchResponse { canceled: true, compact_revision: 1.., .. } => Ok(Told::Forgotten),
        WatchResponse { canceled: true, cancel_reason, .. } => {
            Err(connection.refused(RequestKind::Watch, &Status::aborted(cancel_reason)))
        }
        WatchResponse { events, .. } => Ok(Told::Events(events)),
    }
}
