//! [`Departed`]: how often blocks were used that are gone, should they come back.
//!
//! 8 bytes a block in sets of 8; a block that is not remembered is one that was never there. No more than a guess is
//! lost when two are taken for each other.

use std::hash::BuildHasher;

use chariot_types::Key;
use foldhash::fast::FixedState;

/// As many are remembered as are in the pool, this many times over.
const TIMES: usize = 4;

const SET: usize = 8;

/// Uses of blocks that are gone.
#[derive(Default, Debug)]
pub(super) struct Departed {
    sets: Vec<[Memory; SET]>,
}

/// One block that is gone, or nothing.
#[derive(Clone, Copy, Default, Debug)]
struct Memory {
    tag: u16,
    /// 0 for nothing.
    uses: u8,
    /// When it was last used, in spans of ticks.
    last_use: u32,
}

/// Ticks of a span.
const SPAN: u64 = 1 << 8;

impl Departed {
    /// Makes room for what leaves a pool of `blocks`. Forgets all when that is not enough any more.
    pub(super) fn fit(&mut self, blocks: usize) {
        let wanted = (blocks * TIMES).div_ceil(SET).next_power_of_two();
        if wanted > self.sets.len() {
            self.sets = vec![[Memory::default(); SET]; wanted];
        }
    }

    /// A block goes.
    pub(super) fn remember(&mut self, key: &Key, uses: u8, last_use: u64) {
        let Some((set, tag)) = self.set(key) else { return };
        let place = set.iter_mut().min_by_key(|memory| (memory.uses > 0 && memory.tag != tag, memory.last_use));
        let place = place.expect("a set has places");
        *place = Memory { tag, uses, last_use: (last_use / SPAN) as u32 };
    }

    /// A block comes back, or not back: how often it was used before, and when last.
    pub(super) fn recall(&mut self, key: &Key) -> Option<(u8, u64)> {
        let (set, tag) = self.set(key)?;
        let memory = set.iter_mut().find(|memory| memory.uses > 0 && memory.tag == tag)?;
        let Memory { uses, last_use, .. } = std::mem::take(memory);
        Some((uses, u64::from(last_use) * SPAN))
    }

    fn set(&mut self, key: &Key) -> Option<(&mut [Memory; SET], u16)> {
        let hash = FixedState::default().hash_one(key);
        let at = (hash >> 16) as usize & self.sets.len().checked_sub(1)?;
        Some((&mut self.sets[at], hash as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_went_last_are_remembered_and_others_are_unknown() {
        let key = |name: u64| Key::of_name(&name.to_le_bytes());
        let mut departed = Departed::default();
        departed.remember(&key(0), 1, 0);
        assert_eq!(departed.recall(&key(0)), None, "there is no room yet");
        departed.fit(100);
        (0..10_000).for_each(|name| departed.remember(&key(name), 7, name * SPAN));
        let known = (9_900..10_000).filter(|name| departed.recall(&key(*name)) == Some((7, name * SPAN))).count();
        assert!(known > 95, "{known} of the last 100");
        let strangers = (10_000..20_000).filter(|name| departed.recall(&key(*name)).is_some()).count();
        assert!(strangers < 20, "{strangers} of 10,000 that were never there");
        assert_eq!(departed.recall(&key(9_999)), None, "who has come back is not gone");
    }
}
