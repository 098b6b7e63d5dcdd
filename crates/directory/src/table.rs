//! [`Table`]: the records, one for each key and holder, in few bytes each.
//!
//! A record is the half of a key and a holder's number, 18 bytes and one of the hash table's own. Records of one key
//! hash alike and so are found one after the other. The records are spread over many hash tables, so that no call has
//! to move more than one of these when it grows; and as a hash table doubles its room when it is full, some are meant to
//! be up to twice as full as others, so that they do not all double at once. In all, a record takes about 32 bytes, the room left free included.

use hashbrown::HashTable;

use crate::holders::Seat;
use crate::mix::{avalanche, fold, halves};
use crate::part::Part;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Record {
    part: Part,
    seat: Seat,
}

/// Records. Which hash table has one, and where, depends on a seed, so that nobody who crafts keys can crowd one.
#[derive(Debug)]
pub(crate) struct Table {
    shards: Vec<HashTable<Record>>,
    seed: [u64; 2],
    len: u64,
}

/// Shards come in groups; the shards of a group are as full as each other.
const GROUPS: usize = GROUP_ENDS.len();
const SHARDS_A_GROUP: usize = 128;

/// Of 65,536 records, how many are in this group or one before it. Each group has 2^(1/8) times the one before it.
const GROUP_ENDS: [u64; 8] = [5_932, 12_400, 19_454, 27_146, 35_534, 44_682, 54_658, 65_536];

impl Table {
    /// How many parts [`Table::sweep`] sees to one by one.
    pub(crate) const SHARDS: usize = GROUPS * SHARDS_A_GROUP;

    pub(crate) fn new(seed: [u64; 2]) -> Self {
        Self { shards: (0..Self::SHARDS).map(|_| HashTable::new()).collect(), seed, len: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }

    pub(crate) fn contains(&self, part: Part, seat: Seat) -> bool {
        let hash = hash(self.seed, part);
        self.shards[shard(hash)].find(hash, |found| *found == Record { part, seat }).is_some()
    }

    /// Adds a record that is not there.
    pub(crate) fn insert(&mut self, part: Part, seat: Seat) {
        let (seed, hash) = (self.seed, hash(self.seed, part));
        self.shards[shard(hash)].insert_unique(hash, Record { part, seat }, |record| self::hash(seed, record.part));
        self.len += 1;
    }

    /// Whether the record was there.
    pub(crate) fn remove(&mut self, part: Part, seat: Seat) -> bool {
        let hash = hash(self.seed, part);
        let found = self.shards[shard(hash)].find_entry(hash, |found| *found == Record { part, seat });
        let was_there = found.map(|record| record.remove()).is_ok();
        self.len -= u64::from(was_there);
        was_there
    }

    /// The seats that records of this key name.
    pub(crate) fn seats(&self, part: Part) -> impl Iterator<Item = Seat> {
        let hash = hash(self.seed, part);
        self.shards[shard(hash)].iter_hash(hash).filter(move |record| record.part == part).map(|record| record.seat)
    }

    /// Drops the records of one shard that `keep` does not want, and most of the room that this leaves.
    pub(crate) fn sweep(&mut self, shard: usize, mut keep: impl FnMut(Part, Seat) -> bool) {
        let (seed, shard) = (self.seed, &mut self.shards[shard]);
        let before = shard.len();
        shard.retain(|record| keep(record.part, record.seat));
        self.len -= (before - shard.len()) as u64;
        if shard.capacity() > 4 * shard.len() {
            shard.shrink_to_fit(|record| hash(seed, record.part));
        }
    }
}

fn hash(seed: [u64; 2], part: Part) -> u64 {
    let [low, high] = halves(&part.0);
    avalanche(fold(low ^ seed[0], high ^ seed[1]) ^ low)
}

/// The shard for a hash: by its middle bits, as the hash tables use the lowest and the highest.
fn shard(hash: u64) -> usize {
    let group = GROUP_ENDS.partition_point(|end| *end <= hash >> 40 & 0xFFFF);
    group * SHARDS_A_GROUP + (hash >> 33) as usize % SHARDS_A_GROUP
}
