//! A page of a spill file, as a crash, another program or another version may have left it.
//!
//! Nothing may panic, and what is taken for a record or a first page is encoded to the same bytes again. The checksum is
//! made to fit, because what comes behind it is what is looked at here.

#![no_main]

use chariot_ssd::{Head, HeadFound, Record};
use crc_fast::{CrcAlgorithm, checksum};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = (Record::decode(bytes), Head::decode(bytes));
    if let Some(page) = with_checksum_at(bytes, Record::LEN - 8)
        && let Some(record) = Record::decode(&page)
    {
        let mut again = page.clone();
        record.encode(&mut again);
        assert_eq!(again, page);
        let _ = Record::pages(record.block.len);
    }
    if let Some(page) = with_checksum_at(bytes, Head::LEN - 8)
        && let HeadFound::Known(head) = Head::decode(&page)
    {
        let mut again = page.clone();
        head.encode(&mut again);
        assert_eq!(again, page);
    }
});

fn with_checksum_at(bytes: &[u8], at: usize) -> Option<Vec<u8>> {
    let mut page = bytes.to_vec();
    let sum = checksum(CrcAlgorithm::Crc64Nvme, bytes.get(..at)?);
    page.get_mut(at..at + 8)?.copy_from_slice(&sum.to_le_bytes());
    Some(page)
}
