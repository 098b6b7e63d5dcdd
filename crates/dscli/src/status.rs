//! `dscli status`: how a worker is.

use chariot_client::Client;
use chariot_types::WorkerAddress;
use chariot_wire::Status;
use clap::Args;

use crate::options::{At, client_options};
use crate::{Failure, report};

mod table;

pub(crate) use table::{bytes, table};

/// Show what a worker holds and how it is used
#[derive(Args)]
#[command(rename_all = "snake_case")]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShowStatus {
    #[command(flatten)]
    at: At,
    /// As JSON: bytes and seconds, one object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  dscli status
  dscli status --worker_address 10.0.0.7:31501
  dscli status --json | jq .free_bytes";

impl ShowStatus {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let status = ask(&self.at.worker_address)?;
        report::say(&if self.json { serde_json::to_string_pretty(&status)? } else { table(&status) });
        Ok(())
    }
}

/// The status of the worker at `address`.
pub(crate) fn ask(address: &WorkerAddress) -> Result<Status, Failure> {
    let options = client_options("dscli status")?;
    let answer = Client::connect(address, options).and_then(|client| client.status());
    answer.map_err(|error| Failure::of_client(error, address))
}
