//! Answers that need no message: what the worker's index shows to a client on its host.
//!
//! Where the index leaves a doubt, the worker is asked instead: so where a client might see less, or older things, than
//! it did itself. Its one-way messages take a moment to arrive; until an answer has followed them, only whole blocks
//! are believed, because no one-way message makes those go.

use std::sync::Arc;

use chariot_index::{Found, Pinning, Want};
use chariot_pool::Prefix;
use chariot_types::Key;
use chariot_wire::GetWhat;

use crate::Block;
use crate::connection::{Connection, Payload};
use crate::local::Local;

/// Whether those who get wait for what is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IfMissing {
    /// A miss will do.
    Miss,
    /// It is looked for until it comes.
    Wait,
}

/// What a get found by itself. Of one that waits for whole blocks, those that still grow are among it.
#[derive(Default, Debug)]
pub(crate) struct Glance {
    /// One entry a key.
    pub(crate) blocks: Vec<Option<Block>>,
    /// The keys that are not there and are waited for, and their places in `blocks`.
    pub(crate) missing: Vec<(usize, Key)>,
    /// The keys of which only the worker knows, and their places in `blocks`.
    pub(crate) unsure: Vec<(usize, Key)>,
}

/// Which of `keys` are there, whole; `None` when the worker must be asked.
pub(crate) fn exists(connection: &Connection, keys: &[Key]) -> Option<Vec<bool>> {
    let (local, is_settled) = sight(connection)?;
    let is_whole = |key| match local.find(key) {
        Found::Listed(listing) if listing.sealed => Some(true),
        Found::Listed(_) | Found::Absent if is_settled => Some(false),
        _ => None,
    };
    keys.iter().map(is_whole).collect()
}

/// Which of `keys` are shown whole, here; `None` when nothing is shown to this client.
pub(crate) fn holds(connection: &Connection, keys: &[Key]) -> Option<Vec<bool>> {
    let (local, _) = sight(connection)?;
    let is_whole = |key| matches!(local.find(key), Found::Listed(listing) if listing.sealed);
    Some(keys.iter().map(is_whole).collect())
}

/// How many leading `keys` are there; `None` when the worker must be asked.
pub(crate) fn longest_prefix(connection: &Connection, keys: &[Key]) -> Option<Prefix> {
    let (local, is_settled) = sight(connection)?;
    let mut prefix = Prefix::default();
    for key in keys {
        match local.find(key) {
            Found::Listed(listing) if listing.sealed => {
                prefix.sealed += usize::from(prefix.sealed == prefix.present);
            }
            Found::Listed(_) if is_settled => {}
            Found::Absent if is_settled => break,
            _ => return None,
        }
        prefix.present += 1;
    }
    Some(prefix)
}

/// Pins what is there, and what is there in part if that will do or is waited for.
pub(crate) fn get(connection: &Arc<Connection>, what: GetWhat, keys: &[Key], if_missing: IfMissing) -> Glance {
    let mut glance = Glance { blocks: Vec::with_capacity(keys.len()), missing: Vec::new(), unsure: Vec::new() };
    let Some((local, is_settled)) = sight(connection) else {
        glance.blocks.resize_with(keys.len(), || None);
        glance.unsure = keys.iter().copied().enumerate().collect();
        return glance;
    };
    let want = match what {
        // Who waits follows what grows, and learns what comes of it, whatever this client has done to it.
        GetWhat::Sealed if if_missing == IfMissing::Wait => Want::Readable,
        GetWhat::Readable if is_settled => Want::Readable,
        _ => Want::Whole,
    };
    let mut misses = 0;
    for (place, key) in keys.iter().enumerate() {
        let block = match local.pin(key, want) {
            Pinning::Pinned(listing, held) => Block::pinned_in(connection, local, &listing, held),
            Pinning::Absent if if_missing == IfMissing::Wait => {
                glance.missing.push((place, *key));
                Ok(None)
            }
            Pinning::Growing(_) | Pinning::Absent if is_settled => {
                misses += 1;
                Ok(None)
            }
            _ => Err(Unsure),
        };
        if block.is_err() {
            glance.unsure.push((place, *key));
        }
        glance.blocks.push(block.ok().flatten());
    }
    local.count_misses(misses);
    glance
}

/// Pins the block called `key`, growing or whole, if it is there.
pub(crate) fn pin(connection: &Arc<Connection>, key: &Key) -> Result<Option<Block>, Unsure> {
    let Payload::Mapped(local) = &connection.payload else { return Err(Unsure) };
    match local.pin(key, Want::Readable) {
        Pinning::Pinned(listing, held) => Block::pinned_in(connection, local, &listing, held),
        Pinning::Absent => Ok(None),
        Pinning::Growing(_) | Pinning::Unsure => Err(Unsure),
    }
}

/// Only the worker knows.
pub(crate) struct Unsure;

/// What the client shares with the worker, and whether all that it did is to be seen there; in this order, because what
/// is done after that is not.
fn sight(connection: &Connection) -> Option<(&Local, bool)> {
    match &connection.payload {
        Payload::Mapped(local) => Some((local, connection.is_settled())),
        Payload::Inline => None,
    }
}
