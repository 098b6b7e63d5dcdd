//! [`Host`]: where a worker runs, in the sense that two processes of one host cannot have the same port.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::connection::printable;

/// Where a worker runs.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    /// The kernel's boot and the network namespace: within both, a port has one owner.
    pub(crate) host: String,
    /// For people.
    #[serde(default)]
    pub(crate) host_name: String,
}

impl Host {
    /// Where this process runs.
    pub(crate) fn here() -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let namespace = fs::read_link("/proc/self/ns/net")?;
        let inode: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
        Ok(Self { host: format!("{}/{inode}", boot.trim()), host_name: name.trim().to_owned() })
    }

    /// Whether two workers there cannot have the same port.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.host == other.host
    }

    /// What a person calls it.
    pub(crate) fn shown(&self) -> String {
        let name = if self.host_name.is_empty() { &self.host } else { &self.host_name };
        printable(name)
    }
}
