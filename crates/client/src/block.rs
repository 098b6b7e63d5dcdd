//! [`Block`]: a pinned block, read where it lies. How one that grows is followed is in `follow`.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chariot_index::{Held, Listing};
use chariot_types::Key;
use chariot_wire::{BlockRecord, BlockState};
use parking_lot::Mutex;

use crate::ClientError;
use crate::connection::{Connection, Payload};
use crate::glance::Unsure;
use crate::local::Local;

/// A pinned block: while it lives, the worker neither evicts nor reuses its bytes.
///
/// Cheap to clone; the pin goes with the last clone. Should the connection end while the block lives, the memory
/// stays mapped but is no longer protected, unless the worker goes on in another process: see [`Block::is_intact`].
#[derive(Clone)]
pub struct Block {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) key: Key,
    pub(crate) connection: Arc<Connection>,
    pin: Pin,
    /// Where it is in the arena, if that is mapped.
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) bytes: Bytes,
    pub(crate) readable: AtomicUsize,
    pub(crate) is_sealed: AtomicBool,
    // One watch at a time: over TCP each brings the bytes that follow those of the one before.
    pub(crate) watch: Mutex<()>,
}

/// What keeps the bytes where they are.
enum Pin {
    /// Nothing needs to: they are the block's own.
    Own,
    /// The worker was asked, and knows the pin by this number.
    Asked(u64),
    /// A slot in memory that the worker looks at before it frees anything.
    Shared(Held),
}

/// Where the bytes are. `Inline` memory is this block's own and was allocated with the block's whole length.
pub(crate) enum Bytes {
    Mapped(NonNull<u8>),
    Inline(NonNull<u8>),
    Shared(Arc<Vec<u8>>, usize),
}

// SAFETY: the pointers are to memory that outlives the block (the connection's mapping, or the block's own), of which
// only bytes below `readable` are read, and those do not change any more.
unsafe impl Send for Inner {}
// SAFETY: as above; writes beyond `readable` are made under `watch` and published by `readable` with release order.
unsafe impl Sync for Inner {}

impl Block {
    /// The block that `record` tells of; `None` for a miss. `payload` are the bytes of the whole answer over TCP, and
    /// `taken` how many of them belong to blocks before this one.
    pub(crate) fn from_record(
        connection: &Arc<Connection>,
        key: Key,
        record: &BlockRecord,
        payload: &Arc<Vec<u8>>,
        taken: &mut usize,
    ) -> Result<Option<Self>, ClientError> {
        let wrong = || ClientError::WrongAnswer { what: "get" };
        let len = usize::try_from(record.len()).map_err(|_| wrong())?;
        let (readable, is_sealed) = match record.state() {
            BlockState::Miss => return Ok(None),
            BlockState::Sealed => (len, true),
            BlockState::Growing { readable } => (usize::try_from(readable).map_err(|_| wrong())?, false),
        };
        if readable > len || record.len() > record.extent().len {
            return Err(wrong());
        }
        let bytes = match &connection.payload {
            Payload::Mapped(local) => Bytes::Mapped(local.arena().slice(record.extent())?.cast()),
            Payload::Inline => {
                let end = taken.checked_add(readable).filter(|end| *end <= payload.len()).ok_or_else(wrong)?;
                let start = std::mem::replace(taken, end);
                if is_sealed {
                    Bytes::Shared(payload.clone(), start)
                } else {
                    let mut own = payload[start..end].to_vec();
                    own.resize(len.max(1), 0);
                    Bytes::Inline(NonNull::from(Box::leak(own.into_boxed_slice())).cast())
                }
            }
        };
        Ok(Some(Self {
            inner: Arc::new(Inner {
                key,
                connection: connection.clone(),
                pin: if record.block() == 0 { Pin::Own } else { Pin::Asked(record.block()) },
                offset: record.extent().offset,
                len,
                bytes,
                readable: AtomicUsize::new(readable),
                is_sealed: AtomicBool::new(is_sealed),
                watch: Mutex::new(()),
            }),
        }))
    }

    /// The block that this client has pinned by itself, unless the index names bytes that are not in the arena.
    pub(crate) fn pinned_in(
        connection: &Arc<Connection>,
        local: &Local,
        listing: &Listing,
        held: Held,
    ) -> Result<Option<Self>, Unsure> {
        let bytes = local.arena().slice(listing.extent());
        let (Ok(bytes), true) = (bytes, listing.readable <= listing.len) else {
            local.release(held);
            return Err(Unsure);
        };
        let len = bytes.len();
        Ok(Some(Self {
            inner: Arc::new(Inner {
                key: listing.key,
                connection: connection.clone(),
                pin: Pin::Shared(held),
                offset: listing.offset,
                len,
                bytes: Bytes::Mapped(bytes.cast()),
                readable: AtomicUsize::new(if listing.sealed { len } else { listing.readable as usize }),
                is_sealed: AtomicBool::new(listing.sealed),
                watch: Mutex::new(()),
            }),
        }))
    }

    /// The block's key.
    pub fn key(&self) -> Key {
        self.inner.key
    }

    /// Bytes of the whole block.
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.inner.len == 0
    }

    /// Bytes that can be read.
    pub fn readable(&self) -> usize {
        self.inner.readable.load(Ordering::Acquire)
    }

    /// Whether the block is whole.
    pub fn is_sealed(&self) -> bool {
        self.inner.is_sealed.load(Ordering::Acquire)
    }

    /// The readable bytes, from the block's first on.
    pub fn bytes(&self) -> &[u8] {
        let readable = self.readable();
        match &self.inner.bytes {
            // SAFETY: `readable` bytes from there on are in bounds, and do not change while the block is pinned (or,
            // once the connection has ended, may be overwritten by other processes: `is_intact` tells).
            Bytes::Mapped(first) | Bytes::Inline(first) => unsafe {
                std::slice::from_raw_parts(first.as_ptr(), readable)
            },
            Bytes::Shared(payload, start) => &payload[*start..start + readable],
        }
    }

    /// Whether letting go of this is a store to memory and little else: neither does a connection end with it, nor is
    /// memory given back.
    pub fn is_let_go_of_quickly(&self) -> bool {
        match &self.inner.pin {
            Pin::Shared(_) => Arc::strong_count(&self.inner.connection) > 1,
            Pin::Own | Pin::Asked(_) => false,
        }
    }

    /// Whether the bytes are still protected. `false` once the connection that pinned the block has ended (other
    /// than by the worker's going on in another process), or the worker took the pin away because it was in the way of others for too long: bytes read since may be another
    /// block's. To be asked after the bytes were used or copied.
    pub fn is_intact(&self) -> bool {
        let (Bytes::Mapped(_), Payload::Mapped(local)) = (&self.inner.bytes, &self.inner.connection.payload) else {
            return true;
        };
        let is_held = match &self.inner.pin {
            Pin::Shared(held) => local.still_holds(held),
            Pin::Asked(_) | Pin::Own => local.is_known(),
        };
        let connection = &self.inner.connection;
        // A worker that goes on in another process keeps what is held until the last of it is let go of.
        is_held && (!connection.has_ended() || connection.has_moved())
    }
}

impl Inner {
    /// The number by which the worker knows the block; `None` if the bytes are this client's own.
    pub(crate) fn number(&self) -> Option<u64> {
        match &self.pin {
            Pin::Own => None,
            Pin::Asked(number) => Some(*number),
            Pin::Shared(held) => Some(held.block()),
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, len) = (self.key(), self.len());
        f.debug_struct("Block").field("key", &key).field("len", &len).field("readable", &self.readable()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Bytes::Inline(first) = self.bytes {
            let memory = std::ptr::slice_from_raw_parts_mut(first.as_ptr(), self.len.max(1));
            // SAFETY: it was leaked from a box of this length when the block was made.
            drop(unsafe { Box::from_raw(memory) });
        }
        match (std::mem::replace(&mut self.pin, Pin::Own), &self.connection.payload) {
            (Pin::Asked(pin), _) => self.connection.release(pin),
            (Pin::Shared(held), Payload::Mapped(local)) => {
                if local.release(held) {
                    self.connection.tell_of_room();
                }
            }
            (Pin::Own | Pin::Shared(_), _) => {}
        }
    }
}
