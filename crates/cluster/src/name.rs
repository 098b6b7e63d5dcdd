//! [`ClusterName`]: which of the clusters that share an etcd.

use std::fmt;
use std::str::FromStr;

use chariot_types::TenantName;

/// Which of the clusters that share an etcd: letters, digits, `-`, `_` and `.`, at most 64 of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClusterName(String);

/// A text that cannot name a cluster.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` cannot name a cluster: expected 1 to 64 letters, digits, `-`, `_` and `.`")]
pub struct ClusterNameError {
    text: String,
}

impl ClusterName {
    /// The name where the user gives none.
    pub const DEFAULT: &str = "default";

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// That of a tenant of this cluster's workers, a cluster of its own. No text names it.
    #[must_use]
    pub fn of_tenant(&self, tenant: &TenantName) -> Self {
        Self(format!("{}+{tenant}", self.0))
    }

    /// What the keys of all workers' records begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("/chariot/{}/workers/", self.0)
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(text: &str) -> Result<Self, ClusterNameError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match (1..=64).contains(&text.len()) && text.chars().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(ClusterNameError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_reach_into_another_cluster_is_refused() {
        for text in ["", "a/workers", "a b", "ä", &"x".repeat(65)] {
            assert!(text.parse::<ClusterName>().unwrap_err().to_string().contains(text));
        }
        assert_eq!("Team-1_a.b".parse::<ClusterName>().unwrap().prefix(), "/chariot/Team-1_a.b/workers/");
    }

    #[test]
    fn a_tenants_cluster_is_no_other() {
        let cluster = ClusterName::default().of_tenant(&"a".parse().unwrap());
        assert_eq!(cluster.prefix(), "/chariot/default+a/workers/");
        assert!(cluster.as_str().parse::<ClusterName>().is_err());
    }
}
