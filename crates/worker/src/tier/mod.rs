//! [`Tier`]: the worker's part on a local disk. It composes what does not know each other: the pool and the spill.
//!
//! - `out`: blocks leave memory ahead of need, so that room is there when it is wanted and nobody waits for the disk.
//! - `back`: blocks come back into memory when they are wanted.
//!
//! A block on the disk, or on its way there, is here for all who ask: sessions, and other workers of a cluster. The disk is
//! asked before the others are.
//!
//! The spill is called under the pool's lock, where both must change together. It never calls while it holds its own.

mod back;
mod out;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chariot_pool::{Lookup, OwnerId};
use chariot_ssd::{Beginning, Closed, Recovered, Spill, SpillConfig, spill_capacity, spill_path};
use chariot_types::Key;
use chariot_wire::SpillStatus;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::Change;
use crate::shared::Shared;
use crate::{Tenant, WorkerError};
use back::Loading;
pub(crate) use back::{Brought, Then};
pub(crate) use out::keep_room;

/// Where blocks go for which memory has no room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpillTo {
    /// The folder of the worker's file.
    pub directory: PathBuf,
    /// Bytes of the file; `None` for as many as it has, or half of what is free.
    pub size_limit: Option<u64>,
}

impl SpillTo {
    /// A tenant's part, as large as its part of the memory.
    pub(crate) fn part(&self, tenant: &Tenant, all: &[Tenant]) -> Self {
        let memory: u128 = all.iter().map(|tenant| u128::from(tenant.shared_memory)).sum();
        let part = |bytes: u64| u64::try_from(u128::from(bytes) * u128::from(tenant.shared_memory) / memory.max(1));
        Self {
            directory: self.directory.join(tenant.name.as_str()),
            size_limit: self.size_limit.map(|bytes| part(bytes).expect("a part is no larger than the whole")),
        }
    }
}

/// How long the disk may take to write what waits when the worker ends.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// The part of the arena that is kept free for those who want room, and that may wait to be written.
const RESERVE: u64 = 16;
const MOST_RESERVE: u64 = 512 << 20;
/// In a small arena a larger part, because a block must find room in one piece.
const LEAST_RESERVE: u64 = 8 << 20;
const LARGEST_PART: u64 = 4;

/// The worker's part on a local disk.
pub(crate) struct Tier {
    shared: Weak<Shared>,
    spill: Spill,
    path: PathBuf,
    engine: &'static str,
    /// Has pinned what is on its way to the disk.
    owner: OwnerId,
    /// Bytes that are kept free.
    reserve: u64,
    /// Bytes that will be free when what is on its way is written.
    leaving: Arc<AtomicU64>,
    room_is_short: Notify,
    /// Whether the change under way makes room. Under the pool's lock.
    is_making_room: AtomicBool,
    // Held for moments, and never together with another lock.
    loading: Mutex<HashMap<Key, Loading>>,
    /// What is to come back as soon as there is room for it: each block and its bytes. Under the pool's lock, or for moments.
    parked: Mutex<Vec<(Key, u64)>>,
    /// Bytes of that. Changes under the pool's lock.
    awaited: AtomicU64,
}

impl Tier {
    /// Opens the worker's file, or makes it, and finds what it holds.
    pub(crate) fn open(shared: &Arc<Shared>, to: &SpillTo) -> Result<Arc<Self>, WorkerError> {
        let directory_error = |source| WorkerError::SpillDirectory { path: to.directory.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&to.directory).map_err(directory_error)?;
        let path = spill_path(&to.directory, &shared.address.to_string());
        let capacity = to.size_limit.map_or_else(|| spill_capacity(&path), Ok)?;
        let reserve = reserve(shared.arena.len());
        let queue = SpillConfig::USUAL_QUEUE.min(reserve);
        let config = SpillConfig { queue, ..SpillConfig::new(&path, capacity) };
        let weak = Arc::downgrade(shared);
        let (spill, recovered) = Spill::open(&config, {
            let weak = weak.clone();
            move |keys| note_gone(&weak, keys)
        })?;
        let Recovered { beginning, blocks, bytes, took, engine } = recovered;
        match beginning {
            Beginning::New | Beginning::Continued => {
                tracing::info!(path = %path.display(), capacity, blocks, bytes, ?took, engine, "the spill is open");
            }
            Beginning::OtherVersion { .. } | Beginning::Damaged | Beginning::OtherDivision => {
                tracing::warn!(path = %path.display(), capacity, ?beginning, engine, "the spill is begun anew");
            }
        }
        Ok(Arc::new(Self {
            shared: weak,
            spill,
            path,
            engine,
            owner: shared.next_session(),
            reserve,
            leaving: Arc::default(),
            room_is_short: Notify::new(),
            is_making_room: AtomicBool::new(false),
            loading: Mutex::default(),
            parked: Mutex::default(),
            awaited: AtomicU64::new(0),
        }))
    }

    /// Whether a block is on the disk, or on its way there.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.spill.holds(key)
    }

    /// All blocks that are, in steps; as [`Spill::keys`].
    pub(crate) fn keys(&self, step: usize) -> (Vec<Key>, Option<usize>) {
        self.spill.keys(step)
    }

    /// Removes a block from the disk, and from what comes back from there; whether there was one. Not to be called under
    /// the pool's lock.
    pub(crate) fn remove(&self, key: &Key) -> bool {
        if let Some(loading) = self.loading.lock().get_mut(key) {
            loading.is_removed = true;
        }
        self.spill.remove(key)
    }

    /// How it stands.
    pub(crate) fn status(&self) -> SpillStatus {
        let stats = self.spill.stats();
        SpillStatus {
            file: self.path.display().to_string(),
            engine: self.engine.to_owned(),
            takes_more: self.spill.room() > 0,
            capacity_bytes: stats.capacity,
            blocks: stats.blocks,
            bytes: stats.bytes,
            coming: stats.coming,
            stored: stats.stored,
            stored_bytes: stats.stored_bytes,
            kept: stats.kept,
            dropped: stats.dropped,
            hits: stats.hits,
            hit_bytes: stats.hit_bytes,
            misses: stats.misses,
            corrupt: stats.corrupt,
            late: stats.late,
            read_errors: stats.read_errors,
            write_errors: stats.write_errors,
            reclaimed: stats.reclaimed,
            removed: stats.removed,
        }
    }

    /// Writes what waits, if the disk does that in time, and ends.
    pub(crate) fn close(&self) {
        if self.spill.close(CLOSE_PATIENCE) == Closed::Unfinished {
            tracing::warn!(path = %self.path.display(), "the disk did not write all in time: what was waiting is dropped");
        }
    }
}

/// What is kept free of an arena of `len` bytes.
fn reserve(len: u64) -> u64 {
    (len / RESERVE).max(LEAST_RESERVE.min(len / LARGEST_PART)).min(MOST_RESERVE)
}

/// Tells the others that blocks are gone from the disk, unless they are in memory.
fn note_gone(shared: &Weak<Shared>, keys: Vec<Key>) {
    let Some(shared) = shared.upgrade() else { return };
    let Some(node) = shared.node() else { return };
    let now = Instant::now().into_std();
    // Under the pool's lock, as all that is noted.
    let state = shared.state();
    let is_gone = |key: &Key| state.pool.lookup(key, now) == Lookup::Miss;
    node.note(keys.into_iter().filter(is_gone).map(Change::Went));
}
