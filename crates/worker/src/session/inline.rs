//! Puts of clients that do not share memory: their bytes are received straight into the arena.

use std::time::{Duration, Instant};

use chariot_pool::{CreateRecord, GrantAsk, Misuse, NoRoom, PutRecord, SlotId, Teller};
use chariot_types::Extent;
use chariot_wire::{CreateInlineRecord, Header, InlineRecord, Refusal, Reply, SlotReadable};

use super::inbound::Inbound;
use super::{End, Session};

/// More growing blocks than this on one connection are refused.
const MAX_SLOTS: usize = 1 << 16;

/// A growing block that the client writes.
pub(super) struct InlineSlot {
    extent: Extent,
    len: u64,
    readable: u64,
}

impl Session {
    pub(super) async fn put_inline(
        &mut self,
        header: &Header,
        wait: u64,
        blocks: &[InlineRecord],
        inbound: &mut Inbound,
    ) -> Result<(), End> {
        let request = header.request;
        let misuse = |source: Misuse| End::Misuse { request, source };
        let announced = blocks.iter().try_fold(0u64, |sum, block| sum.checked_add(block.len()));
        if announced != Some(header.payload) {
            return Err(End::OutOfPlace { request, what: "the blocks of a put are not as long as its payload" });
        }
        let deadline = Instant::now() + Duration::from_micros(wait);
        let mut left = header.payload;
        for block in blocks {
            let extent = match self.room_inline(block.len(), deadline).await {
                Ok(extent) => extent,
                Err(no_room) => {
                    inbound.discard(&self.stream, left).await?;
                    self.refuse_room(request, no_room);
                    return Ok(());
                }
            };
            self.receive_block(inbound, Extent { offset: extent.offset, len: block.len() }).await?;
            left -= block.len();
            let (key, parent, len) = (block.key, block.parent(), block.len());
            let record = PutRecord { key, parent, extent, len, time_to_live: block.time_to_live() };
            self.shared.change(|state| state.pool.put(self.owner, record, Instant::now())).map_err(misuse)?;
        }
        self.outbound.reply(request, &Reply::Done { count: blocks.len() as u64 });
        Ok(())
    }

    pub(super) async fn create_inline(
        &mut self,
        request: u64,
        wait: u64,
        blocks: &[CreateInlineRecord],
    ) -> Result<(), End> {
        if self.slots.len() + blocks.len() > MAX_SLOTS {
            self.refuse(request, Refusal::TooMany, "too many growing blocks on one connection");
            return Ok(());
        }
        let misuse = |source: Misuse| End::Misuse { request, source };
        let deadline = Instant::now() + Duration::from_micros(wait);
        let mut created = Vec::with_capacity(blocks.len());
        for record in blocks {
            let (slot, block) = (record.slot(), &record.block);
            let extent = match self.room_inline(block.len(), deadline).await {
                Ok(extent) => extent,
                Err(no_room) => {
                    self.abandon_inline(created);
                    self.refuse_room(request, no_room);
                    return Ok(());
                }
            };
            let (key, parent, len) = (block.key, block.parent(), block.len());
            let time_to_live = block.time_to_live();
            let create =
                CreateRecord { slot: SlotId(slot), key, parent, extent, len, time_to_live, teller: Teller::Pool };
            self.shared.change(|state| state.pool.create(self.owner, create, Instant::now())).map_err(misuse)?;
            self.slots.insert(slot, InlineSlot { extent, len, readable: 0 });
            created.push(slot);
        }
        self.outbound.reply(request, &Reply::Done { count: created.len() as u64 });
        Ok(())
    }

    pub(super) async fn advance_inline(
        &mut self,
        header: &Header,
        steps: &[SlotReadable],
        inbound: &mut Inbound,
    ) -> Result<(), End> {
        let request = header.request;
        let out_of_place = |what| End::OutOfPlace { request, what };
        let [step] = steps else { return Err(out_of_place("one block at a time advances over tcp")) };
        let slot = self.slots.get(&step.slot()).ok_or_else(|| out_of_place("no such growing block"))?;
        let grows_by = step.readable().checked_sub(slot.readable);
        if grows_by != Some(header.payload) || step.readable() > slot.len {
            return Err(out_of_place("an advance is not as long as its payload, or longer than its block"));
        }
        let target = Extent { offset: slot.extent.offset + slot.readable, len: header.payload };
        self.receive_block(inbound, target).await?;
        if let Some(slot) = self.slots.get_mut(&step.slot()) {
            slot.readable = step.readable();
        }
        self.shared
            .change(|state| state.pool.advance(self.owner, SlotId(step.slot()), step.readable()))
            .map_err(|source| End::Misuse { request, source })
    }

    async fn receive_block(&self, inbound: &mut Inbound, target: Extent) -> Result<(), End> {
        // SAFETY: room granted to this session, or the unreadable part of its growing block: nobody else's.
        let target = unsafe { self.shared.arena.bytes_mut(target) }.expect("the pool keeps to the arena");
        inbound.receive_exact(&self.stream, target).await
    }

    /// Room for one block, waiting for it until the deadline. Others are served meanwhile; this client's later
    /// requests are not, because the bytes of this one are in their way.
    async fn room_inline(&self, len: u64, deadline: Instant) -> Result<Extent, NoRoom> {
        let capacity = self.shared.arena.len();
        let room = Extent::room_for(len).filter(|room| *room <= capacity).ok_or(NoRoom::NeverFits { capacity })?;
        loop {
            let mut freed = std::pin::pin!(self.shared.room_freed.notified());
            freed.as_mut().enable();
            let ask = GrantAsk { min: room, want: room };
            match self.shared.change(|state| state.pool.grant(self.owner, ask, Instant::now())) {
                Err(NoRoom::Full) if Instant::now() < deadline => {
                    let _ = tokio::time::timeout_at(deadline.into(), freed).await;
                }
                answer => return answer,
            }
        }
    }

    fn abandon_inline(&mut self, slots: Vec<u64>) {
        for slot in slots {
            self.slots.remove(&slot);
            // It was created a moment ago.
            let _ = self.shared.change(|state| state.pool.abandon(self.owner, SlotId(slot)));
        }
    }
}
