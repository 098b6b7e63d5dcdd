//! Options that several commands share, and what they have in common.

use std::io;
use std::path::PathBuf;

use chariot_types::WorkerAddress;
use clap::Args;

/// Where the worker is.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct At {
    /// Where the worker listens
    #[arg(long, env = "DS_WORKER_ADDR", default_value = "127.0.0.1:31501", value_name = "HOST:PORT")]
    pub(crate) worker_address: WorkerAddress,
}

/// A path that names the same for a process in another directory.
pub(crate) fn absolute(path: Option<PathBuf>) -> io::Result<Option<PathBuf>> {
    path.map(std::path::absolute).transpose()
}
