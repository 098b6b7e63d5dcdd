//! [`Step`]: the blocks of one forward pass on their way to the data worker.
//!
//! Two threads work on a step: the saver's own, which opens it and copies layers as they become ready, and the engine's,
//! which helps once the forward pass is over. A layer is copied by whoever takes it from the queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use chariot_client::{Client, ClientError, GrowingBlock, Reserve, Room};
use chariot_device::LayoutError;
use chariot_types::Key;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::forward::Forward;
use crate::connector::pages::Pages;
use crate::describe::describe;

/// A block of pages and the key under which to keep it.
pub(super) struct PlannedBlock {
    pub(super) group: usize,
    pub(super) block: usize,
    pub(super) key: Key,
    pub(super) parent: Option<Key>,
}

/// What became of a step's blocks.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) saved: usize,
    pub(super) present: usize,
    pub(super) dropped: usize,
    pub(super) bytes: usize,
    pub(super) error: Option<String>,
}

pub(super) struct Step {
    client: Client,
    pages: Arc<Pages>,
    planned: Vec<PlannedBlock>,
    forwards: Vec<Forward>,
    /// Held for a few loads and stores; never while bytes are copied or the worker is asked.
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    /// Layers that can be copied, each `(group, layer)`.
    ready: VecDeque<(usize, usize)>,
    /// By group and layer, how far the layer has come.
    layers: Vec<Vec<Layer>>,
    /// Layers that are being copied.
    copying: usize,
    /// Blocks that were there before.
    present: usize,
    error: Option<String>,
}

enum Phase {
    /// The worker has not given room yet.
    Opening,
    /// Layers are copied as they become ready.
    Open(Arc<Targets>),
    /// The step is over, or was never possible: what is ready no longer matters.
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Computing,
    Ready,
    Copied,
}

/// The room for the blocks.
struct Targets {
    /// By group: where each block's bytes go.
    rows: Vec<Vec<Row>>,
    /// By group: the right to write its blocks. Locked by whoever tells the worker about them, in that order.
    growing: Vec<Mutex<Vec<GrowingBlock>>>,
}

struct Row {
    block: usize,
    /// The first byte of the block's room, which the `GrowingBlock` of the same index owns.
    target: AtomicPtr<u8>,
}

impl Step {
    /// A step that saves `planned` from `pages` and forwards `forwards`; refused when a block or group is not among the
    /// pages.
    pub(super) fn new(
        client: Client,
        pages: Arc<Pages>,
        planned: Vec<PlannedBlock>,
        forwards: Vec<Forward>,
    ) -> Result<Self, LayoutError> {
        for block in &planned {
            pages.cache.group(block.group)?.check_block(block.block)?;
        }
        let groups = (0..pages.cache.groups()).map(|index| pages.cache.group(index));
        let layers = groups.map(|group| Ok(vec![Layer::Computing; group?.layers()])).collect::<Result<_, _>>()?;
        let state =
            State { phase: Phase::Opening, ready: VecDeque::new(), layers, copying: 0, present: 0, error: None };
        Ok(Self { client, pages, planned, forwards, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// The saver's thread: opens the step and copies layers until the step is over.
    pub(super) fn carry(&self) {
        let _end = EndOnPanic(self);
        let opened = self.open();
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Opening) {
            return; // Given up meanwhile.
        }
        match opened {
            Ok((targets, present)) => {
                state.present = present;
                state.phase = Phase::Open(Arc::new(targets));
            }
            Err(error) => {
                state.error = Some(describe(&error));
                state.phase = Phase::Over;
            }
        }
        self.changed.notify_all();
        loop {
            let Phase::Open(targets) = &state.phase else { return };
            let targets = targets.clone();
            match state.ready.pop_front() {
                Some((group, layer)) => {
                    state = self.copy(state, &targets, group, layer);
                    let readable = layers_readable(&state.layers[group]);
                    MutexGuard::unlocked(&mut state, || self.advance(&targets, group, readable));
                }
                None => {
                    drop(targets);
                    self.changed.wait(&mut state);
                }
            }
        }
    }

    /// Queues a layer that the model has written.
    pub(super) fn layer_ready(&self, group: usize, layer: usize) {
        let mut state = self.state.lock();
        let Some(progress) = state.layers.get_mut(group).and_then(|layers| layers.get_mut(layer)) else { return };
        if *progress == Layer::Computing {
            *progress = Layer::Ready;
            state.ready.push_back((group, layer));
            self.changed.notify_one();
        }
    }

    /// The engine's thread, after the forward pass: copies what is left, seals the blocks and sees to it that others
    /// find them.
    pub(super) fn finish(&self) -> Outcome {
        let mut state = self.state.lock();
        while matches!(state.phase, Phase::Opening) {
            self.changed.wait(&mut state);
        }
        let Phase::Open(targets) = &state.phase else {
            return Outcome { dropped: self.planned.len(), error: state.error.take(), ..Outcome::default() };
        };
        let targets = targets.clone();
        let left = state.layers.iter().enumerate().flat_map(|(group, layers)| {
            let left = layers.iter().enumerate().filter(|(_, layer)| **layer == Layer::Computing);
            left.map(move |(layer, _)| (group, layer))
        });
        let left: Vec<_> = left.collect();
        state.ready.extend(left);
        while let Some((group, layer)) = state.ready.pop_front() {
            state = self.copy(state, &targets, group, layer);
        }
        while state.copying > 0 {
            self.changed.wait(&mut state);
        }
        state.phase = Phase::Over;
        self.changed.notify_all();
        let (present, error) = (state.present, state.error.take());
        drop(state);
        self.seal(&targets, present, error)
    }

    /// Ends the step without sealing: its blocks are abandoned.
    pub(super) fn give_up(&self) {
        self.state.lock().phase = Phase::Over;
        self.changed.notify_all();
    }

    /// Asks for room for the blocks that are not there yet, and forwards those that have a reader. When there is not enough
    /// room, the front half is tried, and so on: the beginning of a prompt is of use without its end.
    fn open(&self) -> Result<(Targets, usize), ClientError> {
        let keys: Vec<Key> = self.planned.iter().map(|block| block.key).collect();
        let found = self.client.holds(&keys)?;
        let missing: Vec<&PlannedBlock> =
            self.planned.iter().zip(&found).filter(|(_, is_there)| !**is_there).map(|(block, _)| block).collect();
        let present = self.planned.len() - missing.len();
        let mut wanted = &missing[..];
        loop {
            match self.reserve(wanted) {
                Ok(targets) => {
                    self.forwards.iter().try_for_each(|forward| forward.tell(&self.client))?;
                    return Ok((targets, present));
                }
                Err(ClientError::NoRoom { .. }) if wanted.len() > 1 => wanted = &wanted[..wanted.len() / 2],
                Err(error) => return Err(error),
            }
        }
    }

    fn reserve(&self, wanted: &[&PlannedBlock]) -> Result<Targets, ClientError> {
        let cache = &self.pages.cache;
        let mut targets = Targets { rows: Vec::new(), growing: Vec::new() };
        for group in 0..cache.groups() {
            let len = cache.group(group).map_or(0, |group| group.block_bytes()) as u64;
            let wanted: Vec<_> = wanted.iter().filter(|block| block.group == group).collect();
            let blocks: Vec<_> = wanted
                .iter()
                .map(|block| Reserve { key: block.key, parent: block.parent, len, time_to_live: None })
                .collect();
            let mut growing = if blocks.is_empty() { Vec::new() } else { self.client.reserve(&blocks, Room::Now)? };
            let rows = wanted.iter().zip(&mut growing);
            targets.rows.push(
                rows.map(|(block, target)| Row { block: block.block, target: AtomicPtr::new(target.as_mut_ptr()) })
                    .collect(),
            );
            targets.growing.push(Mutex::new(growing));
        }
        Ok(targets)
    }

    /// Copies one layer of all blocks, with the state unlocked.
    fn copy<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        targets: &Targets,
        group: usize,
        layer: usize,
    ) -> MutexGuard<'a, State> {
        state.copying += 1;
        let copied = MutexGuard::unlocked(&mut state, || self.copy_layer(targets, group, layer));
        state.copying -= 1;
        state.layers[group][layer] = Layer::Copied;
        if let Err(error) = copied {
            state.error = Some(error.to_string());
        }
        self.changed.notify_all();
        state
    }

    fn copy_layer(&self, targets: &Targets, group: usize, layer: usize) -> Result<(), LayoutError> {
        let pages = self.pages.cache.group(group)?;
        for row in &targets.rows[group] {
            // SAFETY: the room has `block_bytes` bytes and is the `GrowingBlock`'s, which `targets` keeps; a layer is
            // copied once, by whoever took it from the queue; and the engine does not write to a layer's pages
            // between declaring it ready and the end of the step.
            unsafe { pages.copy_out(layer..layer + 1, row.block, row.target.load(Ordering::Relaxed)) }?;
        }
        Ok(())
    }

    /// Lets others read the first `layers` layers of the group's blocks.
    fn advance(&self, targets: &Targets, group: usize, layers: usize) {
        let Ok(pages) = self.pages.cache.group(group) else { return };
        let readable = pages.end_of_layers(layers);
        let mut growing = targets.growing[group].lock();
        if growing.first().is_some_and(|block| block.readable() < readable) {
            // A lost connection is told by the seal.
            let _ = GrowingBlock::advance_all(&mut growing, readable);
        }
    }

    fn seal(&self, targets: &Targets, present: usize, error: Option<String>) -> Outcome {
        let mut outcome = Outcome { present, error, ..Outcome::default() };
        let mut blocks: Vec<_> =
            targets.growing.iter().flat_map(|growing| std::mem::take(&mut *growing.lock())).collect();
        if outcome.error.is_some() {
            blocks.clear(); // Some page could not be copied: none of them may be read.
        }
        let (saved, bytes) = (blocks.len(), blocks.iter().map(GrowingBlock::len).sum());
        let sealed =
            if blocks.is_empty() { Ok(()) } else { GrowingBlock::seal_all(blocks).and_then(|()| self.client.flush()) };
        match sealed {
            Ok(()) => (outcome.saved, outcome.bytes) = (saved, bytes),
            Err(error) => outcome.error = Some(describe(&error)),
        }
        outcome.dropped = self.planned.len() - present - outcome.saved;
        if outcome.dropped > 0 && outcome.error.is_none() {
            outcome.error = Some("the pool has no room for all blocks".to_owned());
        }
        outcome
    }
}

/// Ends the step should its thread panic, so that nobody waits for it.
struct EndOnPanic<'a>(&'a Step);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.give_up();
        }
    }
}

/// How many layers are copied, from the first on.
fn layers_readable(layers: &[Layer]) -> usize {
    layers.iter().take_while(|layer| **layer == Layer::Copied).count()
}
