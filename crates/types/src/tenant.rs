//! [`TenantName`] and [`Token`]: those who share a worker without sharing a pool, and how each shows who it is.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;

/// Who has a pool of its own at a worker: letters, digits, `-`, `_` and `.`, at most 32 of them. It is a part of the names
/// of files, and of the cluster's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TenantName(Arc<str>);

/// A text that is no tenant's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` cannot name a tenant: expected 1 to {} letters, digits, `-`, `_` and `.`", text.escape_debug(), TenantName::MAX_LEN)]
pub struct TenantNameError {
    text: String,
}

impl TenantName {
    /// Bytes of a name.
    pub const MAX_LEN: usize = 32;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantName {
    type Err = TenantNameError;

    fn from_str(text: &str) -> Result<Self, TenantNameError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match (1..=Self::MAX_LEN).contains(&text.len()) && text.chars().all(fits) {
            true => Ok(Self(text.into())),
            false => Err(TenantNameError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A secret by which a client shows whose it is. It is never printed.
#[derive(Clone)]
pub struct Token(Arc<str>);

/// A text that is no token. It is not repeated, because it may be nearly one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "not a token: expected {} to {} letters, digits and punctuation, without spaces",
    Token::MIN_LEN,
    Token::MAX_LEN
)]
pub struct TokenError;

impl Token {
    /// Bytes of a token: fewer could be guessed.
    pub const MIN_LEN: usize = 16;
    /// Bytes of a token.
    pub const MAX_LEN: usize = 256;

    /// The secret itself, to be sent to a worker.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Whether `shown` is this token. How long that takes says nothing of where they differ.
    pub fn is(&self, shown: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differing = own.iter().zip(shown).fold(0, |differing, (own, shown)| black_box(differing | (own ^ shown)));
        own.len() == shown.len() && differing == 0
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let fits = (Self::MIN_LEN..=Self::MAX_LEN).contains(&text.len());
        if fits && text.chars().all(|c| c.is_ascii_graphic()) { Ok(Self(text.into())) } else { Err(TokenError) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_reach_into_another_folder_is_refused() {
        for text in ["", "a/b", "a b", "ä", &"x".repeat(TenantName::MAX_LEN + 1), "a\n"] {
            let error = text.parse::<TenantName>().unwrap_err().to_string();
            assert!(error.contains(&text.escape_debug().to_string()), "{error}");
        }
        assert_eq!("Team-1_a.b".parse::<TenantName>().unwrap().as_str(), "Team-1_a.b");
    }

    #[test]
    fn a_token_is_itself_and_nothing_else_and_is_not_printed() {
        let secret = "0123456789abcdef";
        let token: Token = secret.parse().unwrap();
        assert!(token.is(secret.as_bytes()));
        for other in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0", "_123456789abcdef"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        for text in ["", "short", "0123456789 abcdef", "0123456789\nabcdef", "ä23456789abcdefgh", &"x".repeat(257)] {
            let error = text.parse::<Token>().unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
