//! [`Part`]: as much of a key as is kept.

use chariot_types::Key;

/// The first half of a key. A key is a uniform hash, so that two of a billion keys share a half once in 10^20 clusters;
/// where two do, a holder of the one is asked for the other, and answers with a miss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part(pub(crate) [u8; Self::LEN]);

impl Part {
    const LEN: usize = Key::LEN / 2;

    pub(crate) fn of(key: &Key) -> Self {
        Self(*key.as_bytes().first_chunk().expect("a key is longer than its half"))
    }
}
