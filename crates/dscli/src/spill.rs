//! [`SpillOptions`]: where blocks go for which memory has no room, as the user writes it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use chariot_worker::SpillTo;
use clap::Args;

use crate::Failure;
use crate::options::absolute;
use crate::size::Size;

/// Where blocks go for which memory has no room.
#[derive(Args, Clone)]
#[command(rename_all = "snake_case", next_help_heading = "SSD")]
pub(crate) struct SpillOptions {
    /// Keep blocks for which memory has no room in a file in this folder, on a fast local disk [default: drop them]
    #[arg(long, value_name = "DIR")]
    spill_directory: Option<PathBuf>,
    /// Bytes of the file, all allocated at the start: a number, or one with KiB, MiB, GiB or TiB [default: what the file
    /// has, and half of what is free if there is none]
    #[arg(long, value_name = "SIZE", requires = "spill_directory")]
    spill_size_limit: Option<Size>,
}

/// The time that finding what a large file holds may take.
const PATIENCE: Duration = Duration::from_secs(50);

impl SpillOptions {
    /// Where to, if anywhere.
    pub(crate) fn config(&self) -> Option<SpillTo> {
        let directory = self.spill_directory.clone()?;
        Some(SpillTo { directory, size_limit: self.spill_size_limit.map(|size| size.0) })
    }

    /// This, or what was said before where this says nothing.
    pub(crate) fn or(self, before: Self) -> Self {
        if self.spill_directory.is_some() { self } else { before }
    }

    /// The time that a start may take longer than without.
    pub(crate) fn patience(&self) -> Duration {
        if self.spill_directory.is_some() { PATIENCE } else { Duration::ZERO }
    }

    /// The same for a process in another directory.
    pub(crate) fn absolute(self) -> Result<Self, Failure> {
        Ok(Self { spill_directory: absolute(self.spill_directory)?, ..self })
    }

    /// The arguments that read back as this.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some(directory) = &self.spill_directory {
            arguments.extend(["--spill_directory".into(), directory.into()]);
        }
        if let Some(Size(bytes)) = self.spill_size_limit {
            arguments.push(format!("--spill_size_limit={bytes}").into());
        }
        arguments
    }
}
