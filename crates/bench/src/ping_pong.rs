//! [`PingPong`]: 64 bytes to another process and back over a Unix socket, the least that a message can cost here.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

/// The argument that makes a program call [`be_ping_pong_peer`].
pub const PING_PONG_PEER: &str = "bench-ping-pong-peer";

const MESSAGE: usize = 64;

/// Sends back what comes in on standard input, a socket, until that ends.
pub fn be_ping_pong_peer() -> std::io::Result<()> {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut message = [0; MESSAGE];
    while socket.read_exact(&mut message).is_ok() {
        socket.write_all(&message)?;
    }
    Ok(())
}

/// The other process. Ends with this.
pub(crate) struct PingPong {
    socket: UnixStream,
    peer: Child,
}

impl PingPong {
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let peer = Command::new(program)
            .arg(PING_PONG_PEER)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .context("cannot start the ping-pong peer")?;
        Ok(Self { socket, peer })
    }

    /// The other process.
    pub(crate) fn pid(&self) -> u32 {
        self.peer.id()
    }

    /// One round trip, in microseconds.
    pub(crate) fn round_trip(&mut self) -> Result<f64> {
        let mut message = [7; MESSAGE];
        let begin = Instant::now();
        self.socket.write_all(&message)?;
        self.socket.read_exact(&mut message)?;
        Ok(begin.elapsed().as_secs_f64() * 1e6)
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.peer.wait();
    }
}
