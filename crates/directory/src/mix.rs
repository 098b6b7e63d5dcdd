//! Mixing of words that are random already, or should be.
//!
//! Workers of several releases and machines must agree on an owner, so what is computed from this never changes.

/// Both halves of a product: every bit of it depends on every bit of the factors.
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Turns words that differ in any bit into words that differ in half of them: the finalizer of MurmurHash3.
pub(crate) fn avalanche(mut word: u64) -> u64 {
    word = (word ^ word >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    word = (word ^ word >> 33).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    word ^ word >> 33
}

/// A 16-byte name as one word; equal names give equal words, and it takes effort to find two that share one.
pub(crate) fn word(name: &[u8; 16]) -> u64 {
    let [low, high] = halves(name);
    fold(low ^ 0x9E37_79B9_7F4A_7C15, high ^ 0xC2B2_AE3D_27D4_EB4F) ^ low.rotate_left(32)
}

/// The two little-endian words of a 16-byte name.
pub(crate) fn halves(name: &[u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(*name);
    [whole as u64, (whole >> 64) as u64]
}
