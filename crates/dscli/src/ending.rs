//! [`Ending`]: the wish of the user, or of the system, that a service ends.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Notices SIGTERM and SIGINT from the moment it is made; before that, they end the process at once.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// Must be called within a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns the signal's name once one has come.
    pub(crate) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
