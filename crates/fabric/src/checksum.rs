//! [`Checksum`]: of bytes that cross a network. CRC-64/NVME, which processors compute faster than memory delivers.

use crc_fast::{CrcAlgorithm, Digest};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64Nvme;

/// Whether bytes of blocks are checked: in all builds but the one that measures what it costs (`tools/integrity_bench.py`).
const BYTES_ARE_CHECKED: bool = !cfg!(chariot_unchecked);

/// A checksum of bytes of blocks, which is computed piece by piece.
pub(crate) struct Checksum(Digest);

impl Checksum {
    pub(crate) fn new() -> Self {
        Self(Digest::new(ALGORITHM))
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if BYTES_ARE_CHECKED {
            self.0.update(bytes);
        }
    }

    /// Of bytes that are all at hand.
    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut checksum = Self::new();
        checksum.add(bytes);
        checksum.finish()
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0.finalize()
    }
}

/// The checksum of a frame's `bytes`.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(ALGORITHM, bytes)
}
