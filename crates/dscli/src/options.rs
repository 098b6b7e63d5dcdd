//! Options that several commands share, and what they have in common.

use std::io;
use std::path::PathBuf;

use chariot_client::{ConnectOptions, token_from_environment};
use chariot_types::WorkerAddress;
use clap::Args;

use crate::Failure;

/// Where the worker is.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct At {
    /// Where the worker listens
    #[arg(long, env = "DS_WORKER_ADDR", default_value = "127.0.0.1:31501", value_name = "HOST:PORT")]
    pub(crate) worker_address: WorkerAddress,
}

/// How a command connects, as the tenant that the environment names.
pub(crate) fn client_options(name: &str) -> Result<ConnectOptions, Failure> {
    let token = token_from_environment().map_err(|error| {
        Failure::new(error)
            .hint("whoever runs the worker has given your tenant one; without tenants, unset the variable")
    })?;
    Ok(ConnectOptions { name: name.to_owned(), token, ..Default::default() })
}

/// A path that names the same for a process in another directory.
pub(crate) fn absolute(path: Option<PathBuf>) -> io::Result<Option<PathBuf>> {
    path.map(std::path::absolute).transpose()
}
