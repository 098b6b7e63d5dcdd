//! `dscli pin` and `dscli unpin`: says which blocks go last.

use std::time::Duration;

use chariot_client::{Client, ClientError};
use chariot_types::WorkerAddress;
use clap::Args;

use crate::keys::Keys;
use crate::options::{At, client_options};
use crate::{Failure, report};

/// Keep hot prompts: have blocks go last when room is needed
///
/// A block is pinned with all that leads up to it: name the last block of a prompt, and its whole chain stays until all that
/// is not pinned has been evicted. A quarter of the memory can be pinned. A pin goes with its block, and with the worker; pinning a block again
/// says anew for how long.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = PIN_EXAMPLES)]
pub(crate) struct Pin {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    keys: Keys,
    /// For how long [default: until `dscli unpin`]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    seconds: Option<u64>,
}

/// Have pinned blocks go as others do
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = UNPIN_EXAMPLES)]
pub(crate) struct Unpin {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    keys: Keys,
}

const PIN_EXAMPLES: &str = "\
Examples:
  dscli pin --name system-prompt
  dscli pin --seconds 3600 e696de6eba3e80a58687e7340d981681761c909be594bf618e5fc671b5afa63a";

const UNPIN_EXAMPLES: &str = "\
Examples:
  dscli unpin --name system-prompt
  dscli unpin e696de6eba3e80a58687e7340d981681761c909be594bf618e5fc671b5afa63a";

impl Pin {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.keys.are_none() {
            return Err(Failure::usage("`dscli pin` is not told what to pin")
                .hint("give the key of a prompt's last block, or the `--name` that a block was put under"));
        }
        let (keys, address) = (self.keys.all(), &self.at.worker_address);
        let time = self.seconds.map(Duration::from_secs);
        let client = connect(address, "dscli pin")?;
        let pinned = client.soft_pin(&keys, time).map_err(|error| match error {
            ClientError::Refused { .. } => Failure::new(error)
                .hint("end others with `dscli unpin`, or start the worker with more `--shared_memory_size_mb`"),
            other => Failure::of_client(other, address),
        })?;
        told(
            &format!("pinned {pinned} blocks, each with all that leads up to it"),
            keys.len() - pinned,
            "a block can be pinned once it is there: put it, or run its prompt, first",
        )
    }
}

impl Unpin {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.keys.are_none() {
            return Err(Failure::usage("`dscli unpin` is not told what to unpin")
                .hint("give the keys or the `--name`s that were given to `dscli pin`"));
        }
        let (keys, address) = (self.keys.all(), &self.at.worker_address);
        let client = connect(address, "dscli unpin")?;
        let unpinned = client.soft_unpin(&keys).map_err(|error| Failure::of_client(error, address))?;
        told(
            &format!("unpinned {unpinned} blocks"),
            keys.len() - unpinned,
            "a pin also ends with its time, and with its block",
        )
    }
}

fn connect(address: &WorkerAddress, name: &str) -> Result<Client, Failure> {
    let options = client_options(name)?;
    Client::connect(address, options).map_err(|error| Failure::of_client(error, address))
}

/// Tells what was done; a failure where some of it was not.
fn told(done: &str, missing: usize, hint: &str) -> Result<(), Failure> {
    report::say(done);
    match missing {
        0 => Ok(()),
        1 => Err(Failure::text("1 of those named is not there").hint(hint)),
        _ => Err(Failure::text(format!("{missing} of those named are not there")).hint(hint)),
    }
}
