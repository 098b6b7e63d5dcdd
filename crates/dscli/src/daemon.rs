//! [`Daemon`]: a process that goes on when its starter ends, as both of them see it.
//!
//! The starter runs this binary again, with its standard error in the log and a pipe for its standard output. The
//! daemon turns the pipe aside ([`Starter::detach`]), leaves the starter's session and descriptors behind, and says
//! over the pipe how its start went. A daemon that ends without a word has failed as well.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// What a daemon says to its starter.
#[derive(Serialize, Deserialize)]
pub(crate) enum Word {
    /// It serves.
    Serving,
    /// It does not, and ends.
    Failed {
        /// Why.
        reason: String,
        /// What the user can do about it.
        hint: Option<String>,
    },
}

/// A process started to go on alone. Until it is [let go](Daemon::let_go), dropping this ends it.
pub(crate) struct Daemon {
    child: Option<Child>,
}

impl Daemon {
    /// Starts `command`, which calls [`Starter::detach`] first of all, with `log` as its standard error.
    pub(crate) fn start(command: &mut Command, log: File) -> io::Result<Self> {
        keep_descriptors_from_children()?;
        let command = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(Self { child: Some(command.spawn()?) })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Waits until it has said how its start went, or has ended, or `deadline` has passed.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Result<(), Failure> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let Some(pipe) = &mut child.stdout else { return Ok(()) };
        let mut said = Vec::new();
        loop {
            if !wait_readable(&*pipe, deadline)? {
                return Err(Failure::text("it did not serve in time, and was ended"));
            }
            let mut piece = [0; 4096];
            match pipe.read(&mut piece)? {
                0 => break,
                count => said.extend_from_slice(&piece[..count]),
            }
        }
        match serde_json::from_slice(&said) {
            Ok(Word::Serving) => Ok(()),
            Ok(Word::Failed { reason, hint }) => Err(Failure { hint, ..Failure::text(reason) }),
            Err(_) => Err(Failure::text(format!("it ended before it served: {}", child.wait()?))),
        }
    }

    /// Lets it go on alone.
    pub(crate) fn let_go(mut self) {
        self.child = None;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The daemon's way to tell its starter how the start went.
pub(crate) struct Starter {
    pipe: File,
}

impl Starter {
    /// Makes this process a daemon: a session of its own, and standard output where standard error is.
    pub(crate) fn detach() -> io::Result<Self> {
        let pipe = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        // Fails where the process leads a session already.
        let _ = rustix::process::setsid();
        Ok(Self { pipe: File::from(pipe) })
    }

    /// Tells it. Fails when nobody is there any more.
    pub(crate) fn tell(mut self, word: &Word) -> io::Result<()> {
        self.pipe.write_all(&serde_json::to_vec(word)?)
    }
}

/// Keeps what this process inherited from whoever ran it from the daemon: it would keep their files, sockets and
/// pipes open, and whoever waits for the end of one would wait for the daemon's.
fn keep_descriptors_from_children() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number| *number > rustix::stdio::stderr().as_raw_fd()) {
            // SAFETY: the descriptor was open a moment ago, and there is no other thread that could close it.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}

/// Waits until `descriptor` can be read, or its other end is gone; `false` when `deadline` passes first.
pub(crate) fn wait_readable(descriptor: impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
