//! [`Uring`]: an engine on io_uring. The only place that knows it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use rustix::event::EventfdFlags;

use crate::io::operation::{Step, Transfer};
use crate::io::{Bell, Done, Engine, Operation, Way};

/// The file's place among the ring's registered ones.
const FILE: Fixed = Fixed(0);

/// What the read of the bell is known by; transfers have other numbers.
const BELL: u64 = u64::MAX;

/// An engine on io_uring.
pub(crate) struct Uring {
    // Both are dropped by `drop` alone, and only when the kernel is done with them.
    ring: ManuallyDrop<IoUring>,
    transfers: ManuallyDrop<HashMap<u64, Transfer, RandomState>>,
    next: u64,
    bell: Arc<EventBell>,
    /// Where the kernel puts what it reads from the bell.
    rung: ManuallyDrop<Box<u64>>,
    is_listening: bool,
}

impl Uring {
    /// An engine for `file` that has room for `depth` operations; an error where io_uring is missing or forbidden.
    pub(crate) fn new(file: &File, depth: u32) -> io::Result<Self> {
        // Room for the bell as well.
        let entries = (depth + 1).next_power_of_two();
        let ring = ring(entries)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let bell = Arc::new(EventBell(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?));
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            transfers: ManuallyDrop::default(),
            next: 0,
            bell,
            rung: ManuallyDrop::default(),
            is_listening: false,
        })
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: what the entry points to belongs to `self` and is not dropped before the kernel is done with it.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit_and_wait(0, Instant::now());
        }
    }

    fn send(&mut self, transfer: Transfer) {
        let (vectors, offset) = (transfer.vectors(), transfer.offset());
        let (start, count) = (vectors.as_ptr(), vectors.len() as u32);
        let entry = match transfer.way() {
            Way::Read => opcode::Readv::new(FILE, start, count).offset(offset).build(),
            Way::Write => opcode::Writev::new(FILE, start, count).offset(offset).build(),
        };
        let id = self.next;
        self.next += 1;
        self.transfers.insert(id, transfer);
        self.push(entry.user_data(id));
    }

    fn listen(&mut self) {
        if !self.is_listening {
            self.is_listening = true;
            let word = (&raw mut **self.rung).cast::<u8>();
            let entry = opcode::Read::new(io_uring::types::Fd(self.bell.0.as_raw_fd()), word, 8).build();
            self.push(entry.user_data(BELL));
        }
    }

    /// Hands the kernel what is queued, and waits for `wanted` results or until then.
    fn submit_and_wait(&mut self, wanted: usize, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::from(left);
        let submitted = match wanted {
            0 => self.ring.submit(),
            _ => self.ring.submitter().submit_with_args(wanted, &SubmitArgs::new().timespec(&timeout)),
        };
        if let Err(error) = submitted {
            let is_usual = matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY));
            if !is_usual {
                // The kernel is short of something; what is queued stays queued.
                tracing::warn!(%error, "io_uring does not take what is submitted");
                std::thread::sleep(PAUSE.min(left));
            }
        }
    }

    /// Takes the results that are there; whether the bell was one of them.
    fn reap(&mut self, done: &mut Vec<Done>) -> bool {
        let results: Vec<_> = self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        let mut rung = false;
        for (id, result) in results {
            if id == BELL {
                self.is_listening = false;
                rung = true;
                continue;
            }
            let Some(transfer) = self.transfers.remove(&id) else { continue };
            let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            match transfer.advance(result) {
                Step::Unfinished(rest) => self.send(rest),
                Step::Ended(ended) => done.push(ended),
            }
        }
        rung
    }
}

/// How long a kernel that is short of something is left alone.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// A ring for one thread, with what newer kernels do better where they do.
fn ring(entries: u32) -> io::Result<IoUring> {
    let newer = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
    match newer {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(entries),
        other => other,
    }
}

impl Engine for Uring {
    fn start(&mut self, operation: Operation) {
        self.send(Transfer::new(operation));
    }

    fn wait(&mut self, until: Instant, done: &mut Vec<Done>) {
        loop {
            self.listen();
            self.submit_and_wait(1, until);
            let rung = self.reap(done);
            if rung || !done.is_empty() || Instant::now() >= until {
                return;
            }
        }
    }

    fn bell(&self) -> Arc<dyn Bell> {
        self.bell.clone()
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The bell's read goes with the ring; its word stays, because that takes the kernel a moment.
        if self.transfers.is_empty() {
            // SAFETY: not used after this.
            unsafe { ManuallyDrop::drop(&mut self.transfers) };
        }
        // SAFETY: not used after this; buffers of transfers that are not done were not dropped.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
    }
}

/// An event file that the ring reads from.
struct EventBell(OwnedFd);

impl Bell for EventBell {
    fn ring(&self) {
        // It can only fail when it was rung 2^64 times without being heard.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}
