//! Joining: etcd is reached, or an error says within seconds why not; and nobody else has the address.

use tokio::time::{Instant, sleep, timeout_at};

use super::{Keeper, Session};
use crate::connection::Connection;
use crate::registration::{Departure, Other, Outcome};
use crate::{EtcdEndpoint, EtcdError, JOIN_PATIENCE, JoinError, RequestKind};

/// How many others may leave the address to each other, and then to this worker.
const ATTEMPTS: u32 = 3;

impl Keeper {
    /// Joins: a session with this worker registered, or a reason why there is none.
    pub(crate) async fn join(&mut self) -> Result<Session, JoinError> {
        // Each time round, another worker has left the address.
        for _ in 0..ATTEMPTS {
            let (session, outcome) = self.reach().await?;
            let Outcome::Taken(other) = outcome else { return Ok(session) };
            tracing::warn!(address = %self.me.address, host = other.host, "the address is taken: waiting for its lease to run out");
            let departure = self.wait_for(&session.connection, &other).await;
            match departure.map_err(|source| self.unreachable(source))? {
                Departure::Gone => {}
                Departure::Stays => return Err(self.clash(other)),
            }
        }
        let (session, outcome) = self.reach().await?;
        match outcome {
            Outcome::Registered => Ok(session),
            Outcome::Taken(other) => Err(self.clash(other)),
        }
    }

    /// A session, as soon as etcd answers.
    async fn reach(&mut self) -> Result<(Session, Outcome), JoinError> {
        let deadline = Instant::now() + JOIN_PATIENCE;
        let mut failure = None;
        loop {
            match timeout_at(deadline, self.open()).await {
                Ok(Ok(opened)) => {
                    self.pause.reset();
                    return Ok(opened);
                }
                Ok(Err(error)) if error.is_final() => return Err(self.refused(error)),
                Ok(Err(error)) => failure = Some(error),
                Err(_) => {
                    let silent = || EtcdError::Silent {
                        endpoint: self.config.endpoints[self.next].clone(),
                        asked: RequestKind::Range,
                    };
                    return Err(self.unreachable(failure.unwrap_or_else(silent)));
                }
            }
            // Ends the wait no later than the deadline, where the next attempt is not begun.
            let _ = timeout_at(deadline, sleep(self.pause.next())).await;
        }
    }

    async fn wait_for(&mut self, connection: &Connection, other: &Other) -> Result<Departure, EtcdError> {
        if let Some(lease) = self.lease.take() {
            connection.revoke(lease.id).await?;
        }
        self.own.outwait(connection, other, self.config.lease).await
    }

    fn clash(&self, other: Other) -> JoinError {
        let (address, cluster) = (self.me.address.clone(), self.config.cluster_name.clone());
        JoinError::Clash { address, cluster, host: other.host }
    }

    fn unreachable(&self, source: EtcdError) -> JoinError {
        JoinError::Unreachable { endpoints: EtcdEndpoint::list(&self.config.endpoints), source }
    }

    fn refused(&self, source: EtcdError) -> JoinError {
        let endpoints = EtcdEndpoint::list(&self.config.endpoints);
        JoinError::Refused { endpoints, source }
    }
}
