//! [`Block`]: a pinned block, read where it lies.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use chariot_types::Key;
use chariot_wire::limits::MAX_WAIT_MICROS;
use chariot_wire::{BlockRecord, BlockState, Progress, Reply, Request, micros};
use parking_lot::Mutex;

use crate::ClientError;
use crate::connection::{Connection, Payload};

/// A pinned block: while it lives, the worker neither evicts nor reuses its bytes.
///
/// Cheap to clone; the pin goes with the last clone. Should the connection end while the block lives, the memory
/// stays mapped but is no longer protected: see [`Block::is_intact`].
#[derive(Clone)]
pub struct Block {
    inner: Arc<Inner>,
}

struct Inner {
    key: Key,
    connection: Arc<Connection>,
    /// The number of the pin; 0 when there is none to give back.
    pin: u64,
    len: usize,
    bytes: Bytes,
    readable: AtomicUsize,
    is_sealed: AtomicBool,
    // One watch at a time: over TCP each brings the bytes that follow those of the one before.
    watch: Mutex<()>,
}

/// Where the bytes are. `Inline` memory is this block's own and was allocated with the block's whole length.
enum Bytes {
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
            Payload::Mapped(mapping) => Bytes::Mapped(mapping.slice(record.extent())?.cast()),
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
                pin: record.block(),
                len,
                bytes,
                readable: AtomicUsize::new(readable),
                is_sealed: AtomicBool::new(is_sealed),
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

    /// Waits until more than `beyond` bytes can be read, the block is whole, or it is lost.
    pub fn wait_beyond(&self, beyond: usize, deadline: Instant) -> Result<Progress, ClientError> {
        let inner = &*self.inner;
        let _watch = inner.watch.lock();
        if self.is_sealed() {
            return Ok(Progress::Sealed);
        }
        let readable = self.readable();
        if readable > beyond {
            return Ok(Progress::Readable(readable as u64));
        }
        let wait = deadline.saturating_duration_since(Instant::now());
        let micros = micros(wait).min(MAX_WAIT_MICROS);
        let request = Request::Watch { block: inner.pin, beyond: beyond as u64, wait: micros };
        let (progress, payload) =
            inner.connection.call("watch", &request, &[], wait, |reply, payload| match reply {
                Reply::Progress(progress) => Some((progress, payload)),
                _ => None,
            })?;
        let wrong = ClientError::WrongAnswer { what: "watch" };
        let now_readable = match progress {
            Progress::Readable(bytes) => bytes as usize,
            Progress::Sealed => inner.len,
            Progress::Lost | Progress::TimedOut => return Ok(progress),
        };
        if now_readable > inner.len || now_readable < readable {
            return Err(wrong);
        }
        if let Bytes::Inline(first) = &inner.bytes {
            if beyond.checked_add(payload.len()) != Some(now_readable) || beyond != readable {
                return Err(wrong);
            }
            // SAFETY: the block's own memory has `len` bytes; those from `readable` on are read by nobody until the
            // store below publishes them, and `watch` keeps other writers out.
            unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), first.as_ptr().add(beyond), payload.len()) };
        }
        inner.readable.store(now_readable, Ordering::Release);
        if progress == Progress::Sealed {
            inner.is_sealed.store(true, Ordering::Release);
        }
        Ok(progress)
    }

    /// Whether the bytes are still protected. `false` once the connection that pinned the block has ended: bytes read
    /// since may be another block's. To be asked after the bytes were used or copied.
    pub fn is_intact(&self) -> bool {
        match self.inner.bytes {
            Bytes::Mapped(_) => !self.inner.connection.has_ended(),
            Bytes::Inline(_) | Bytes::Shared(..) => true,
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
        if self.pin != 0 {
            self.connection.release(self.pin);
        }
    }
}
