//! [`OwnOnly`]: keeps a connection's socket out of the hands of forked children.
//!
//! A child inherits its parent's sockets. One that keeps them keeps the connection: the worker would not notice that the
//! parent is gone, and not take back what it held. So right after a fork, the child's copies are replaced by something
//! that is no socket. Their numbers stay taken, which makes it harmless to close them, and every use fails: in a
//! child, an inherited client is unavailable, for good.
//!
//! The child also has its parent's mappings, where the parent's pins are: [`forks`] tells it not to touch them.
//!
//! Children that go on to `exec` need none of this: all sockets are closed there.

use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{DupFlags, dup3};

/// Says, while it lives, that a socket is for this process alone.
pub(crate) struct OwnOnly {
    slot: &'static AtomicI32,
}

impl OwnOnly {
    /// Covers `socket`, from now until this is dropped, which must be before the socket is closed.
    pub(crate) fn cover(socket: RawFd) -> Self {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(|| {
            // SAFETY: the handler does only what a child may do after a fork: it makes system calls and reads atomics.
            // Without memory for the handler, children keep their copies, as they would without this module.
            let _ = unsafe { pthread_atfork(None, None, Some(replace_sockets)) };
        });
        let free = |slot: &&'static AtomicI32| {
            slot.compare_exchange(FREE, socket, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        loop {
            if let Some(slot) = slots().find(free) {
                return Self { slot };
            }
            add_chunk();
        }
    }
}

impl Drop for OwnOnly {
    fn drop(&mut self) {
        self.slot.store(FREE, Ordering::Release);
    }
}

const FREE: i32 = -1;

/// Slots for sockets. Chunks are linked and never freed: a child must be able to read them at any moment.
struct Chunk {
    slots: [AtomicI32; 32],
    next: AtomicPtr<Chunk>,
}

impl Chunk {
    const fn new() -> Self {
        Self { slots: [const { AtomicI32::new(FREE) }; 32], next: AtomicPtr::new(ptr::null_mut()) }
    }

    fn next(&self) -> Option<&'static Self> {
        // SAFETY: null, or a chunk that `add_chunk` leaked.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }
}

static FIRST: Chunk = Chunk::new();

fn slots() -> impl Iterator<Item = &'static AtomicI32> {
    std::iter::successors(Some(&FIRST), |chunk| chunk.next()).flat_map(|chunk| &chunk.slots)
}

fn add_chunk() {
    let chunk = Box::into_raw(Box::new(Chunk::new()));
    let mut last = &FIRST;
    while let Err(next) = last.next.compare_exchange(ptr::null_mut(), chunk, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: not null, so a chunk that another thread leaked.
        last = unsafe { &*next };
    }
}

/// How many forks lie between the first process that asked and this one.
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

static FORKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn replace_sockets() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    let Ok(stand_in) = eventfd(0, EventfdFlags::CLOEXEC) else { return };
    for socket in slots().map(|slot| slot.load(Ordering::Acquire)).filter(|socket| *socket != FREE) {
        // SAFETY: whoever covers a socket keeps it open; its owner still closes it, as this does not.
        let mut number = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(socket) });
        let _ = dup3(&stand_in, &mut number, DupFlags::CLOEXEC);
    }
}

unsafe extern "C" {
    /// Of the C library, which the `libc` crate leaves out: nothing but where the handlers are kept.
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> i32;
}
