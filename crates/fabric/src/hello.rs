//! The first words on a connection between two workers.

use std::io;

use chariot_types::{Member, RunId};
use chariot_wire::{Channel, Header, PEER_VERSION, PeerHello, PeerMessage};
use tokio::time::timeout;

use crate::transport::Link;
use crate::{FabricError, HELLO_PATIENCE, frames};

/// A hello is shorter than this; more is not received for one.
const LONGEST_HELLO: usize = 4096;

/// Who this worker is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This run, and where it listens.
    pub member: Member,
    /// Its cluster.
    pub cluster: String,
}

/// What the other side said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Theirs {
    pub(crate) run: RunId,
    pub(crate) channel: Channel,
}

/// Says hello on a connection that was dialled, and hears whether `peer` answers. Returns what came behind its hello.
pub(crate) async fn greet(
    me: &Identity,
    link: &mut Link,
    peer: RunId,
    channel: Channel,
) -> Result<Vec<u8>, FabricError> {
    say(me, link, channel).await?;
    let (theirs, early) = hear(me, link, Vec::new()).await?;
    if theirs.run != peer {
        return Err(FabricError::AnotherRun { found: theirs.run });
    }
    Ok(early)
}

/// Hears hello on a connection that was accepted, of which `early` bytes were received already. Returns what came behind
/// it as well.
pub(crate) async fn hear(me: &Identity, link: &mut Link, early: Vec<u8>) -> Result<(Theirs, Vec<u8>), FabricError> {
    let heard = timeout(HELLO_PATIENCE, hear_patiently(me, link, early)).await;
    heard.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Says hello.
pub(crate) async fn say(me: &Identity, link: &mut Link, channel: Channel) -> Result<(), FabricError> {
    let address = me.member.address.to_string();
    let hello =
        PeerHello { version: PEER_VERSION, run: me.member.run, channel, cluster: &me.cluster, address: &address };
    let mut frame = Vec::new();
    frames::append(&mut frame, 0, &PeerMessage::Hello(hello), 0);
    Ok(link.sender.send(&frame, &[]).await?)
}

/// Of which cluster the worker is that has dialled this link, as it says. Also returns all that was received, which is for
/// [`Fabric::accept`](crate::Fabric::accept).
pub async fn whose(link: &mut Link) -> Result<(String, Vec<u8>), FabricError> {
    let heard = timeout(HELLO_PATIENCE, first_frame(link, Vec::new())).await;
    let (header, len, bytes) = heard.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let hello = decode(&header, frames::body(&bytes[..len])?)?;
    Ok((hello.cluster.to_owned(), bytes))
}

async fn hear_patiently(me: &Identity, link: &mut Link, early: Vec<u8>) -> Result<(Theirs, Vec<u8>), FabricError> {
    let (header, len, mut bytes) = first_frame(link, early).await?;
    let theirs = check(me, decode(&header, frames::body(&bytes[..len])?)?)?;
    Ok((theirs, bytes.split_off(len)))
}

/// The header and length of the first frame, and all that was received until it was whole.
async fn first_frame(link: &mut Link, early: Vec<u8>) -> Result<(Header, usize, Vec<u8>), FabricError> {
    let mut bytes = early;
    loop {
        if let Some(header) = frames::header(&bytes)? {
            let len = frames::len(&header);
            if len > LONGEST_HELLO {
                return Err(FabricError::OutOfPlace { what: "more than a hello" });
            }
            if bytes.len() >= len {
                return Ok((header, len, bytes));
            }
        }
        let mut more = [0; LONGEST_HELLO];
        match link.receiver.receive(&mut more).await? {
            0 => return Err(FabricError::Closed),
            received => bytes.extend_from_slice(&more[..received]),
        }
    }
}

fn decode<'a>(header: &Header, body: &'a [u8]) -> Result<PeerHello<'a>, FabricError> {
    match PeerMessage::decode(header, body)? {
        PeerMessage::Hello(hello) => Ok(hello),
        _ => Err(FabricError::OutOfPlace { what: "something else before its hello" }),
    }
}

fn check(me: &Identity, hello: PeerHello<'_>) -> Result<Theirs, FabricError> {
    if hello.version != PEER_VERSION {
        return Err(FabricError::Version { theirs: hello.version, ours: PEER_VERSION });
    }
    if hello.cluster != me.cluster {
        return Err(FabricError::Cluster { theirs: hello.cluster.to_owned() });
    }
    Ok(Theirs { run: hello.run, channel: hello.channel })
}
