//! [`Place`]: a worker, and the network that it is in.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result};
use chariot_types::{AddressError, WorkerAddress};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A worker's address, and the network namespace that it is in: `host:port` or `host:port@namespace`.
#[derive(Clone, Debug)]
pub struct Place {
    pub(crate) worker: WorkerAddress,
    namespace: Option<String>,
}

impl FromStr for Place {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (worker, namespace) = match text.split_once('@') {
            Some((worker, namespace)) => (worker, Some(namespace.to_owned())),
            None => (text, None),
        };
        Ok(Self { worker: worker.parse()?, namespace })
    }
}

impl Place {
    /// A command that runs `program` there, as the same process.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        }
    }

    /// What `open` returns there: sockets stay in the namespace in which they were made.
    pub(super) fn enter<T: Send>(&self, open: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(namespace) = &self.namespace else { return open() };
        let path = Path::new("/run/netns").join(namespace);
        let inside = || {
            let file = File::open(&path).with_context(|| format!("no network namespace `{}`", path.display()))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter `{}`", path.display()))?;
            open()
        };
        // A thread of its own, since only the thread that calls is moved.
        std::thread::scope(|scope| scope.spawn(inside).join()).expect("no panic while a socket is opened")
    }
}
