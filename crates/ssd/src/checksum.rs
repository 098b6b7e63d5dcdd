//! The checksum over headers and blocks: CRC-64/NVME, which today's processors compute faster than memory is read.

use crc_fast::{CrcAlgorithm, checksum as crc};

/// The checksum of `bytes`.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    crc(CrcAlgorithm::Crc64Nvme, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_that_files_have() {
        // The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
        assert_eq!(checksum(b"123456789"), 0xae8b_1486_0a79_9888);
    }
}
