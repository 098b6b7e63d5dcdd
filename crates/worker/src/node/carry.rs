//! Blocks of the pool as the fabric reads and writes them.
//!
//! A block that is sent stays pinned until all of it is on its way. One that is received is a growing block like any other:
//! readers on this host follow it while it comes.

use std::sync::Arc;

use chariot_fabric::{Asker, Away, Fabric, Growth, Look, Sink, Source};
use chariot_pool::{
    BlockId, CreateOutcome, CreateRecord, GrantAsk, Lookup, Origin, OwnerId, PinWhat, Progress, SlotId, Teller, Terms,
};
use chariot_types::{Extent, Key, NamespaceName, RunId};
use chariot_wire::{InlineRecord, PeerBlock};
use tokio::time::Instant;

use super::Node;
use crate::shared::{Shared, State};
use crate::waiters::{Inbox, Topic};

/// The one slot of an owner that writes one block.
const SLOT: SlotId = SlotId(0);

impl Node {
    /// The block under `key`, to be sent as far as it is here and as it grows.
    pub(super) fn source(&self, key: &Key) -> Option<Outgoing> {
        let shared = self.shared.clone();
        let (owner, now) = (shared.next_session(), Instant::now().into_std());
        let (pinned, record, namespace) = shared.change(|state| {
            // Whether it is there is asked first, so that a miss of another's is not counted as one of a client's.
            if state.pool.lookup(key, now) == Lookup::Miss {
                return None;
            }
            let pinned = state.pool.pin(owner, key, PinWhat::Readable, now)?;
            let block = state.pool.describe(pinned.block, now)?;
            let namespace = state.pool.namespace_name(block.namespace).clone();
            Some((pinned, InlineRecord::new(block.key, block.parent, block.len, block.time_to_live), namespace))
        })?;
        let source = PinnedBlock { shared, owner, block: pinned.block, extent: pinned.extent, len: pinned.len };
        Some(Outgoing { record, namespace, source: Box::new(source) })
    }

    /// A place for a block that comes; `None` if it is here already, or there is no room for it.
    pub(super) fn sink(&self, coming: &PeerBlock<'_>, origin: Origin) -> Option<Box<dyn Sink>> {
        let shared = self.shared.clone();
        let owner = shared.next_session();
        let extent = shared.change(|state| {
            let created = create(state, owner, coming, origin);
            if created.is_none() {
                state.pool.drop_owner(owner);
            }
            created
        })?;
        Some(Box::new(ComingBlock { shared, owner, extent, len: coming.block.len() }))
    }
}

fn create(state: &mut State, owner: OwnerId, coming: &PeerBlock<'_>, origin: Origin) -> Option<Extent> {
    let PeerBlock { block, namespace } = coming;
    let now = Instant::now().into_std();
    if state.pool.lookup(&block.key, now) != Lookup::Miss {
        return None;
    }
    let room = Extent::room_for(block.len())?;
    let namespace = state.pool.namespace(&namespace.parse().unwrap_or_default());
    state.pool.agree(owner, Terms { origin, namespace });
    let extent = state.pool.grant(owner, GrantAsk { min: room, want: room }, now).ok()?;
    let (key, parent, len) = (block.key, block.parent(), block.len());
    let time_to_live = block.time_to_live();
    let record = CreateRecord { slot: SLOT, key, parent, extent, len, time_to_live, teller: Teller::Pool };
    match state.pool.create(owner, record, now) {
        Ok(CreateOutcome::Growing) => Some(extent),
        Ok(CreateOutcome::AlreadyPresent) | Err(_) => None,
    }
}

/// A block to be sent.
pub(super) struct Outgoing {
    record: InlineRecord,
    namespace: NamespaceName,
    source: Box<dyn Source>,
}

impl Outgoing {
    /// To another worker that has asked for it.
    pub(super) fn answer(self, asker: &Asker) {
        asker.open(&PeerBlock { block: self.record, namespace: self.namespace.as_str() }, self.source);
    }

    /// To another worker that has not.
    pub(super) fn offer(self, fabric: &Fabric, to: RunId) -> Result<(), Away> {
        fabric.offer(to, &PeerBlock { block: self.record, namespace: self.namespace.as_str() }, self.source)
    }
}

/// A block that is sent.
struct PinnedBlock {
    shared: Arc<Shared>,
    owner: OwnerId,
    block: BlockId,
    extent: Extent,
    len: u64,
}

impl Source for PinnedBlock {
    fn look(&mut self, sent: u64, growth: &Growth) -> Look {
        let mut state = self.shared.state();
        let readable = match state.pool.progress(self.block) {
            Some(Progress::Sealed) => self.len,
            Some(Progress::Growing { readable }) => readable,
            Some(Progress::Lost) | None => return Look::Lost,
        };
        match readable.checked_sub(sent) {
            Some(0) | None if readable == self.len && state.pool.progress(self.block) == Some(Progress::Sealed) => {
                Look::Whole
            }
            Some(0) | None => {
                let inbox = Inbox::Stream(growth.clone());
                state.waiters.enrol(Topic::Block(self.block), self.owner.0, 0, inbox);
                Look::NotYet
            }
            Some(more) => Look::More(more),
        }
    }

    fn bytes(&self, offset: u64, len: u64) -> &[u8] {
        let extent = Extent { offset: self.extent.offset + offset, len };
        // SAFETY: readable bytes of a block that this has pinned.
        unsafe { self.shared.arena.bytes(extent) }.expect("the pool keeps to the arena")
    }
}

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.waiters.strike(Topic::Block(self.block), self.owner.0, 0);
            state.pool.drop_owner(self.owner);
        });
    }
}

/// A block that is received.
struct ComingBlock {
    shared: Arc<Shared>,
    owner: OwnerId,
    extent: Extent,
    len: u64,
}

impl Sink for ComingBlock {
    fn len(&self) -> u64 {
        self.len
    }

    fn room(&mut self, offset: u64, len: u64) -> &mut [u8] {
        let extent = Extent { offset: self.extent.offset + offset, len };
        // SAFETY: a part of this owner's growing block that is not readable yet, and `self` is borrowed for as long.
        unsafe { self.shared.arena.bytes_mut(extent) }.expect("the pool keeps to the arena")
    }

    fn advance(&mut self, readable: u64) {
        let advanced = self.shared.change(|state| state.pool.advance(self.owner, SLOT, readable));
        debug_assert!(advanced.is_ok(), "the fabric counts what it has received");
    }

    fn seal(self: Box<Self>) {
        let now = Instant::now().into_std();
        let sealed = self.shared.change(|state| state.pool.seal(self.owner, SLOT, now));
        debug_assert!(sealed.is_ok(), "the slot is open until it is sealed");
    }
}

impl Drop for ComingBlock {
    fn drop(&mut self) {
        // A block that is not sealed is lost with its owner.
        self.shared.change(|state| state.pool.drop_owner(self.owner));
    }
}
