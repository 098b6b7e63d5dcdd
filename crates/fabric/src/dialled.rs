//! The connections that this worker dials.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chariot_types::WithCauses;
use chariot_wire::Channel;
use tokio::time::timeout;

use crate::connection::{Carried, Connection};
use crate::fabric::{Away, Inner};
use crate::hello::greet;
use crate::peer::{Line, Missed, Peer};
use crate::{FabricError, PATIENCE};

/// How often it is looked whether a peer that was away may be tried again.
const RETRY: Duration = Duration::from_millis(50);

/// A data channel to a peer.
pub(crate) fn data(inner: &Arc<Inner>, peer: &Arc<Peer>) -> Result<Arc<Connection>, Away> {
    peer.data_channels().find_map(|channel| line(inner, peer, channel).ok()).ok_or(Away)
}

/// The connection to a peer, which is dialled if there is none.
pub(crate) fn line(inner: &Arc<Inner>, peer: &Arc<Peer>, channel: Channel) -> Result<Arc<Connection>, Away> {
    match find(inner, peer, channel)? {
        Line::There(connection) => Ok(connection),
        Line::New(connection) => {
            let (inner_too, peer, dialled) = (inner.clone(), peer.clone(), Carried::new(connection.clone()));
            inner.spawn(async move { dial(&inner_too, &peer, dialled).await });
            Ok(connection)
        }
        Line::Away => Err(Away),
    }
}

/// Keeps a control channel to a peer up for as long as it is a member.
pub(crate) async fn hold_control(inner: Arc<Inner>, peer: Arc<Peer>) {
    while !peer.has_left() {
        match find(&inner, &peer, Channel::Control) {
            Ok(Line::New(connection)) => dial(&inner, &peer, Carried::new(connection)).await,
            // Another call has dialled it.
            Ok(Line::There(connection)) => connection.outbox.closed().await,
            Ok(Line::Away) => tokio::time::sleep(RETRY).await,
            Err(Away) => return,
        }
    }
}

/// Nothing is found for a host that is gone.
fn find(inner: &Inner, peer: &Peer, channel: Channel) -> Result<Line, Away> {
    let host = inner.host.upgrade().ok_or(Away)?;
    Ok(peer.line(channel, || Connection::new(peer.member.run, channel, host, inner.counters.clone())))
}

/// Dials a peer, and carries the connection to its end.
async fn dial(inner: &Inner, peer: &Peer, connection: Carried) {
    let is_control = connection.channel == Channel::Control;
    let greeted = async {
        let mut link = inner.transport.dial(&peer.member.address).await?;
        let early = greet(&inner.me, &mut link, peer.member.run, connection.channel).await?;
        Ok::<_, FabricError>((link, early))
    };
    let greeted = tokio::select! {
        biased;
        () = connection.ending() => return,
        greeted = timeout(PATIENCE, greeted) => {
            greeted.unwrap_or(Err(FabricError::Silent { seconds: PATIENCE.as_secs() }))
        }
    };
    // What waits for the connection is told last: who asks again shall find the peer away.
    let (error, missed) = match greeted {
        Ok((link, early)) => {
            peer.reached();
            if is_control {
                connection.host.reached(peer.member.run);
            }
            let error = connection.carry(link, early).await;
            if matches!(error, FabricError::Ended) {
                return;
            }
            (error, if is_control { peer.missed() } else { Missed::First })
        }
        Err(error) => (error, peer.missed()),
    };
    if is_control {
        peer.lost();
    }
    inner.counters.broken.fetch_add(1, Ordering::Relaxed);
    let (address, error) = (&peer.member.address, WithCauses(&error));
    match missed {
        Missed::First => tracing::warn!(peer = %address, %error, "lost a worker, or a connection to it"),
        Missed::Again => tracing::debug!(peer = %address, %error, "a worker is still away"),
    }
}
