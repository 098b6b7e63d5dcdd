//! [`Places`]: where in the buckets a key belongs.
//!
//! Keys are uniform hashes when clients are honest. They are hashed again under a seed of this index's own; a client
//! that crafts keys to collide all the same only makes its own unlisted.

use chariot_types::Key;

use crate::entry::words;

/// The two buckets that a key may be in, and the tag that it has there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Places {
    pub(crate) buckets: [usize; 2],
    pub(crate) tag: u64,
}

/// Bits of a tag; the other bits of a bucket's word number an entry.
pub(crate) const TAG_BITS: u32 = 24;

impl Places {
    pub(crate) fn of(key: &Key, seed: u64, buckets: usize) -> Self {
        let [a, b, c, d] = words(key);
        let left = fold(a ^ seed, b ^ 0x9E37_79B9_7F4A_7C15);
        let right = fold(c ^ seed.rotate_left(32), d ^ 0xC2B2_AE3D_27D4_EB4F);
        let first = fold(left ^ right.rotate_left(23), 0xFF51_AFD7_ED55_8CCD);
        let second = fold(first ^ left, right ^ 0xC4CE_B9FE_1A85_EC53);
        Self { buckets: [reduce(first, buckets), reduce(second, buckets)], tag: second & ((1 << TAG_BITS) - 1) }
    }
}

/// Both halves of a product: every bit of it depends on every bit of the factors.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A number below `count`, by the high bits of `hash`.
fn reduce(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}
