//! [`Giver`]: hands the worker over to a new process that asks for it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chariot_pool::{OwnerId, Pool};
use chariot_types::WithCauses;
use parking_lot::MutexGuard;

use super::channel::{MOST_FILES, Woken};
use super::message::{Ask, LeftClient, Legacy, Message};
use super::{Channel, Course, HandoverError, PausedSession, Wake};
use crate::running::Running;
use crate::shared::{Shared, State};

/// How long who comes to ask may take to do so.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// How long sessions may take to come to a pause, and how often those that go instead are looked for.
const PAUSE_PATIENCE: Duration = Duration::from_millis(300);
const PAUSE_PERIOD: Duration = Duration::from_millis(5);

/// How long the new worker may take, from the pause on, to say that it can go on; and so much longer for each block. Nobody is
/// served meanwhile, and clients do not give a worker up before that.
const READY_PATIENCE: Duration = Duration::from_millis(1500);
const PATIENCE_PER_BLOCK: Duration = Duration::from_micros(5);

/// Clients whose descriptors travel with one message.
const CLIENTS_AT_ONCE: usize = MOST_FILES / 2;

/// What there is to hand over.
pub(crate) struct Giving {
    pub(crate) shared: Arc<Shared>,
    pub(crate) running: Arc<Running>,
    /// Where new workers ask.
    pub(crate) heir: UnixListener,
    pub(crate) local: OwnedFd,
    pub(crate) tcp: OwnedFd,
    /// The file whose lock says who the worker is.
    pub(crate) lock: OwnedFd,
}

/// The thread that waits for new workers; dropped, it ends.
pub(crate) struct Giver {
    wake: Wake,
    thread: Option<JoinHandle<()>>,
}

impl Giver {
    pub(crate) fn start(giving: Giving) -> io::Result<Self> {
        giving.heir.set_nonblocking(true)?;
        let wake = Wake::new()?;
        let woken = wake.clone();
        let thread = std::thread::Builder::new().name("chariot-giver".into()).spawn(move || giving.run(&woken))?;
        Ok(Self { wake, thread: Some(thread) })
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.wake.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that hands over had panicked");
        }
    }
}

impl Giving {
    fn run(self, wake: &Wake) {
        while wake.wait(&self.heir, None) == Woken::Readable {
            let Ok((stream, _)) = self.heir.accept() else { continue };
            let Err(error) = self.serve(stream) else { return self.leave() };
            tracing::warn!(error = WithCauses(&error).to_string(), "not handed over: this worker goes on");
        }
    }

    /// Hands over to whoever is at the other end. After an error everything is as it was before.
    fn serve(&self, stream: UnixStream) -> Result<(), HandoverError> {
        let is_ours = rustix::net::sockopt::socket_peercred(&stream)?.uid == rustix::process::geteuid();
        if !is_ours {
            return Err(HandoverError::Nonsense { what: "another user asks" });
        }
        stream.set_nonblocking(false)?;
        let channel = Channel::new(stream);
        let handed_over = self.hand_over(&channel);
        match &handed_over {
            Ok(()) => self.shared.keep_until_gone(channel),
            Err(error) => {
                let refusal = Message::Refused(WithCauses(error).to_string());
                // It may have gone, which is why.
                let _ = channel.send(&refusal, &[], Instant::now() + ASK_PATIENCE);
            }
        }
        handed_over
    }

    fn hand_over(&self, channel: &Channel) -> Result<(), HandoverError> {
        let (Message::Ask(ask), _) = channel.receive(Instant::now() + ASK_PATIENCE)? else {
            return Err(HandoverError::Nonsense { what: "no question" });
        };
        self.check(&ask)?;
        tracing::info!(pid = ask.pid, "handing over");
        let pause = Pause::begin(&self.shared);
        let (state, clients) = pause.wait_for_all(Instant::now() + PAUSE_PATIENCE)?;
        let mut hidden = Hidden::begin(state);
        let blocks = u32::try_from(hidden.state.pool.stats().sealed.blocks).unwrap_or(u32::MAX);
        let deadline = Instant::now() + READY_PATIENCE + PATIENCE_PER_BLOCK * blocks;
        self.tell(channel, &hidden.state, clients, deadline)?;
        let (Message::Ready, _) = channel.receive(deadline)? else {
            return Err(HandoverError::Nonsense { what: "neither ready nor not" });
        };
        channel.send(&Message::Yours, &[], deadline)?;
        let pool = hidden.give_away();
        self.shared.be_gone();
        drop(hidden);
        drop(pool);
        Ok(())
    }

    fn check(&self, ask: &Ask) -> Result<(), HandoverError> {
        let (address, arena) = (self.shared.address.to_string(), self.shared.arena.len());
        let reason = if ask.address != address {
            format!("it serves `{address}`, not `{}`", ask.address)
        } else if ask.shared_memory != arena {
            format!(
                "it has `{}` MiB of shared memory, and that cannot become `{}`",
                arena >> 20,
                ask.shared_memory >> 20
            )
        } else {
            return Ok(());
        };
        Err(HandoverError::Refused { reason })
    }

    /// Tells all that is known.
    fn tell(
        &self,
        channel: &Channel,
        state: &State,
        clients: Vec<PausedSession>,
        deadline: Instant,
    ) -> Result<(), HandoverError> {
        let mut pins: HashMap<OwnerId, BorrowedFd<'_>> = state.pool.readers().collect();
        let mut files = Vec::with_capacity(2 * clients.len());
        for client in &clients {
            // `wait_for_all` has seen that it has some.
            files.extend([client.socket.as_fd()].into_iter().chain(pins.remove(&client.owner)));
        }
        let legacy = Legacy {
            arena: self.shared.arena.len(),
            touched: self.shared.touched.load(Ordering::Relaxed),
            next_session: self.shared.next_session().0,
            estate: state.pool.estate(Instant::now()),
            clients: clients.iter().map(LeftClient::of).collect(),
        };
        let shared = &self.shared;
        let own = [
            shared.arena.as_fd(),
            shared.board.as_fd(),
            self.local.as_fd(),
            self.tcp.as_fd(),
            self.heir.as_fd(),
            self.lock.as_fd(),
        ];
        channel.send(&Message::Legacy(Box::new(legacy)), &own, deadline)?;
        for some in files.chunks(2 * CLIENTS_AT_ONCE) {
            channel.send(&Message::Files, some, deadline)?;
        }
        Ok(())
    }

    /// Ends what still runs here, and tells the new worker so.
    fn leave(&self) {
        self.running.give_place_away();
        self.running.end();
        self.shared.tell_heir(&Message::Left, Instant::now() + ASK_PATIENCE);
    }
}

impl LeftClient {
    fn of(client: &PausedSession) -> Self {
        Self {
            owner: client.owner.0,
            name: client.facts.name.clone(),
            pid: client.facts.pid,
            namespace: client.facts.namespace.to_string(),
            connected: client.facts.since.elapsed(),
            received: client.received.clone(),
        }
    }
}

/// While this lives, no door lets anyone in, and local sessions stay between two requests.
struct Pause<'a> {
    shared: &'a Shared,
    arrivals: Receiver<PausedSession>,
}

impl<'a> Pause<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let attempt = shared.pauses.fetch_add(1, Ordering::Relaxed);
        let (arriving, arrivals) = mpsc::channel();
        *shared.pausing.lock() = Some(arriving);
        shared.course.send_replace(Course::Pausing(attempt));
        Self { shared, arrivals }
    }

    /// All local sessions once they have come to a pause, and the state as it is then: who shares memory with this worker
    /// and is not among them would be overlooked by the next.
    fn wait_for_all(&self, deadline: Instant) -> Result<(MutexGuard<'a, State>, Vec<PausedSession>), HandoverError> {
        let mut paused = Vec::new();
        let mut known = HashSet::new();
        loop {
            let state = self.shared.state();
            if state.pool.readers().all(|(reader, _)| known.contains(&reader)) {
                return Ok((state, paused));
            }
            drop(state);
            if Instant::now() >= deadline {
                return Err(HandoverError::Busy);
            }
            if let Ok(session) = self.arrivals.recv_timeout(PAUSE_PERIOD) {
                known.insert(session.owner);
                paused.push(session);
            }
        }
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        *self.shared.pausing.lock() = None;
        self.shared.course.send_if_modified(|course| {
            let is_over = matches!(course, Course::Pausing(_));
            if is_over {
                *course = Course::Serving;
            }
            is_over
        });
    }
}

/// While this lives, the state does not change, and readers are shown nothing; after that, everything again.
struct Hidden<'a> {
    state: MutexGuard<'a, State>,
}

impl<'a> Hidden<'a> {
    fn begin(mut state: MutexGuard<'a, State>) -> Self {
        state.pool.hide_all();
        Self { state }
    }

    /// Leaves a pool in which nothing is found and no room is granted, for those who have not heard yet.
    fn give_away(&mut self) -> Pool {
        std::mem::replace(&mut self.state.pool, Pool::new(0))
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A pool that was left has nothing to show.
        self.state.pool.show_all();
    }
}

#[cfg(test)]
mod tests;
