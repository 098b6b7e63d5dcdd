//! [`Piece`]: some blocks of a load, copied by one thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::{Block, Client, ClientError, Wait};
use chariot_types::Key;

use super::job::Job;

/// A piece has about this many bytes, so that threads share a large load and a small one is not cut.
const PIECE_BYTES: usize = 4 << 20;

/// How long a thread waits for blocks to grow before it looks for other work.
const PATIENCE: Duration = Duration::from_millis(20);

pub(super) struct Piece {
    job: Arc<Job>,
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

/// What came of working on a piece.
pub(super) enum Progress {
    /// It needs no more work.
    Ended(Arc<Job>),
    /// Its blocks still grow.
    Waiting(Piece),
}

impl Piece {
    /// Finds the blocks of `job`, growing ones too, and cuts them into pieces. Blocks that are not there have failed.
    pub(super) fn find(client: &Client, job: &Arc<Job>) -> Result<Vec<Self>, ClientError> {
        let keys: Vec<Key> = job.blocks.iter().map(|block| block.key).collect();
        let found = client.follow(&keys, Wait::No)?;
        let mut arriving = Vec::with_capacity(found.len());
        for (index, block) in found.into_iter().enumerate() {
            match block {
                Some(block) => arriving.push(Arriving { index, block, layers: 0 }),
                None => job.fail(index, "a block is no longer there"),
            }
        }
        arriving.retain(|arriving| !job.is_useless(arriving.index));
        let mut pieces: Vec<Self> = Vec::new();
        let mut room = 0;
        for arriving in arriving {
            if room == 0 || pieces.is_empty() {
                pieces.push(Self { job: job.clone(), left: Vec::new(), copied: Vec::new() });
                room = PIECE_BYTES;
            }
            room = room.saturating_sub(arriving.block.len());
            pieces.last_mut().expect("one was pushed").left.push(arriving);
        }
        job.cut_into(pieces.len());
        Ok(pieces)
    }

    pub(super) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Copies what has arrived, and waits a little for the rest.
    pub(super) fn copy(mut self, client: &Client) -> Progress {
        let patience = Instant::now() + PATIENCE;
        loop {
            self.copy_readable();
            let Some(first) = self.left.first() else {
                self.check_intact();
                return Progress::Ended(self.job);
            };
            let now = Instant::now();
            if now >= self.job.deadline {
                return self.fail("a block was not complete by the deadline");
            }
            if now >= patience {
                return Progress::Waiting(self);
            }
            match first.block.wait_beyond(first.block.readable(), patience.min(self.job.deadline)) {
                Ok(chariot_client::Progress::Readable(_) | chariot_client::Progress::Sealed) => {
                    if let Err(error) = self.look_again(client) {
                        return self.fail(&error.to_string());
                    }
                }
                Ok(chariot_client::Progress::TimedOut) => {}
                Ok(chariot_client::Progress::Lost) => return self.fail("the writer of a block gave up"),
                Err(error) => return self.fail(&error.to_string()),
            }
        }
    }

    /// Copies the layers that have become readable.
    fn copy_readable(&mut self) {
        let Self { job, left, copied } = self;
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

    /// Asks how far all blocks have grown: those that are written together grow together.
    fn look_again(&mut self, client: &Client) -> Result<(), ClientError> {
        if self.left.len() == 1 {
            return Ok(());
        }
        let keys: Vec<Key> = self.left.iter().map(|arriving| arriving.block.key()).collect();
        let found = client.follow(&keys, Wait::No)?;
        for (arriving, block) in self.left.iter_mut().zip(found) {
            // A block that is gone was lost, which waiting for it will tell.
            // Nor is a pin of another connection one of the bytes that were copied so far.
            if let Some(block) = block.filter(|_| arriving.block.is_intact()) {
                arriving.block = block;
            }
        }
        Ok(())
    }

    /// Bytes that were copied after the worker was lost may have been another block's.
    fn check_intact(&self) {
        for arriving in &self.copied {
            if !arriving.block.is_intact() {
                self.job.fail(arriving.index, "the connection to the data worker ended");
            }
        }
    }

    fn fail(self, error: &str) -> Progress {
        for arriving in &self.left {
            self.job.fail(arriving.index, error);
        }
        self.check_intact();
        Progress::Ended(self.job)
    }
}
