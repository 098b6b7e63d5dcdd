//! [`Member`]: one data worker of a cluster, and [`RunId`], which tells its runs apart.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::WorkerAddress;

/// One run of a data worker: random, new at each start, and the same on all its sockets.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct RunId([u8; RunId::LEN]);

impl RunId {
    /// Bytes in a run's number.
    pub const LEN: usize = 16;

    /// A run by its raw bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({:02x}{:02x}{:02x}{:02x}..)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// A text that is not a run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a run of a worker: expected 32 hexadecimal digits")]
pub struct RunIdError {
    text: String,
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let digits = text.len() == 2 * Self::LEN && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if digits => Ok(Self(number.to_be_bytes())),
            _ => Err(RunIdError { text: text.to_owned() }),
        }
    }
}

/// One data worker of a cluster. The same address with another run is another member.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Member {
    /// Which run of a worker it is.
    pub run: RunId,
    /// Where others reach it.
    pub address: WorkerAddress,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_run_reads_back_as_the_run() {
        for run in [[0; 16], [0xfe; 16], *b"0123456789abcdef"].map(RunId::from_bytes) {
            assert_eq!(run.to_string().parse(), Ok(run));
        }
        for text in ["", "+f", &"+".repeat(32), &"g".repeat(32), &"0".repeat(33)] {
            assert!(text.parse::<RunId>().unwrap_err().to_string().contains(text));
        }
    }
}
