//! What a worker asks of etcd, in its own words: each a request over a [`Connection`].

use std::time::Duration;

use crate::connection::Connection;
use crate::proto::{
    AuthenticateRequest, AuthenticateResponse, Compare, KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseRequest,
    LeaseResponse, LeaseRevokeResponse, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, Response,
    StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};
use crate::{EtcdError, Login, RequestKind};

/// Records asked for at once. Values are as long as etcd allows, whoever wrote them: 1.5 MiB, unless it is told otherwise.
const PAGE: i64 = 32;

/// Records beyond this many are not looked at.
pub(crate) const MOST_RECORDS: usize = 4096;

/// A lease that etcd has granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    pub(crate) ttl: Duration,
}

/// All records of a cluster, as they were at a revision.
pub(crate) struct Listing {
    pub(crate) records: Vec<KeyValue>,
    pub(crate) revision: i64,
}

/// How long a lease still runs, according to the leader of a term.
#[derive(Clone, Copy)]
pub(crate) struct Remaining {
    /// Not above 0 when it is gone.
    pub(crate) seconds: i64,
    pub(crate) term: u64,
}

/// What is to be found where a record is put.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    Nothing,
    /// What was last changed in this revision.
    Revision(i64),
}

/// What came of putting a record.
pub(crate) enum Put {
    Done,
    /// There was something else.
    Found(KeyValue),
    /// There was nothing, where something was expected.
    FoundNothing,
}

impl Connection {
    /// Says who asks. An etcd that lets anyone in is told nothing.
    pub(crate) async fn log_in(&mut self, login: &Login) -> Result<(), EtcdError> {
        let question = AuthenticateRequest { name: login.user.clone(), password: login.password.clone() };
        match self.ask(RequestKind::Authenticate, question).await {
            Ok(AuthenticateResponse { token }) => self.set_token(&token),
            Err(EtcdError::Refused { code: tonic::Code::FailedPrecondition, message, .. }) => {
                tracing::warn!(endpoint = %self.endpoint(), message, "etcd wants no user");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// All records whose keys begin with `prefix`. Those whose values are longer than any answer may be come without them.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Listing, EtcdError> {
        let range_end = end_of(prefix);
        let mut listing = Listing { records: Vec::new(), revision: 0 };
        let mut from = prefix.as_bytes().to_vec();
        loop {
            let page = self.page(&from, &range_end, listing.revision).await?;
            let header = page.header.ok_or_else(|| self.nonsense(RequestKind::Range))?;
            if listing.revision == 0 {
                listing.revision = header.revision;
            }
            let last = page.kvs.last().map(|record| record.key.clone());
            listing.records.extend(page.kvs);
            match last {
                Some(last) if page.more && listing.records.len() < MOST_RECORDS => {
                    from = [&last[..], &[0]].concat();
                }
                Some(_) | None => return Ok(listing),
            }
        }
    }

    /// The first records of a range: many, or one alone if so many are too much, or no more than its key.
    async fn page(&self, from: &[u8], range_end: &[u8], revision: i64) -> Result<RangeResponse, EtcdError> {
        let many =
            RangeRequest { key: from.into(), range_end: range_end.into(), limit: PAGE, revision, keys_only: false };
        let one = RangeRequest { limit: 1, ..many.clone() };
        let key = RangeRequest { keys_only: true, ..one.clone() };
        for question in [many, one] {
            match self.ask(RequestKind::Range, question).await {
                Err(EtcdError::Refused { code: tonic::Code::OutOfRange, .. }) => {}
                page => return page,
            }
        }
        self.ask(RequestKind::Range, key).await
    }

    /// The record at `key`.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<KeyValue>, EtcdError> {
        let question = RangeRequest { key: key.into(), ..Default::default() };
        let page: RangeResponse = self.ask(RequestKind::Range, question).await?;
        Ok(page.kvs.into_iter().next())
    }

    /// Puts `value` at `key` for as long as `lease` runs, if what is there is `expected`.
    pub(crate) async fn put(
        &self,
        key: &str,
        value: &[u8],
        lease: Lease,
        expected: Expected,
    ) -> Result<Put, EtcdError> {
        let revision = match expected {
            Expected::Nothing => 0,
            Expected::Revision(revision) => revision,
        };
        let compare =
            Compare { target: Compare::MOD, key: key.into(), mod_revision: Some(revision), ..Default::default() };
        let put = Request::Put(PutRequest { key: key.into(), value: value.into(), lease: lease.id });
        let get = Request::Range(RangeRequest { key: key.into(), ..Default::default() });
        let question = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp { request: Some(put) }],
            failure: vec![RequestOp { request: Some(get) }],
        };
        let answer: TxnResponse = self.ask(RequestKind::Txn, question).await?;
        if answer.succeeded {
            return Ok(Put::Done);
        }
        match answer.responses.into_iter().next().and_then(|answer| answer.response) {
            Some(Response::Range(found)) => Ok(found.kvs.into_iter().next().map_or(Put::FoundNothing, Put::Found)),
            None => Err(self.nonsense(RequestKind::Txn)),
        }
    }

    /// A new lease, of at least `ttl`.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<Lease, EtcdError> {
        let question = LeaseGrantRequest { ttl: ttl.as_secs().try_into().unwrap_or(i64::MAX) };
        let LeaseGrantResponse { id, ttl } = self.ask(RequestKind::LeaseGrant, question).await?;
        match u64::try_from(ttl) {
            Ok(seconds @ 1..) => Ok(Lease { id, ttl: Duration::from_secs(seconds) }),
            Ok(0) | Err(_) => Err(self.nonsense(RequestKind::LeaseGrant)),
        }
    }

    /// Lets `lease` run anew, and says how long.
    pub(crate) async fn keep_alive(&self, lease: i64) -> Result<Remaining, EtcdError> {
        let question = tokio_stream::once(LeaseRequest { id: lease });
        let (answer, _) = self.converse(RequestKind::LeaseKeepAlive, question).await?;
        Ok(remaining(answer))
    }

    /// How long `lease` still runs.
    pub(crate) async fn time_to_live(&self, lease: i64) -> Result<Remaining, EtcdError> {
        Ok(remaining(self.ask(RequestKind::LeaseTimeToLive, LeaseRequest { id: lease }).await?))
    }

    /// Ends `lease`, and what was put with it.
    pub(crate) async fn revoke(&self, lease: i64) -> Result<(), EtcdError> {
        let LeaseRevokeResponse {} = self.ask(RequestKind::LeaseRevoke, LeaseRequest { id: lease }).await?;
        Ok(())
    }

    /// How this member of etcd is.
    pub(crate) async fn status(&self) -> Result<StatusResponse, EtcdError> {
        self.ask(RequestKind::Status, StatusRequest {}).await
    }
}

fn remaining(answer: LeaseResponse) -> Remaining {
    Remaining { seconds: answer.ttl, term: answer.header.map_or(0, |header| header.raft_term) }
}

/// The first key after all those that begin with `prefix`.
pub(crate) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
