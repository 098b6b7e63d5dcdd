//! The shared-memory arena and the life of its blocks.
//!
//! Two halves that do not know each other: [`Arena`] and [`Mapping`] are bytes (a memfd and a process's view of it),
//! [`Pool`] is bookkeeping (which bytes are free, granted, or a block's). The worker holds one of each, answers
//! clients from the pool and touches bytes only for clients that cannot map them.
//!
//! The life of a byte of the arena:
//!
//! ```text
//!            grant                 put                           withdrawn (delete, evict, expire)
//!   free ----------> granted ----------------------> sealed ------------------------------------> free
//!    ^                 |  |   create          seal     ^                       after the last pin ends
//!    |    give_back    |  +------> growing ------------+
//!    +-----------------+              |  abandoned, or its owner is gone
//!    +--------------------------------+  (after the last pin ends)
//! ```
//!
//! No sockets, no clock (the caller says what time it is), no lock (the caller has one): every rule about who may
//! read, write, evict or free what is here and can be tested by replaying calls. A pool may be shared
//! ([`Pool::shared`]): it then lists what it publishes in an index that clients read by themselves, and frees nothing
//! that one of them reads.

mod answer;
mod arena;
mod block;
mod blocks;
mod deadlines;
mod estate;
mod event;
mod evict;
mod grants;
mod id;
mod index;
mod lineage;
mod mapping;
mod memory;
mod misuse;
mod namespaces;
mod owner;
mod pool;
mod request;
mod room;
mod shown;
mod soft_pins;
mod stats;
mod touch;

pub use answer::{
    CreateOutcome, Description, Leaving, Lookup, NoRoom, Pinned, Prefix, Progress, PutOutcome, SoftPinOutcome,
};
pub use arena::{Arena, ArenaError, HugePages};
pub use estate::{Estate, Unfit};
pub use event::Event;
pub use id::{BlockId, OwnerId, SlotId};
pub use mapping::{Mapping, MappingError, OutsideArena};
pub use misuse::Misuse;
pub use namespaces::{NamespaceId, NamespaceStats};
pub use pool::{Pool, Whose};
pub use request::{CreateRecord, GrantAsk, Origin, PinWhat, PutRecord, Teller, Terms};
pub use stats::{PoolStats, Tally};
pub use touch::TouchError;
