//! [`Link`]: the connection of a client as it comes and goes, and the thread that keeps it.
//!
//! The keeper sleeps in `poll` until the connection hangs up, riders are due, or the client goes: an idle client
//! costs nothing. It is the only one that connects, so that no call ever waits for that.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chariot_types::WorkerAddress;
use parking_lot::{Condvar, Mutex, RwLock};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use crate::connection::Connection;
use crate::dial::{NotLetIn, dial};
use crate::{ClientError, ConnectOptions};

/// The first pause between two attempts to connect; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long calls wait for a worker that has said that it goes on in another process.
const MOVE_PATIENCE: Duration = Duration::from_secs(2);

/// How long riders may wait for a request to ride with.
const RIDER_DELAY: Duration = Duration::from_millis(1);

/// A client's connection as it comes and goes.
pub(crate) struct Link {
    address: WorkerAddress,
    options: ConnectOptions,
    current: RwLock<Option<Arc<Connection>>>,
    last_error: Mutex<Option<io::Error>>,
    /// Until when the worker is expected that has said that it goes on in another process.
    moving: Mutex<Option<Instant>>,
    has_come: Condvar,
    wake: Arc<OwnedFd>,
    is_closing: AtomicBool,
}

impl Link {
    /// A link without a connection.
    pub(crate) fn new(address: &WorkerAddress, options: ConnectOptions) -> io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            address: address.clone(),
            options,
            current: RwLock::default(),
            last_error: Mutex::default(),
            moving: Mutex::default(),
            has_come: Condvar::new(),
            wake: Arc::new(wake),
            is_closing: AtomicBool::new(false),
        })
    }

    /// Connects once.
    pub(crate) fn connect(&self) -> Result<(), ClientError> {
        match dial(&self.address, &self.options, self.wake.clone()) {
            Ok(connection) => {
                *self.current.write() = Some(Arc::new(connection));
                *self.last_error.lock() = None;
                *self.moving.lock() = None;
                self.has_come.notify_all();
                Ok(())
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                *self.last_error.lock() = Some(copy);
                Err(self.no_way(Some(error)))
            }
        }
    }

    /// The connection. Where the worker has just said that it goes on in another process, it is waited for.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>, ClientError> {
        self.connection_until(Instant::now() + MOVE_PATIENCE)
    }

    /// The same, but not waited for beyond `deadline`.
    pub(crate) fn connection_until(&self, deadline: Instant) -> Result<Arc<Connection>, ClientError> {
        self.connection_now().or_else(|unavailable| {
            let mut moving = self.moving.lock();
            loop {
                // Under the lock under which its coming is told.
                if let Ok(connection) = self.connection_now() {
                    return Ok(connection);
                }
                let until = match (*moving, self.has_just_moved()) {
                    (Some(until), _) => until.min(deadline),
                    (None, true) => deadline,
                    (None, false) => return Err(unavailable),
                };
                if self.has_come.wait_until(&mut moving, until).timed_out() {
                    return self.connection_now();
                }
            }
        })
    }

    /// Whether the worker has said that it goes on in another process, and is expected there.
    pub(crate) fn is_moving(&self) -> bool {
        self.has_just_moved() || self.moving.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Whether the connection has moved, and the keeper does not know it yet.
    fn has_just_moved(&self) -> bool {
        self.current.read().as_ref().is_some_and(|connection| connection.has_moved())
    }

    /// The connection, if there is one now.
    pub(crate) fn connection_now(&self) -> Result<Arc<Connection>, ClientError> {
        match &*self.current.read() {
            Some(connection) if !connection.has_ended() => Ok(connection.clone()),
            _ => Err(self.unavailable()),
        }
    }

    /// Starts the thread that keeps the link, for as long as the client lives.
    pub(crate) fn keep(self: &Arc<Self>) -> io::Result<()> {
        let link = self.clone();
        // Detached: it ends by itself once `close` was called, and `close` must not wait for an attempt to connect.
        std::thread::Builder::new().name("chariot-keeper".into()).spawn(move || link.run())?;
        Ok(())
    }

    /// Lets the keeper end. What is pinned stays pinned until the blocks are dropped.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    fn unavailable(&self) -> ClientError {
        let last = self.last_error.lock();
        let source = last.as_ref().map(|error| io::Error::new(error.kind(), error.to_string()));
        ClientError::Unavailable { address: self.address.clone(), source }
    }

    /// What came of an attempt to connect.
    fn no_way(&self, source: Option<io::Error>) -> ClientError {
        let address = self.address.clone();
        match source.as_ref().and_then(|error| error.get_ref()?.downcast_ref::<NotLetIn>()) {
            Some(NotLetIn(text)) => ClientError::Stranger { address, text: text.clone() },
            None => ClientError::Unavailable { address, source },
        }
    }

    fn run(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.is_closing.load(Ordering::Acquire) {
            let connection = self.current.read().clone();
            match connection {
                Some(connection) => {
                    self.attend(&connection);
                    if connection.has_ended() {
                        *self.moving.lock() = connection.has_moved().then(|| Instant::now() + MOVE_PATIENCE);
                        *self.current.write() = None;
                        tracing::info!(address = %self.address, "lost the data worker, looking for it");
                        pause = FIRST_PAUSE;
                    }
                }
                None => {
                    if self.connect().is_ok() {
                        tracing::info!(address = %self.address, "connected to the data worker");
                    } else {
                        self.sleep(Some(pause));
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
        }
        if let Some(connection) = self.current.write().take() {
            connection.tidy();
        }
    }

    /// Waits for something to happen to the connection, and does what is due.
    fn attend(&self, connection: &Connection) {
        let mut polled = [
            PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::RDHUP),
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
        ];
        let _ = rustix::event::poll(&mut polled, None);
        let (hung_up, woken) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
        if hung_up {
            connection.hear_out();
        } else if woken {
            // While there is a stream of riders, nobody spends time on waking this thread.
            loop {
                std::thread::sleep(RIDER_DELAY);
                self.drain_wake();
                if !connection.tidy() || self.is_closing.load(Ordering::Acquire) {
                    break;
                }
            }
        }
    }

    fn sleep(&self, pause: Option<Duration>) {
        let timeout =
            pause.map(|pause| Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() });
        let mut polled = [PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        let _ = rustix::event::poll(&mut polled, timeout.as_ref());
        self.drain_wake();
    }

    fn drain_wake(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }
}
