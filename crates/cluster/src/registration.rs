//! [`Registration`]: this worker's record, and what is done about another at its key.

use std::time::Duration;

use chariot_types::Member;
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::host::Host;
use crate::proto::KeyValue;
use crate::questions::{Expected, Lease, Put, Remaining};
use crate::record::Record;
use crate::{EtcdError, RequestKind};

/// Whoever changes the record again and again does so no more often than this.
const ATTEMPTS: u32 = 8;

/// How often another's record is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A lease that has run out is taken away by etcd within this time.
const TAKEN_AWAY_WITHIN: Duration = Duration::from_secs(2);

/// This worker's record.
pub(crate) struct Registration {
    key: String,
    record: Record,
}

/// What came of putting this worker's record.
pub(crate) enum Outcome {
    /// It stands.
    Registered,
    /// Another host's worker has the address.
    Taken(Other),
}

/// The record of another host's worker at this worker's key.
pub(crate) struct Other {
    pub(crate) host: String,
    lease: i64,
    revision: i64,
}

/// What becomes of another's record.
pub(crate) enum Departure {
    /// It is gone.
    Gone,
    /// It is kept alive, or will stand for longer than was waited.
    Stays,
}

impl Registration {
    pub(crate) fn new(prefix: &str, me: &Member, host: Host) -> Self {
        Self { key: format!("{prefix}{}", me.address), record: Record::new(me, host) }
    }

    /// Whether `key` is this record's.
    pub(crate) fn is_at(&self, key: &[u8]) -> bool {
        self.key.as_bytes() == key
    }

    /// Whether `value` is of this run.
    pub(crate) fn is_own(&self, value: &[u8]) -> bool {
        Record::decode(value).is_ok_and(|found| found.run == self.record.run)
    }

    /// Puts the record there for as long as `lease` runs. One of this host is replaced: this process has the port, so
    /// whoever had it is gone. So is what is no record.
    pub(crate) async fn put(&self, connection: &Connection, lease: Lease) -> Result<Outcome, EtcdError> {
        let value = self.record.encode();
        let mut expected = Expected::Nothing;
        for _ in 0..ATTEMPTS {
            let found = match connection.put(&self.key, &value, lease, expected).await? {
                Put::Done => return Ok(Outcome::Registered),
                Put::FoundNothing => {
                    expected = Expected::Nothing;
                    continue;
                }
                Put::Found(found) => found,
            };
            match Record::decode(&found.value) {
                Ok(other) if other.run == self.record.run && found.lease == lease.id => return Ok(Outcome::Registered),
                Ok(other) if other.run != self.record.run && !other.host.is(&self.record.host) => {
                    let host = other.host.shown();
                    return Ok(Outcome::Taken(Other { host, lease: found.lease, revision: found.mod_revision }));
                }
                Ok(_) => tracing::info!(key = self.key, "replacing a stale record in etcd"),
                Err(error) => tracing::warn!(key = self.key, %error, "replacing what is no record in etcd"),
            }
            expected = Expected::Revision(found.mod_revision);
        }
        Err(connection.nonsense(RequestKind::Txn))
    }

    /// Waits for `other` to go, for as long as its lease runs but no longer than `at_most`. One whose lease is seen to
    /// be kept alive is not waited for.
    pub(crate) async fn outwait(
        &self,
        connection: &Connection,
        other: &Other,
        at_most: Duration,
    ) -> Result<Departure, EtcdError> {
        let deadline = Instant::now() + at_most + TAKEN_AWAY_WITHIN;
        let mut before: Option<Remaining> = None;
        while self.stands(connection, other).await? {
            let now = connection.time_to_live(other.lease).await?;
            let is_kept = before.is_some_and(|before| before.term == now.term && before.seconds < now.seconds);
            let runs_out = Instant::now() + Duration::from_secs(now.seconds.max(0).unsigned_abs());
            // A record without a lease stays for ever.
            if other.lease == 0 || is_kept || runs_out > deadline {
                return Ok(Departure::Stays);
            }
            before = Some(now);
            sleep(LOOK_EVERY).await;
        }
        Ok(Departure::Gone)
    }

    async fn stands(&self, connection: &Connection, other: &Other) -> Result<bool, EtcdError> {
        let found: Option<KeyValue> = connection.get(&self.key).await?;
        Ok(found.is_some_and(|found| found.mod_revision == other.revision))
    }
}
