//! What the file says of itself: [`Head`], its first page, and a [`Record`] before each block.
//!
//! A record's header fills the start of a page, and the block's bytes the pages behind it; a block that is short
//! enough lies in the header's page. All numbers are little-endian. Whoever reads believes nothing that the checksums
//! do not confirm: each header has one over itself, and holds one over the block's bytes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chariot_types::{Key, NamespaceName};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::checksum;
use crate::layout::{PAGE, Place};

const HEAD_MAGIC: [u8; 8] = *b"chariot\x11";
const RECORD_MAGIC: [u8; 8] = *b"ch-block";

/// The version of everything in the file: a file of another one is begun anew.
pub(crate) const VERSION: u32 = 2;

/// What tells one file from all others, drawn when it is begun: records of a file before it in the same place of a
/// disk are none of its own.
pub(crate) type Identity = [u8; 16];

/// What the file's first page says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Drawn when the file was begun.
    pub identity: Identity,
    /// Bytes of each segment.
    pub segment_len: u64,
}

/// What a first page turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadFound {
    /// A file's first page, of this version.
    Known(Head),
    /// A file's first page, of another version.
    OtherVersion(u32),
    /// A file's first page once, but its checksum does not fit.
    Damaged,
    /// Nothing but zeros.
    Blank,
    /// Something else.
    Foreign,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeadBytes {
    magic: [u8; 8],
    version: U32,
    _zero: U32,
    identity: Identity,
    segment_len: U64,
    checksum: U64,
}

impl Head {
    /// Bytes of its encoding, at the start of the page.
    pub const LEN: usize = size_of::<HeadBytes>();

    /// Writes it to the start of `page`.
    pub fn encode(&self, page: &mut [u8]) {
        let mut bytes = HeadBytes {
            magic: HEAD_MAGIC,
            version: U32::new(VERSION),
            _zero: U32::ZERO,
            identity: self.identity,
            segment_len: U64::new(self.segment_len),
            checksum: U64::ZERO,
        };
        bytes.checksum = U64::new(checksum(&bytes.as_bytes()[..Self::LEN - 8]));
        page[..Self::LEN].copy_from_slice(bytes.as_bytes());
    }

    /// Reads it from the start of `page`, which may hold anything.
    pub fn decode(page: &[u8]) -> HeadFound {
        let Ok((bytes, _)) = HeadBytes::ref_from_prefix(page) else { return HeadFound::Foreign };
        if page.iter().all(|byte| *byte == 0) {
            return HeadFound::Blank;
        }
        if bytes.magic != HEAD_MAGIC {
            return HeadFound::Foreign;
        }
        if bytes.version.get() != VERSION {
            return HeadFound::OtherVersion(bytes.version.get());
        }
        if bytes.checksum.get() != checksum(&page[..Self::LEN - 8]) || bytes._zero != U32::ZERO {
            return HeadFound::Damaged;
        }
        HeadFound::Known(Head { identity: bytes.identity, segment_len: bytes.segment_len.get() })
    }
}

/// What a block is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its name.
    pub key: Key,
    /// The block before it in its prefix chain.
    pub parent: Option<Key>,
    /// Bytes of it.
    pub len: u64,
    /// From when on it is not found any more.
    pub expires_at: Option<SystemTime>,
    /// Whose it is.
    pub namespace: NamespaceName,
}

/// What a header says of the bytes behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which file it belongs to.
    pub identity: Identity,
    /// Which filling of its segment it belongs to; later fillings have greater numbers.
    pub filling: u64,
    /// The segment that it is in.
    pub segment: u32,
    /// The page of the segment that it begins at.
    pub page: u32,
    /// Whether the block is to be found.
    pub standing: Standing,
    /// The block.
    pub block: Block,
    /// Of the block's bytes.
    pub payload_checksum: u64,
}

/// Whether a block that a record is of can be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It can.
    Kept,
    /// It was removed; the record still says how long it is.
    Removed,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RecordBytes {
    magic: [u8; 8],
    version: U32,
    standing: U32,
    identity: Identity,
    filling: U64,
    segment: U32,
    page: U32,
    key: Key,
    /// All zeros stand for none: no hash is all zeros.
    parent: [u8; Key::LEN],
    len: U64,
    /// Microseconds since 1970; 0 stands for never.
    expires_at: U64,
    /// A name, and zeros, of which no name has one.
    namespace: [u8; NamespaceName::MAX_LEN],
    payload_checksum: U64,
    header_checksum: U64,
}

impl Record {
    /// Bytes of a header, at the start of its page.
    pub const LEN: usize = size_of::<RecordBytes>();

    /// The longest block that lies in the header's page.
    pub const LONGEST_INLINE: u64 = PAGE - Self::LEN as u64;

    /// The pages that the record of a block of `len` bytes takes; `None` when that is beyond any file.
    pub fn pages(len: u64) -> Option<u32> {
        if len <= Self::LONGEST_INLINE { Some(1) } else { u32::try_from(len.div_ceil(PAGE).checked_add(1)?).ok() }
    }

    pub(crate) fn place(&self) -> Option<Place> {
        Some(Place { segment: self.segment.try_into().ok()?, page: self.page.try_into().ok()? })
    }

    /// Writes the header to the start of `page`.
    pub fn encode(&self, page: &mut [u8]) {
        let Block { key, parent, len, expires_at, namespace } = &self.block;
        let mut bytes = RecordBytes {
            magic: RECORD_MAGIC,
            version: U32::new(VERSION),
            standing: U32::new(match self.standing {
                Standing::Kept => 1,
                Standing::Removed => 2,
            }),
            identity: self.identity,
            filling: U64::new(self.filling),
            segment: U32::new(self.segment),
            page: U32::new(self.page),
            key: *key,
            parent: parent.map_or([0; Key::LEN], |parent| *parent.as_bytes()),
            len: U64::new(*len),
            expires_at: U64::new(expires_at.map_or(0, micros_of)),
            namespace: padded(namespace),
            payload_checksum: U64::new(self.payload_checksum),
            header_checksum: U64::ZERO,
        };
        bytes.header_checksum = U64::new(checksum(&bytes.as_bytes()[..Self::LEN - 8]));
        page[..Self::LEN].copy_from_slice(bytes.as_bytes());
    }

    /// Reads a header from the start of `page`, which may hold anything; `None` where there is none, or none whole.
    pub fn decode(page: &[u8]) -> Option<Self> {
        let (bytes, _) = RecordBytes::ref_from_prefix(page).ok()?;
        if bytes.magic != RECORD_MAGIC || bytes.version.get() != VERSION {
            return None;
        }
        if bytes.header_checksum.get() != checksum(&page[..Self::LEN - 8]) {
            return None;
        }
        let standing = match bytes.standing.get() {
            1 => Standing::Kept,
            2 => Standing::Removed,
            _ => return None,
        };
        let block = Block {
            key: bytes.key,
            parent: (bytes.parent != [0; Key::LEN]).then(|| Key::from_bytes(bytes.parent)),
            len: bytes.len.get(),
            expires_at: time_of(bytes.expires_at.get()),
            namespace: name_in(&bytes.namespace)?,
        };
        Some(Self {
            identity: bytes.identity,
            filling: bytes.filling.get(),
            segment: bytes.segment.get(),
            page: bytes.page.get(),
            standing,
            block,
            payload_checksum: bytes.payload_checksum.get(),
        })
    }
}

fn padded(name: &NamespaceName) -> [u8; NamespaceName::MAX_LEN] {
    let (name, mut bytes) = (name.as_str().as_bytes(), [0; NamespaceName::MAX_LEN]);
    bytes[..name.len()].copy_from_slice(name);
    bytes
}

fn name_in(padded: &[u8]) -> Option<NamespaceName> {
    let len = padded.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    std::str::from_utf8(&padded[..len]).ok()?.parse().ok()
}

/// A time as the file has it; what is before 1970 counts as the first microsecond of it.
pub(crate) fn micros_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// The time that the file has as `micros`; a time that this system cannot tell is as good as never.
pub(crate) fn time_of(micros: u64) -> Option<SystemTime> {
    (micros != 0).then(|| UNIX_EPOCH.checked_add(Duration::from_micros(micros))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page() -> Vec<u8> {
        vec![0; PAGE as usize]
    }

    fn record() -> impl Strategy<Value = Record> {
        let block = (any::<[u8; 32]>(), any::<Option<[u8; 31]>>(), any::<u64>(), any::<Option<u32>>(), "\\PC{1,32}");
        (any::<[u8; 16]>(), any::<u64>(), any::<[u32; 2]>(), any::<bool>(), block, any::<u64>()).prop_map(
            |(
                identity,
                filling,
                [segment, page],
                is_kept,
                (key, parent, len, seconds, namespace),
                payload_checksum,
            )| Record {
                identity,
                filling,
                segment,
                page,
                standing: if is_kept { Standing::Kept } else { Standing::Removed },
                block: Block {
                    key: Key::from_bytes(key),
                    parent: parent.map(|bytes| {
                        let mut whole = [1; 32];
                        whole[1..].copy_from_slice(&bytes);
                        Key::from_bytes(whole)
                    }),
                    len,
                    expires_at: seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(u64::from(seconds) + 1)),
                    namespace: namespace.parse().expect("it has no control characters and is short"),
                },
                payload_checksum,
            },
        )
    }

    proptest! {
        #[test]
        fn records_read_back_as_written(record in record()) {
            let mut page = page();
            record.encode(&mut page);
            prop_assert_eq!(Record::decode(&page), Some(record));
        }

        #[test]
        fn a_header_with_any_one_byte_changed_is_none(record in record(), at in 0..Record::LEN, flip in 1u8..) {
            let mut page = page();
            record.encode(&mut page);
            page[at] ^= flip;
            prop_assert_eq!(Record::decode(&page), None);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::decode(&bytes);
            let _ = Head::decode(&bytes);
        }

        #[test]
        fn pages_hold_the_block_and_are_fewest(len in 0u64..1 << 40) {
            let pages = u64::from(Record::pages(len).unwrap());
            prop_assert!(Record::LEN as u64 + len <= pages * PAGE);
            prop_assert!(pages == 1 || (pages - 2) * PAGE < len);
        }
    }

    #[test]
    fn a_first_page_says_what_the_file_is() {
        let head = Head { identity: [7; 16], segment_len: 64 << 20 };
        let mut page = page();
        assert_eq!(Head::decode(&page), HeadFound::Blank);
        head.encode(&mut page);
        assert_eq!(Head::decode(&page), HeadFound::Known(head));
        for at in 0..Head::LEN {
            let mut changed = page.clone();
            changed[at] ^= 1;
            assert!(!matches!(Head::decode(&changed), HeadFound::Known(_) | HeadFound::Blank), "byte {at}");
        }
        page[8] = 3;
        assert_eq!(Head::decode(&page), HeadFound::OtherVersion(3));
        assert_eq!(Head::decode(b"{\"not\": \"ours\"}".repeat(300).as_slice()), HeadFound::Foreign);
        assert_eq!(Head::decode(b"short"), HeadFound::Foreign);
    }

    #[test]
    fn lengths_beyond_any_file_have_no_pages() {
        assert_eq!(Record::pages(u64::MAX), None);
        assert_eq!(Record::pages(Record::LONGEST_INLINE), Some(1));
        assert_eq!(Record::pages(Record::LONGEST_INLINE + 1), Some(2));
    }
}
