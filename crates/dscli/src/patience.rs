//! Waiting for what another process does, up to a deadline.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits until `descriptor` can be read, or its other end is gone; for a process's descriptor, until that has ended.
/// `false` when `deadline` passes first.
pub(crate) fn wait_readable(descriptor: impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads until the other end is gone; `None` when `deadline` passes first.
pub(crate) fn read_to_end(mut pipe: impl Read + AsFd, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while wait_readable(&pipe, deadline)? {
        match pipe.read(&mut piece)? {
            0 => return Ok(Some(said)),
            count => said.extend_from_slice(&piece[..count]),
        }
    }
    Ok(None)
}
