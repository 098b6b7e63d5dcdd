//! [`SpillError`]: why there is no spill.

use std::io;
use std::path::PathBuf;

/// Why there is no spill.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// Too short or too long a file was asked for.
    #[error("a spill file of `{asked}` bytes was asked for: from `{least}` to `{most}` are possible")]
    Capacity {
        /// Bytes asked for.
        asked: u64,
        /// The fewest possible.
        least: u64,
        /// The most possible.
        most: u64,
    },
    /// The file cannot be opened, made or changed.
    #[error("cannot use the spill file `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the spill file `{path}` is used by another worker")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is no spill file, and what it is nobody knows: it is left as it is.
    #[error("`{path}` is there and is no spill file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file system does not have that much room.
    #[error("no room for a spill file of `{asked}` bytes at `{path}`: `{available}` are free")]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Bytes asked for.
        asked: u64,
        /// Bytes that the file system has left.
        available: u64,
    },
    /// No thread, or no way to read and write.
    #[error("cannot start reading and writing the spill file")]
    System {
        /// Why.
        #[from]
        source: io::Error,
    },
    /// The disk did not answer while the file was read.
    #[error("the disk of the spill file `{path}` does not answer")]
    Unresponsive {
        /// The file.
        path: PathBuf,
    },
}

impl SpillError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Capacity { least, most, .. } => {
                Some(format!("choose from {} MiB to {} GiB", least.div_ceil(1 << 20), most >> 30))
            }
            Self::InUse { .. } => Some("give each worker of a host a folder or an address of its own".to_owned()),
            Self::Foreign { path } => Some(format!("move `{}` away, or choose another folder", path.display())),
            Self::DiskFull { available, .. } => Some(format!("at most {} MiB fit there now", available >> 20)),
            Self::File { .. } => Some("name a folder that is there and can be written".to_owned()),
            Self::System { .. } | Self::Unresponsive { .. } => None,
        }
    }
}
