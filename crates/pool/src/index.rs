//! [`Index`]: which block is found under a key.
//!
//! Knows neither what state a block is in nor where its bytes are. Keys are uniform hashes when clients are honest;
//! they are hashed again under a seed of this pool's own, so that no client can make them collide.

use std::collections::HashMap;

use chariot_types::Key;
use foldhash::fast::RandomState;

use crate::BlockId;

/// Which block is found under a key: the published ones, each under its own.
#[derive(Default, Debug)]
pub(crate) struct Index {
    blocks: HashMap<Key, BlockId, RandomState>,
}

impl Index {
    pub(crate) fn find(&self, key: &Key) -> Option<BlockId> {
        self.blocks.get(key).copied()
    }

    /// Names `block`; the key must be free.
    pub(crate) fn publish(&mut self, key: Key, block: BlockId) {
        let before = self.blocks.insert(key, block);
        debug_assert_eq!(before, None, "a key names one block at a time");
    }

    pub(crate) fn withdraw(&mut self, key: &Key) {
        self.blocks.remove(key);
    }
}
