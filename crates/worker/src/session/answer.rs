//! Does what a request asks for.

use std::ops::Range;
use std::time::Instant;

use chariot_pool::{BlockId, CreateRecord, GrantAsk, Misuse, PinWhat, PutRecord, SlotId, Teller};
use chariot_types::WorkerAddress;
use chariot_wire::{GetWhat, Header, Reply, Request};
use zerocopy::little_endian::U64;

use super::inbound::Inbound;
use super::{End, Session};
use crate::shared::State;
use crate::status::status;

impl Session {
    /// Does what one request asks for.
    pub(super) async fn answer(
        &mut self,
        header: Header,
        body: Range<usize>,
        inbound: &mut Inbound,
    ) -> Result<(), End> {
        let request = Request::decode(header.kind, inbound.body(body))?;
        let id = header.request;
        let misuse = |source: Misuse| End::Misuse { request: id, source };
        let takes_payload = matches!(request, Request::PutInline { .. } | Request::Advance(_));
        if header.payload > 0 && !(takes_payload && self.stream.is_inline()) {
            return Err(End::OutOfPlace { request: id, what: "bytes behind a message that has none" });
        }
        if needs_shared_memory(&request) && self.stream.is_inline() {
            return Err(End::OutOfPlace { request: id, what: "a message for clients that share memory" });
        }
        if self.waiting.contains_key(&id) {
            return Err(End::OutOfPlace { request: 0, what: "the id of a request that still waits" });
        }
        match request {
            Request::Hello(_) => return Err(End::OutOfPlace { request: id, what: "a second hello" }),
            Request::Exists(keys) => self.exists(id, keys),
            Request::Namespace(name) => self.enter_namespace(id, name)?,
            Request::LongestPrefix(keys) => self.longest_prefix(id, keys),
            Request::Get { what, wait, keys } => {
                let what = match what {
                    GetWhat::Sealed => PinWhat::Sealed,
                    GetWhat::Readable => PinWhat::Readable,
                };
                self.get(id, what, wait, keys);
            }
            Request::Watch { block, beyond, wait } => self.watch(id, block, beyond, wait)?,
            Request::Release(blocks) => self.release(blocks).map_err(misuse)?,
            Request::Cancel { request } => self.cancel(request),
            Request::Grant { min, want, wait } => self.grant(id, GrantAsk { min, want }, wait),
            Request::GiveBack(extent) => {
                self.shared.change(|state| state.pool.give_back(self.owner, extent)).map_err(misuse)?;
            }
            Request::Put(records) => {
                self.change_each(records, |state, record| state.put(self.owner, record)).map_err(misuse)?
            }
            Request::Create(records) => {
                let now = Instant::now();
                self.change_each(records, |state, record| {
                    let record = CreateRecord {
                        slot: SlotId(record.slot()),
                        key: record.block.block.key,
                        parent: record.block.block.parent(),
                        extent: record.block.extent(),
                        len: record.block.block.len(),
                        time_to_live: record.block.block.time_to_live(),
                        teller: Teller::Writer,
                    };
                    state.pool.create(self.owner, record, now).map(drop)
                })
                .map_err(misuse)?;
            }
            Request::Advance(steps) if self.stream.is_inline() => {
                let steps = steps.to_vec();
                self.advance_inline(&header, &steps, inbound).await?;
            }
            Request::Advance(steps) => {
                self.change_each(steps, |state, step| {
                    state.pool.advance(self.owner, SlotId(step.slot()), step.readable())
                })
                .map_err(misuse)?;
            }
            Request::Seal(slots) => {
                let now = Instant::now();
                self.forget_slots(slots);
                self.change_each(slots, |state, slot| state.pool.seal(self.owner, SlotId(slot.get()), now))
                    .map_err(misuse)?;
            }
            Request::Abandon(slots) => {
                self.forget_slots(slots);
                self.change_each(slots, |state, slot| state.pool.abandon(self.owner, SlotId(slot.get())))
                    .map_err(misuse)?;
            }
            Request::Forward { to, keys } => {
                let Ok(to) = to.parse::<WorkerAddress>() else {
                    return Err(End::OutOfPlace { request: id, what: "a forward to what is no address" });
                };
                if let Some(node) = self.shared.node() {
                    node.forward(&to, keys);
                }
            }
            Request::Flush => self.outbound.reply(id, &Reply::Done { count: 0 }),
            Request::Delete(keys) => self.delete(id, keys),
            Request::SoftPin { time, keys } => self.soft_pin(id, time, keys),
            Request::SoftUnpin(keys) => self.soft_unpin(id, keys),
            Request::Evict(what) => self.evict(id, what).await,
            Request::PutInline { wait, blocks } => {
                let blocks = blocks.to_vec();
                self.put_inline(&header, wait, &blocks, inbound).await?;
            }
            Request::CreateInline { wait, blocks } => {
                let blocks = blocks.to_vec();
                self.create_inline(id, wait, &blocks).await?;
            }
            Request::Status => {
                let json = serde_json::to_vec(&status(&self.shared)).expect("a status has only string keys");
                self.outbound.reply(id, &Reply::StatusIs(&json));
            }
        }
        Ok(())
    }

    fn release(&mut self, blocks: &[U64]) -> Result<(), Misuse> {
        if blocks.is_empty() {
            self.shared.change(|state| state.pool.look_again());
        }
        if !self.followed.is_empty() {
            for block in blocks {
                self.followed.remove(&BlockId::from_u64(block.get()));
            }
        }
        self.change_each(blocks, |state, block| state.pool.unpin(self.owner, BlockId::from_u64(block.get())))
    }

    /// Makes one change for each of `records`, all in one go, up to the first that is a misuse.
    fn change_each<R>(
        &self,
        records: &[R],
        mut change: impl FnMut(&mut State, &R) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        self.shared.change(|state| records.iter().try_for_each(|record| change(state, record)))
    }

    fn forget_slots(&mut self, slots: &[U64]) {
        if !self.slots.is_empty() {
            for slot in slots {
                self.slots.remove(&slot.get());
            }
        }
    }
}

impl State {
    fn put(&mut self, owner: chariot_pool::OwnerId, record: &chariot_wire::PutRecord) -> Result<(), Misuse> {
        let record = PutRecord {
            key: record.block.key,
            parent: record.block.parent(),
            extent: record.extent(),
            len: record.block.len(),
            time_to_live: record.block.time_to_live(),
        };
        self.pool.put(owner, record, Instant::now()).map(drop)
    }
}

fn needs_shared_memory(request: &Request<'_>) -> bool {
    matches!(request, Request::Grant { .. } | Request::GiveBack(_) | Request::Put(_) | Request::Create(_))
}
