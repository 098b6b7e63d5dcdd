//! [`Piece`]: some blocks of a load, copied by one thread.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use chariot_client::{Block, Client, ClientError, Wait};
use chariot_types::Key;

use super::job::Job;

/// A piece has about this many bytes, so that threads share a large load and a small one is not cut.
const PIECE_BYTES: usize = 4 << 20;

pub(super) struct Piece {
    job: Arc<Job>,
    is_taken_up: bool,
    /// Blocks that are not copied whole, in the order of the sequence.
    left: Vec<Arriving>,
    /// Blocks that are, still pinned: whether their bytes were theirs is known once all are copied.
    copied: Vec<Arriving>,
}

struct Arriving {
    /// The block's index in the job.
    index: usize,
    block: Block,
    /// Layers whose pages are copied.
    layers: usize,
}

/// What came of looking for blocks.
pub(super) struct Found {
    pub(super) pieces: Vec<Piece>,
    /// The first that is not there, and may be later.
    pub(super) missing: Option<usize>,
}

/// What came of working on a piece.
pub(super) enum Progress {
    /// It needs no more work.
    Ended(Arc<Job>),
    /// Some of its blocks have grown, and are to grow more.
    Grown(Piece),
    /// None of its blocks has grown.
    Waiting(Piece),
}

impl Piece {
    /// Finds the blocks `step` of `job`, growing ones too, and cuts them into pieces. A block that is not there is missed
    /// when it is the first, and no piece is left of those found before; else it may be there when these have ended.
    /// What is asked for too late has failed.
    pub(super) fn find(client: &Client, job: &Arc<Job>, step: Range<usize>) -> Result<Found, ClientError> {
        if Instant::now() >= job.deadline {
            job.fail_from(step.start, "a block was not found by the deadline");
        }
        let is_alone = job.has_no_pieces();
        let wanted: Vec<usize> = step.filter(|index| !job.has_failed(*index)).collect();
        if wanted.is_empty() {
            return Ok(Found { pieces: Vec::new(), missing: None });
        }
        let keys: Vec<Key> = wanted.iter().map(|index| job.blocks[*index].key).collect();
        let found = client.follow(&keys, Wait::No)?;
        let (mut arriving, mut missing) = (Vec::with_capacity(found.len()), None);
        for (index, block) in wanted.into_iter().zip(found) {
            match block {
                Some(block) => arriving.push(Arriving { index, block, layers: 0 }),
                None if job.has_failed(index) => {}
                None if is_alone && arriving.is_empty() => job.fail(index, "a block is no longer there"),
                None => {
                    missing = Some(index);
                    break;
                }
            }
        }
        arriving.retain(|arriving| !job.has_failed(arriving.index));
        let mut pieces: Vec<Self> = Vec::new();
        let mut room = 0;
        for arriving in arriving {
            if room == 0 || pieces.is_empty() {
                pieces.push(Self { job: job.clone(), is_taken_up: false, left: Vec::new(), copied: Vec::new() });
                room = PIECE_BYTES;
            }
            room = room.saturating_sub(arriving.block.len());
            pieces.last_mut().expect("one was pushed").left.push(arriving);
        }
        Ok(Found { pieces, missing })
    }

    pub(super) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// A thread takes it up, whether or not it was before; from where on more blocks are to be looked for now, if they are.
    pub(super) fn take_up(&mut self) -> Option<usize> {
        let was_taken_up = std::mem::replace(&mut self.is_taken_up, true);
        if was_taken_up { None } else { self.job.taken_up() }
    }

    /// Copies what has arrived; where that is nothing new, waits for it until `until`.
    pub(super) fn copy(mut self, client: &Client, until: Instant) -> Progress {
        self.copy_readable();
        let mut has_grown = self.look(client, Instant::now());
        if !has_grown && !self.left.is_empty() && Instant::now() < until.min(self.job.deadline) {
            has_grown = self.look(client, until.min(self.job.deadline));
        }
        self.copy_readable();
        if self.left.is_empty() {
            self.check_intact();
            return Progress::Ended(self.job);
        }
        if Instant::now() >= self.job.deadline {
            for arriving in &self.left {
                self.job.fail(arriving.index, "a block was not complete by the deadline");
            }
            self.check_intact();
            return Progress::Ended(self.job);
        }
        if has_grown { Progress::Grown(self) } else { Progress::Waiting(self) }
    }

    /// Looks how far the blocks have grown, and waits until `until` for the first of them; whether one has.
    ///
    /// On the worker's host a look at each costs nothing. Elsewhere it is a message, so the first stands for those that
    /// are written together with it.
    fn look(&mut self, client: &Client, until: Instant) -> bool {
        let mut has_grown = false;
        for (place, arriving) in self.left.iter().enumerate() {
            let until = if place == 0 { until } else { Instant::now() };
            match arriving.block.wait_beyond(arriving.block.readable(), until) {
                Ok(chariot_client::Progress::Readable(_) | chariot_client::Progress::Sealed) => has_grown = true,
                Ok(chariot_client::Progress::TimedOut) if place == 0 && !client.is_local() => break,
                Ok(chariot_client::Progress::TimedOut) => {}
                Ok(chariot_client::Progress::Lost) => self.job.fail(arriving.index, "the writer of a block gave up"),
                Err(error) => self.job.fail(arriving.index, &error.to_string()),
            }
        }
        self.left.retain(|arriving| !self.job.has_failed(arriving.index));
        has_grown
    }

    /// Copies the layers that have become readable.
    fn copy_readable(&mut self) {
        let Self { job, left, copied, .. } = self;
        for mut arriving in std::mem::take(left) {
            let wanted = &job.blocks[arriving.index];
            let copy = || {
                let group = job.pages.cache.group(wanted.group)?;
                if arriving.block.len() != group.block_bytes() {
                    let (given, expected) = (arriving.block.len(), group.block_bytes());
                    return Err(chariot_device::LayoutError::WrongLength { given, expected });
                }
                let bytes = arriving.block.bytes();
                let readable = group.layers_within(bytes.len());
                // SAFETY: the engine keeps the pages for this load until it is told that the load has ended.
                unsafe { group.copy_in(arriving.layers..readable, wanted.block, bytes) }?;
                Ok((readable, group.layers()))
            };
            match copy() {
                Err(error) => job.fail(arriving.index, &error.to_string()),
                Ok((readable, layers)) => {
                    arriving.layers = readable;
                    let is_whole = readable == layers;
                    if is_whole { copied.push(arriving) } else { left.push(arriving) }
                }
            }
        }
    }

    /// Bytes that were copied after the worker was lost may have been another block's.
    fn check_intact(&self) {
        for arriving in &self.copied {
            if !arriving.block.is_intact() {
                self.job.fail(arriving.index, "the connection to the data worker ended");
            }
        }
    }
}
