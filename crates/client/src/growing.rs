//! [`GrowingBlock`]: the right to write one block that is not whole yet.

use std::fmt;
use std::sync::Arc;

use chariot_index::Grown;
use chariot_types::{Extent, Key};
use chariot_wire::{Request, SlotReadable};
use zerocopy::little_endian::U64;

use crate::ClientError;
use crate::connection::{Connection, Payload};
use crate::copy::copy_into_shared_memory;

/// The exclusive right to write one block that others can already find and follow. Dropped before it is sealed, the
/// block is abandoned: those who follow it are told that it is lost.
///
/// Over a connection that has ended, writes go to memory that nobody reads; the next advance or seal says so.
pub struct GrowingBlock {
    key: Key,
    slot: u64,
    len: usize,
    readable: usize,
    connection: Arc<Connection>,
    memory: Memory,
    is_open: bool,
}

enum Memory {
    /// Room in the arena.
    Mapped(Extent),
    /// Bytes that are sent as they become readable.
    Inline(Box<[u8]>),
}

impl GrowingBlock {
    pub(crate) fn mapped(connection: Arc<Connection>, key: Key, slot: u64, len: usize, extent: Extent) -> Self {
        Self { key, slot, len, readable: 0, connection, memory: Memory::Mapped(extent), is_open: true }
    }

    pub(crate) fn inline(connection: Arc<Connection>, key: Key, slot: u64, len: usize) -> Self {
        let memory = Memory::Inline(vec![0; len].into_boxed_slice());
        Self { key, slot, len, readable: 0, connection, memory, is_open: true }
    }

    /// The block's key.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Bytes of the whole block.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that others can read so far.
    pub fn readable(&self) -> usize {
        self.readable
    }

    /// The block's first byte, of [`len`](Self::len) that may be written while the block lives and until they are
    /// made readable.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        match (&mut self.memory, &self.connection.payload) {
            (Memory::Inline(bytes), _) => bytes.as_mut_ptr(),
            (Memory::Mapped(extent), Payload::Mapped(local)) => {
                local.arena().slice(*extent).expect("the extent was checked when the worker granted it").cast().as_ptr()
            }
            (Memory::Mapped(_), Payload::Inline) => unreachable!("a connection keeps its kind"),
        }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// If they do not fit, or if some there are readable already.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.len), "a write of {} bytes at {offset} does not fit", bytes.len());
        assert!(offset >= self.readable || bytes.is_empty(), "bytes that others read never change");
        let first = self.as_mut_ptr();
        // SAFETY: `offset + bytes.len() <= len`, and the bytes are this block's alone until they are readable.
        unsafe { copy_into_shared_memory(first.add(offset), bytes) };
    }

    /// Lets others read up to `readable` bytes, which must all be written.
    ///
    /// # Panics
    /// If that is less than before, or more than the block has.
    pub fn advance(&mut self, readable: usize) -> Result<(), ClientError> {
        assert!((self.readable..=self.len).contains(&readable), "{readable} bytes cannot be made readable");
        if readable == self.readable {
            return Ok(());
        }
        self.say(Grown::To(readable as u64));
        let step = [SlotReadable::new(self.slot, readable as u64)];
        match &self.memory {
            Memory::Mapped(_) => self.connection.tell(&Request::Advance(&step))?,
            Memory::Inline(bytes) => {
                self.connection.tell_with(&Request::Advance(&step), &bytes[self.readable..readable])?;
            }
        }
        self.readable = readable;
        Ok(())
    }

    /// Makes all bytes readable and the block whole. All must be written.
    pub fn seal(self) -> Result<(), ClientError> {
        Self::seal_all(vec![self])
    }

    /// Lets others read up to `readable` bytes of each block, in one message where blocks share a connection.
    ///
    /// # Panics
    /// As [`advance`](Self::advance).
    pub fn advance_all(blocks: &mut [Self], readable: usize) -> Result<(), ClientError> {
        for run in blocks.chunk_by_mut(Self::can_share_a_message) {
            if run[0].is_inline() {
                run.iter_mut().try_for_each(|block| block.advance(readable))?;
                continue;
            }
            let steps: Vec<_> = run.iter().map(|block| SlotReadable::new(block.slot, readable as u64)).collect();
            for block in &*run {
                assert!((block.readable..=block.len).contains(&readable), "{readable} bytes cannot be made readable");
            }
            run.iter().for_each(|block| block.say(Grown::To(readable as u64)));
            run[0].connection.tell(&Request::Advance(&steps))?;
            run.iter_mut().for_each(|block| block.readable = readable);
        }
        Ok(())
    }

    /// Seals blocks, in one message where they share a connection. All their bytes must be written.
    pub fn seal_all(mut blocks: Vec<Self>) -> Result<(), ClientError> {
        for run in blocks.chunk_by_mut(Self::can_share_a_message) {
            if run[0].is_inline() {
                for block in &mut *run {
                    block.advance(block.len)?;
                }
            }
            let slots: Vec<_> = run.iter().map(|block| U64::new(block.slot)).collect();
            run.iter().for_each(|block| block.say(Grown::Whole));
            run[0].connection.tell(&Request::Seal(&slots))?;
            run.iter_mut().for_each(|block| block.is_open = false);
        }
        Ok(())
    }

    /// Tells readers on this host how far the block is, directly: the worker is told as well, and its word counts.
    fn say(&self, grown: Grown) {
        if let (Memory::Mapped(extent), Payload::Mapped(local)) = (&self.memory, &self.connection.payload)
            && let Some(board) = local.board()
        {
            board.grow(&self.key, extent.offset, self.readable as u64, grown);
        }
    }

    fn is_inline(&self) -> bool {
        matches!(self.memory, Memory::Inline(_))
    }

    fn can_share_a_message(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.connection, &other.connection)
    }
}

impl Drop for GrowingBlock {
    fn drop(&mut self) {
        if self.is_open {
            // If the worker cannot be told, the connection has ended, and the worker has abandoned the block itself.
            let _ = self.connection.tell(&Request::Abandon(&[U64::new(self.slot)]));
        }
    }
}

impl fmt::Debug for GrowingBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, len, readable, .. } = self;
        f.debug_struct("GrowingBlock").field("key", key).field("len", len).field("readable", readable).finish()
    }
}
