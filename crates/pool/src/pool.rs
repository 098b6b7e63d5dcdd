//! [`Pool`]: who holds which bytes of the arena, and what can be found in it.

use std::time::Instant;

use chariot_types::{Extent, Key};

use crate::{
    BlockId, CreateOutcome, CreateRecord, Event, GrantAsk, Lookup, Misuse, NoRoom, OwnerId, PinWhat, Pinned, PoolStats,
    Prefix, Progress, PutOutcome, PutRecord, SlotId,
};

/// Who holds which bytes of the arena, and what can be found in it.
#[derive(Debug)]
pub struct Pool {}

#[allow(unused_variables, missing_docs)]
impl Pool {
    pub fn new(capacity: u64) -> Self {
        unimplemented!()
    }
    pub fn grant(&mut self, owner: OwnerId, ask: GrantAsk, now: Instant) -> Result<Extent, NoRoom> {
        unimplemented!()
    }
    pub fn give_back(&mut self, owner: OwnerId, extent: Extent) -> Result<(), Misuse> {
        unimplemented!()
    }
    pub fn put(&mut self, owner: OwnerId, record: PutRecord, now: Instant) -> Result<PutOutcome, Misuse> {
        unimplemented!()
    }
    pub fn create(&mut self, owner: OwnerId, record: CreateRecord, now: Instant) -> Result<CreateOutcome, Misuse> {
        unimplemented!()
    }
    pub fn advance(&mut self, owner: OwnerId, slot: SlotId, readable: u64) -> Result<(), Misuse> {
        unimplemented!()
    }
    pub fn seal(&mut self, owner: OwnerId, slot: SlotId, now: Instant) -> Result<(), Misuse> {
        unimplemented!()
    }
    pub fn abandon(&mut self, owner: OwnerId, slot: SlotId) -> Result<(), Misuse> {
        unimplemented!()
    }
    pub fn lookup(&self, key: &Key, now: Instant) -> Lookup {
        unimplemented!()
    }
    pub fn longest_prefix(&self, keys: &[Key], now: Instant) -> Prefix {
        unimplemented!()
    }
    pub fn pin(&mut self, owner: OwnerId, key: &Key, what: PinWhat, now: Instant) -> Option<Pinned> {
        unimplemented!()
    }
    pub fn unpin(&mut self, owner: OwnerId, block: BlockId) -> Result<(), Misuse> {
        unimplemented!()
    }
    pub fn progress(&self, block: BlockId) -> Option<Progress> {
        unimplemented!()
    }
    pub fn delete(&mut self, key: &Key, now: Instant) -> bool {
        unimplemented!()
    }
    pub fn drop_owner(&mut self, owner: OwnerId) {
        unimplemented!()
    }
    pub fn expire(&mut self, now: Instant) -> usize {
        unimplemented!()
    }
    pub fn take_events(&mut self) -> Vec<Event> {
        unimplemented!()
    }
    pub fn stats(&self) -> PoolStats {
        unimplemented!()
    }
}
