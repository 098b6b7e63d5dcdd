//! [`Daemon`]: a process that goes on when its starter ends, as both of them see it.
//!
//! The starter runs this binary again, with its standard error in the log and a pipe for its standard output. The
//! daemon turns the pipe aside ([`Starter::detach`]), leaves the starter's session and descriptors behind, and says
//! over the pipe how its start went. A daemon that ends without a word has failed as well.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::io::{Errno, FdFlags};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::patience::read_to_end;

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
        let Some(pipe) = child.stdout.take() else { return Ok(()) };
        let Some(said) = read_to_end(pipe, deadline)? else {
            return Err(Failure::text("it did not serve in time, and was ended"));
        };
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
            // SAFETY: it is borrowed for one call, which changes no more than whether children inherit it.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            match rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC) {
                // Another thread has closed it meanwhile: no child inherits it.
                Ok(()) | Err(Errno::BADF) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn start(script: &str) -> Daemon {
        let log = File::options().write(true).open("/dev/null").unwrap();
        Daemon::start(Command::new("sh").args(["-c", script]), log).unwrap()
    }

    fn is_there(pid: u32) -> bool {
        std::fs::exists(format!("/proc/{pid}")).unwrap()
    }

    #[test]
    fn a_daemon_that_says_nothing_in_time_is_ended() {
        let mut silent = start("exec sleep 1000");
        let pid = silent.pid();
        let failure = silent.wait(Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert!(failure.reason.to_string().contains("did not serve in time"));
        assert!(is_there(pid));
        drop(silent);
        assert!(!is_there(pid));
    }

    #[test]
    fn a_daemon_that_ends_without_a_word_has_failed() {
        let mut broken = start("exit 7");
        let failure = broken.wait(Instant::now() + Duration::from_secs(60)).unwrap_err();
        assert!(failure.reason.to_string().contains("exit status: 7"), "{failure:?}");
    }

    #[test]
    fn a_failed_daemon_tells_why_and_what_to_do() {
        let word = serde_json::to_string(&Word::Failed { reason: "no room".into(), hint: Some("buy some".into()) });
        let mut failed = start(&format!("echo '{}'", word.unwrap()));
        let failure = failed.wait(Instant::now() + Duration::from_secs(60)).unwrap_err();
        assert_eq!((failure.reason.to_string().as_str(), failure.hint.as_deref()), ("no room", Some("buy some")));
    }
}
