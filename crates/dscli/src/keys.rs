//! [`Keys`]: blocks, as the user names them.

use chariot_types::Key;
use clap::Args;

/// Blocks, as the user names them.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Keys {
    /// Blocks by their keys: 64 hexadecimal digits each
    #[arg(value_name = "KEY")]
    keys: Vec<Key>,
    /// A block by the name that it was put under, as by `client.put("NAME", ...)`; may be given more than once
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
}

impl Keys {
    pub(crate) fn are_none(&self) -> bool {
        self.keys.is_empty() && self.names.is_empty()
    }

    pub(crate) fn all(&self) -> Vec<Key> {
        let named = self.names.iter().map(|name| Key::of_name(name.as_bytes()));
        self.keys.iter().copied().chain(named).collect()
    }
}
