//! [`Connection`]: one conversation with a worker, and what is held by it.
//!
//! Requests are written under a lock, whole frames at a time; answers are read by whichever thread waits
//! ([`Mailbox`]). What is not worth a message of its own rides with the next ([`Riders`]).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chariot_index::Board;
use chariot_types::WorkerAddress;
use chariot_wire::{FrameWriter, PutRecord, Refusal, Reply, Request};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::ClientError;
use crate::fork::OwnOnly;
use crate::local::Local;
use crate::mailbox::{Answer, Mailbox, Read, Waited};
use crate::reader::Reader;
use crate::regions::Regions;
use crate::riders::{Departure, Riders};
use crate::touched::Touched;

/// How long a blocking receive lasts before it looks at its deadline again; set on the socket once, at dialling.
pub(crate) const RECEIVE_SLICE: Duration = Duration::from_millis(50);

/// Where the bytes of blocks are.
#[derive(Debug)]
pub(crate) enum Payload {
    /// In shared memory, where the client also finds them by itself.
    Mapped(Box<Local>),
    /// Behind the messages.
    Inline,
}

/// One conversation with a worker.
pub(crate) struct Connection {
    address: WorkerAddress,
    // Before the socket, so that it is dropped before the socket is closed.
    _own_only: OwnOnly,
    socket: OwnedFd,
    pub(crate) payload: Payload,
    pub(crate) capacity: u64,
    pub(crate) touched: Touched,
    request_timeout: Duration,
    // Locked for the length of a send, so that frames are never mixed.
    writer: Mutex<Vec<u8>>,
    // Only the mailbox's leader locks it.
    reader: Mutex<Reader>,
    mailbox: Mailbox,
    // Locked after `writer`, or alone.
    riders: Mutex<Riders>,
    keeper_is_due: AtomicBool,
    wake_keeper: Arc<OwnedFd>,
    pub(crate) regions: Mutex<Regions>,
    next_request: AtomicU64,
    next_slot: AtomicU64,
    /// The answer to this request, or to a later one, comes after the last one-way request was carried out.
    settles_with: AtomicU64,
    /// The latest request that was answered.
    answered: AtomicU64,
    /// The worker has said that it goes on in another process.
    has_moved: AtomicBool,
}

impl Connection {
    pub(crate) fn new(
        address: WorkerAddress,
        socket: OwnedFd,
        payload: Payload,
        capacity: u64,
        request_timeout: Duration,
        wake_keeper: Arc<OwnedFd>,
    ) -> Self {
        Self {
            address,
            _own_only: OwnOnly::cover(socket.as_raw_fd()),
            socket,
            payload,
            capacity,
            touched: Touched::nothing_of(capacity),
            request_timeout,
            writer: Mutex::default(),
            reader: Mutex::default(),
            mailbox: Mailbox::default(),
            riders: Mutex::default(),
            keeper_is_due: AtomicBool::new(false),
            wake_keeper,
            regions: Mutex::default(),
            next_request: AtomicU64::new(1),
            next_slot: AtomicU64::new(1),
            settles_with: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            has_moved: AtomicBool::new(false),
        }
    }

    /// Asks and waits for the answer, which is refused or of the right kind by the time `decode` sees it.
    pub(crate) fn call<T>(
        &self,
        what: &'static str,
        request: &Request<'_>,
        payload: &[&[u8]],
        wait: Duration,
        decode: impl FnOnce(Reply<'_>, Vec<u8>) -> Option<T>,
    ) -> Result<T, ClientError> {
        let id = self.start(request, payload)?;
        self.finish(what, id, Instant::now() + wait + self.request_timeout, decode)
    }

    /// Sends a request whose answer will be wanted later, under the id returned.
    pub(crate) fn start(&self, request: &Request<'_>, payload: &[&[u8]]) -> Result<u64, ClientError> {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        self.mailbox.expect(id);
        self.send(Some((id, request)), payload)?;
        Ok(id)
    }

    /// Waits for the answer to the request `id`. A worker that does not answer before the deadline is given up: the
    /// connection ends, so that later calls fail at once instead of waiting as well.
    pub(crate) fn finish<T>(
        &self,
        what: &'static str,
        id: u64,
        deadline: Instant,
        decode: impl FnOnce(Reply<'_>, Vec<u8>) -> Option<T>,
    ) -> Result<T, ClientError> {
        match self.wait_for(id, deadline) {
            Waited::Answer(answer) => self.decode(what, answer, decode),
            Waited::End => Err(self.unavailable()),
            Waited::TimedOut => {
                tracing::warn!(address = %self.address, what, "data worker did not answer in time, reconnecting");
                self.end();
                Err(ClientError::TimedOut { what })
            }
        }
    }

    /// Waits for the answer to the request `id` until the deadline and no longer.
    pub(crate) fn wait_for(&self, id: u64, deadline: Instant) -> Waited {
        let waited = self.mailbox.wait(id, deadline, |deadline| self.read(deadline), |answer| self.discard(&answer));
        if matches!(waited, Waited::End) {
            self.end();
        }
        waited
    }

    /// The answer to the request `id` if it has come; does not wait.
    pub(crate) fn poll_for(&self, id: u64) -> Waited {
        let waited = self.mailbox.poll(id, || self.read_now(), |answer| self.discard(&answer));
        if matches!(waited, Waited::End) {
            self.end();
        }
        waited
    }

    /// Reads an answer.
    pub(crate) fn decode<T>(
        &self,
        what: &'static str,
        answer: Answer,
        decode: impl FnOnce(Reply<'_>, Vec<u8>) -> Option<T>,
    ) -> Result<T, ClientError> {
        match Reply::decode(answer.kind, &answer.body) {
            Ok(Reply::Refused { refusal, text }) => Err(refused(refusal, text)),
            Ok(reply) => decode(reply, answer.payload).ok_or(ClientError::WrongAnswer { what }),
            Err(source) => {
                self.end();
                Err(source.into())
            }
        }
    }

    /// Says that the answer to the request `id`, which waits, is not wanted any more.
    pub(crate) fn cancel(&self, id: u64) {
        match self.mailbox.forsake(id) {
            Some(answer) => self.discard(&answer),
            None => {
                let _ = self.tell(&Request::Cancel { request: id });
                self.wake_keeper();
            }
        }
    }

    /// Sends a one-way request.
    pub(crate) fn tell(&self, request: &Request<'_>) -> Result<(), ClientError> {
        self.send(Some((0, request)), &[])
    }

    /// Sends a one-way request with bytes behind it.
    pub(crate) fn tell_with(&self, request: &Request<'_>, payload: &[u8]) -> Result<(), ClientError> {
        self.send(Some((0, request)), &[payload])
    }

    /// Gives a pin back, soon.
    pub(crate) fn release(&self, block: u64) {
        let departure = self.riders.lock().add_release(block);
        // A connection that has ended has given all its pins back.
        let _ = self.depart(departure);
    }

    /// Announces blocks whose bytes are in place: at once if someone waits for one of them, or with others that follow
    /// closely.
    pub(crate) fn announce(&self, blocks: &[PutRecord]) -> Result<(), ClientError> {
        let is_awaited = |block: &&PutRecord| self.board().is_some_and(|board| board.is_awaited(&block.block.key));
        let first_awaited = blocks.iter().find(is_awaited);
        let departure = self.riders.lock().add_puts(blocks, Instant::now());
        // After the riders were added: requests that get their number from here on take them along.
        self.note_change();
        if first_awaited.is_none() {
            return self.depart(departure);
        }
        self.depart(Departure::Now)?;
        // The worker rings when they can be found. Whoever is rung now wakes up while it does that.
        if let Some(board) = self.board() {
            blocks.iter().filter(is_awaited).for_each(|block| board.ring(&block.block.key));
        }
        Ok(())
    }

    /// Tells the worker, soon, that something it may wait for is not read any more.
    pub(crate) fn tell_of_room(&self) {
        let departure = self.riders.lock().add_look();
        // A connection that has ended has given all its pins back.
        let _ = self.depart(departure);
    }

    /// Whether everything that this client has told the worker one way is done, and to be seen in the index.
    pub(crate) fn is_settled(&self) -> bool {
        let settles_with = self.settles_with.load(Ordering::Acquire);
        self.answered.load(Ordering::Acquire) >= settles_with
    }

    /// What is found may be different once the worker has done what it was told: that is certain with the answer to
    /// a request that gets its number after this.
    fn note_change(&self) {
        self.settles_with.fetch_max(self.next_request.load(Ordering::Relaxed), Ordering::AcqRel);
    }

    fn depart(&self, departure: Departure) -> Result<(), ClientError> {
        match departure {
            Departure::Now => self.send(None, &[]),
            Departure::Soon if self.has_ended() => Err(self.unavailable()),
            Departure::Soon => {
                if !self.keeper_is_due.swap(true, Ordering::AcqRel) {
                    self.wake_keeper();
                }
                Ok(())
            }
        }
    }

    /// For the keeper: sends riders that found no request to ride with, and reads answers that nobody waits for. Whether
    /// there were riders: then more may follow, and the keeper comes back without being woken.
    pub(crate) fn tidy(&self) -> bool {
        let mut has_riders = !self.riders.lock().is_empty();
        if !has_riders {
            // Who adds riders from here on wakes the keeper. Who did so just before may not have.
            self.keeper_is_due.store(false, Ordering::Release);
            has_riders = !self.riders.lock().is_empty();
        }
        let has_sent = has_riders && self.send(None, &[]).is_ok();
        if self.mailbox.has_forsaken() {
            // No request has the id 0, so this reads all that is there for others.
            self.poll_for(0);
            if self.mailbox.has_forsaken() {
                self.wake_keeper();
            }
        }
        has_sent
    }

    fn wake_keeper(&self) {
        let _ = rustix::io::write(&*self.wake_keeper, &1u64.to_ne_bytes());
    }

    /// A slot number that no growing block of this connection has had.
    pub(crate) fn next_slot(&self) -> u64 {
        self.next_slot.fetch_add(1, Ordering::Relaxed)
    }

    /// How long a call that does not wait may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Whether the conversation is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.mailbox.has_ended()
    }

    /// Whether the conversation is over because the worker goes on in another process, with all its blocks.
    pub(crate) fn has_moved(&self) -> bool {
        if !self.has_ended() {
            return false;
        }
        if self.has_moved.load(Ordering::Acquire) {
            return true;
        }
        // It may have said so, and nobody has read it: nobody wants anything else of what is there.
        let mut reader = self.reader.lock();
        while let Ok(Some((id, answer))) = reader.read(self.socket.as_fd(), RecvFlags::DONTWAIT, Instant::now()) {
            self.note_farewell(id, &answer);
        }
        drop(reader);
        self.has_moved.load(Ordering::Acquire)
    }

    fn note_farewell(&self, id: u64, answer: &Answer) {
        // A farewell answers no request.
        if id == 0
            && let Ok(Reply::Refused { refusal: Refusal::Moved, .. }) = Reply::decode(answer.kind, &answer.body)
        {
            self.has_moved.store(true, Ordering::Release);
        }
    }

    /// For the keeper: the worker has hung up. What it said before is heard.
    pub(crate) fn hear_out(&self) {
        // No request has the id 0, so this reads all that is there for others.
        self.poll_for(0);
        self.end();
    }

    /// Ends the conversation, for all threads at once.
    ///
    /// A worker on this host learns of it when the last block, writer and copy is done that goes by this connection: the
    /// memory is shared, and what is read or written there must not become another's before.
    pub(crate) fn end(&self) {
        self.mailbox.end();
        let how = match &self.payload {
            Payload::Mapped(_) => Shutdown::Read,
            Payload::Inline => Shutdown::Both,
        };
        self.send_last_riders();
        let _ = rustix::net::shutdown(&self.socket, how);
        if let Some(board) = self.board() {
            // Those who wait for a block to grow sleep there, and not on the socket.
            board.ring_all();
        }
    }

    /// Sends what was to ride with a request that is not made any more: whoever put it was told that it is put.
    fn send_last_riders(&self) {
        // Who sends now takes them along.
        let Some(mut frames) = self.writer.try_lock() else { return };
        frames.clear();
        self.riders.lock().depart(&mut FrameWriter::new(&mut frames));
        if !frames.is_empty() {
            let _ = rustix::net::send(&self.socket, &frames, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// What writers and readers on the worker's host tell each other; `None` over TCP and in a forked child.
    pub(crate) fn board(&self) -> Option<&Board> {
        match &self.payload {
            Payload::Mapped(local) => local.board(),
            Payload::Inline => None,
        }
    }

    pub(crate) fn unavailable(&self) -> ClientError {
        ClientError::Unavailable { address: self.address.clone(), source: None }
    }

    /// Releases what an answer that nobody wants has pinned.
    fn discard(&self, answer: &Answer) {
        match Reply::decode(answer.kind, &answer.body) {
            Ok(Reply::Blocks(blocks)) => {
                blocks.iter().map(|block| block.block()).filter(|block| *block != 0).for_each(|b| self.release(b));
            }
            Ok(Reply::Granted(extent)) => {
                let _ = self.tell(&Request::GiveBack(extent));
            }
            Ok(Reply::Refused { refusal: Refusal::Moved, .. }) => {}
            Ok(Reply::Refused { text, .. }) => {
                tracing::warn!(address = %self.address, text, "the data worker ends the connection");
            }
            _ => {}
        }
    }

    /// Sends all riders and then, if there is one, a request under its id.
    fn send(&self, request: Option<(u64, &Request<'_>)>, payload: &[&[u8]]) -> Result<(), ClientError> {
        if self.has_ended() {
            return Err(self.unavailable());
        }
        let mut frames = self.writer.lock();
        frames.clear();
        let mut writer = FrameWriter::new(&mut frames);
        self.riders.lock().depart(&mut writer);
        if let Some((id, request)) = request {
            writer.request(id, request, payload.iter().map(|part| part.len() as u64).sum());
            if changes_what_is_found(request) {
                // Requests that get their number from here on are sent after this one, because `frames` is locked.
                self.note_change();
            }
        }
        let sent = send_all(self.socket.as_fd(), &frames)
            .and_then(|()| payload.iter().try_for_each(|part| send_all(self.socket.as_fd(), part)));
        drop(frames);
        sent.map_err(|_| {
            self.end();
            self.unavailable()
        })
    }

    fn read(&self, deadline: Instant) -> Read {
        self.read_with(RecvFlags::empty(), deadline)
    }

    fn read_now(&self) -> Read {
        self.read_with(RecvFlags::DONTWAIT, Instant::now())
    }

    fn read_with(&self, flags: RecvFlags, deadline: Instant) -> Read {
        match self.reader.lock().read(self.socket.as_fd(), flags, deadline) {
            Ok(Some((id, answer))) => {
                self.answered.fetch_max(id, Ordering::Release);
                self.note_farewell(id, &answer);
                Read::Frame(id, answer)
            }
            Ok(None) => Read::Nothing,
            Err(_) => Read::End,
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether what is found may be different once this was carried out, though nobody waits for that.
fn changes_what_is_found(request: &Request<'_>) -> bool {
    use Request::{Abandon, Advance, Create, Put, Seal};
    matches!(request, Put(_) | Create(_) | Advance(_) | Seal(_) | Abandon(_))
}

fn refused(refusal: Refusal, text: &str) -> ClientError {
    match refusal {
        Refusal::Full => ClientError::NoRoom { asked: 0 },
        Refusal::NeverFits => ClientError::TooLarge { asked: 0, text: text.to_owned() },
        _ => ClientError::Refused { text: text.to_owned() },
    }
}

fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
