//! [`Key`]: the name of one block.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The name of a block: 32 bytes that stand for its content.
///
/// Keys of KV-cache blocks come from a [`KeyChain`](crate::KeyChain); keys of blocks that a user names come from
/// [`Key::of_name`]. The two cannot collide: each hash is separated by its own context string.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Key([u8; Key::LEN]);

impl Key {
    /// Bytes in a key.
    pub const LEN: usize = 32;

    /// A key from its raw bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The key of a block that a user calls `name`. Any bytes of any length are a name.
    pub fn of_name(name: &[u8]) -> Self {
        Self(*blake3::Hasher::new_derive_key("chariot 2026 key of a named block").update(name).finalize().as_bytes())
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:02x}{:02x}{:02x}{:02x}..)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// A text that is not a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a key: expected 64 hexadecimal digits")]
pub struct KeyError {
    text: String,
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refuse = || KeyError { text: text.to_owned() };
        if text.len() != 2 * Self::LEN || !text.is_ascii() {
            return Err(refuse());
        }
        let mut bytes = [0; Self::LEN];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or_else(refuse)?;
            let low = char::from(pair[1]).to_digit(16).ok_or_else(refuse)?;
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_key_reads_back_as_the_key() {
        let key = Key::of_name(b"a block");
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn garbage_is_refused_with_its_text() {
        for text in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<Key>().unwrap_err().to_string().contains(text));
        }
    }
}
