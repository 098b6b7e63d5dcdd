//! [`Inheritance`]: what a new worker was handed, and has said nothing about yet.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use chariot_index::Index;
use chariot_pool::{Arena, OwnerId};
use chariot_types::{Extent, NamespaceName};

use super::message::{Ask, Legacy, Message};
use super::{Channel, HandoverError, PausedSession};
use crate::shared::{SessionFacts, Shared};
use crate::{Place, WorkerConfig};

/// How long the old worker may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a new worker was handed. Dropped before it is [accepted](Self::accept), it is as if it had never been.
pub(crate) struct Inheritance {
    pub(crate) channel: Channel,
    pub(crate) local: UnixListener,
    pub(crate) tcp: TcpListener,
    pub(crate) heir: UnixListener,
    pub(crate) lock: OwnedFd,
    pub(crate) clients: Vec<PausedSession>,
    pub(crate) touched: u64,
    legacy: Box<Legacy>,
    arena: Option<Arena>,
    board: Option<OwnedFd>,
    pins: Vec<OwnedFd>,
}

impl Inheritance {
    /// Asks the worker at `place`, which serves nobody from here on until it is told or sees the end of this.
    pub(crate) fn ask(place: &Place, config: &WorkerConfig) -> Result<Self, HandoverError> {
        let nobody = |source| HandoverError::Nobody { socket: place.heir().display().to_string(), source };
        let channel = Channel::new(UnixStream::connect(place.heir()).map_err(nobody)?);
        let page = rustix::param::page_size() as u64;
        let ask = Ask {
            address: config.address.to_string(),
            shared_memory: config.shared_memory.checked_next_multiple_of(page).unwrap_or(u64::MAX),
            pid: std::process::id(),
        };
        let deadline = Instant::now() + PATIENCE;
        channel.send(&Message::Ask(ask), &[], deadline)?;
        let (legacy, files) = match channel.receive(deadline)? {
            (Message::Legacy(legacy), files) => (legacy, files),
            (Message::Refused(reason), _) => return Err(HandoverError::Refused { reason }),
            _ => return Err(HandoverError::Nonsense { what: "no legacy" }),
        };
        let Ok::<[OwnedFd; 6], _>([arena, board, local, tcp, heir, lock]) = files.try_into() else {
            return Err(HandoverError::Nonsense { what: "a legacy without its files" });
        };
        let mut files = Vec::new();
        while files.len() < 2 * legacy.clients.len() {
            let (Message::Files, more) = channel.receive(deadline)? else {
                return Err(HandoverError::Nonsense { what: "no files" });
            };
            if more.is_empty() {
                return Err(HandoverError::Nonsense { what: "fewer files than clients" });
            }
            files.extend(more);
        }
        let (mut clients, mut pins, mut files) = (Vec::new(), Vec::new(), files.into_iter());
        for client in &legacy.clients {
            let (Some(socket), Some(table)) = (files.next(), files.next()) else { break };
            let namespace = client.namespace.parse::<NamespaceName>();
            let facts = SessionFacts {
                name: client.name.clone(),
                pid: client.pid,
                namespace: namespace.map_err(|_| HandoverError::Nonsense { what: "a namespace that is none" })?,
                transport: "unix",
                since: Instant::now().checked_sub(client.connected).unwrap_or_else(Instant::now),
            };
            clients.push(PausedSession {
                owner: OwnerId(client.owner),
                facts,
                socket,
                received: client.received.clone(),
            });
            pins.push(table);
        }
        Ok(Self {
            arena: Some(Arena::take_over(arena, legacy.arena)?),
            board: Some(board),
            local: UnixListener::from(local),
            tcp: TcpListener::from(tcp),
            heir: UnixListener::from(heir),
            touched: legacy.touched,
            channel,
            lock,
            clients,
            legacy,
            pins,
        })
    }

    /// The arena, and an index of it that is still empty.
    pub(crate) fn memory(&mut self) -> Result<(Arena, Index), HandoverError> {
        let taken = self.arena.take().zip(self.board.take());
        let (arena, board) = taken.ok_or(HandoverError::Nonsense { what: "memory that was taken already" })?;
        if self.legacy.estate.capacity() != arena.len() - arena.len() % Extent::ALIGN {
            return Err(HandoverError::Nonsense { what: "an arena of another size" });
        }
        let index = Index::create_beside(arena.len(), board)?;
        Ok((arena, index))
    }

    /// Fills `shared` with what the old worker knew.
    pub(crate) fn fill(&mut self, shared: &Shared) -> Result<(), HandoverError> {
        let mut state = shared.state();
        state.pool.inherit(&self.legacy.estate, Instant::now())?;
        for (client, pins) in self.clients.iter().zip(self.pins.drain(..)) {
            state.pool.take_over_reader(client.owner, pins)?;
        }
        shared.begin_sessions_at(self.legacy.next_session);
        Ok(())
    }

    /// Says that all is well, and is told to go on. After an error the old worker goes on.
    pub(crate) fn accept(&self) -> Result<(), HandoverError> {
        let deadline = Instant::now() + PATIENCE;
        self.channel.send(&Message::Ready, &[], deadline)?;
        match self.channel.receive(deadline)? {
            (Message::Yours, _) => Ok(()),
            (Message::Refused(reason), _) => Err(HandoverError::Refused { reason }),
            _ => Err(HandoverError::Nonsense { what: "neither yes nor no" }),
        }
    }

    /// Those who hold something and are not clients that were handed over: they hold it for as long as anything of the old
    /// worker is there.
    pub(crate) fn left_behind(&self) -> Vec<OwnerId> {
        let is_here = |owner: &OwnerId| self.clients.iter().any(|client| client.owner == *owner);
        self.legacy.estate.owners().filter(|owner| !is_here(owner)).collect()
    }
}

impl Channel {
    /// Whether there is anything more to be said: the other has `Left`, or all of it has gone.
    pub(crate) fn hear_of_leaving(&self) -> bool {
        matches!(self.receive(Instant::now() + PATIENCE), Ok((Message::Left, _)))
    }
}
