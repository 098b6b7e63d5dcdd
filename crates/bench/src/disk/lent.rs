//! [`Rooms`]: memory as a worker lends it, pieces of an arena that come back when they are done with.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use chariot_pool::Arena;
use chariot_ssd::Memory;
use chariot_types::Extent;

/// Long enough for any disk that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pieces of one arena, each as long as a block.
pub(super) struct Rooms {
    arena: Arc<Arena>,
    free: Receiver<Extent>,
    back: Sender<Extent>,
    count: usize,
}

/// Brings a piece back when it is dropped.
struct Lease {
    extent: Extent,
    back: Sender<Extent>,
    _arena: Arc<Arena>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nobody takes it any more when the measurement has ended.
        let _ = self.back.send(self.extent);
    }
}

impl Rooms {
    pub(super) fn new(count: usize, len: u64) -> Result<Self> {
        let arena = Arc::new(Arena::create(count as u64 * len)?);
        arena.touch(Extent { offset: 0, len: arena.len() })?;
        let (back, free) = channel();
        let rooms = Self { arena, free, back, count };
        (0..count as u64).try_for_each(|i| rooms.back.send(Extent { offset: i * len, len }))?;
        Ok(rooms)
    }

    /// A piece, once there is one.
    pub(super) fn take(&self) -> Result<Memory> {
        let extent = self.free.recv_timeout(PATIENCE).context("the disk does not answer")?;
        let bytes: NonNull<[u8]> = self.arena.slice(extent)?;
        let lease = Lease { extent, back: self.back.clone(), _arena: self.arena.clone() };
        // SAFETY: the lease keeps the arena mapped, and no piece is lent twice at a time.
        Ok(unsafe { Memory::new(bytes, lease) })
    }

    /// Waits until all pieces are back.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        let all: Vec<Memory> = (0..self.count).map(|_| self.take()).collect::<Result<_>>()?;
        drop(all);
        Ok(())
    }
}
