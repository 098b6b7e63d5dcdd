//! [`NamespaceName`]: whose blocks they are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Whose blocks they are, for quotas and for people: usually a model's. What clients do not say is `default`.
///
/// Not to be confused with [`Namespace`](crate::Namespace), which is a part of keys: a model's blocks have many of those,
/// one a shard and layout, and one name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NamespaceName(Arc<str>);

impl NamespaceName {
    /// The name of what clients do not say.
    pub const DEFAULT: &str = "default";

    /// Bytes of a name.
    pub const MAX_LEN: usize = 128;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NamespaceName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no namespace's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not a namespace: expected 1 to {} bytes without control characters", text.escape_debug(), NamespaceName::MAX_LEN)]
pub struct NamespaceNameError {
    text: String,
}

impl FromStr for NamespaceName {
    type Err = NamespaceNameError;

    fn from_str(text: &str) -> Result<Self, NamespaceNameError> {
        let is_name = !text.is_empty() && text.len() <= Self::MAX_LEN && !text.contains(char::is_control);
        if is_name { Ok(Self(text.into())) } else { Err(NamespaceNameError { text: text.to_owned() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_are_names() {
        for text in
            ["default", "Qwen/Qwen2.5-7B-Instruct", "/models/my model", "ä", &"m".repeat(NamespaceName::MAX_LEN)]
        {
            assert_eq!(text.parse::<NamespaceName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_text() {
        for text in ["", "two\nlines", "\u{1b}[2J", &"m".repeat(NamespaceName::MAX_LEN + 1)] {
            let error = text.parse::<NamespaceName>().unwrap_err().to_string();
            assert!(error.contains(&text.escape_debug().to_string()) && !error.contains('\u{1b}'), "{error}");
        }
    }
}
