//! Starting a worker as a daemon, and seeing to it that it serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use chariot_client::{Client, ConnectOptions};
use chariot_types::{Token, WorkerAddress};

use crate::daemon::Daemon;
use crate::serve::Serve;
use crate::{Failure, log, report};

/// Starts a daemon that serves as `serve` says, and tells so; `token` lets a client in, and `environment` is what it has besides this process's. One that
/// does not serve by the deadline is ended.
pub(crate) fn launch(
    task: &str,
    serve: &Serve,
    token: Option<Token>,
    environment: Option<(&str, String)>,
    deadline: Instant,
) -> Result<(), Failure> {
    let log = LogSince::now(&log::worker_log(serve.log_dir(), serve.address()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(serve.arguments()).envs(environment);
    let mut daemon = Daemon::start(&mut command, log.file.try_clone()?)?;
    let served = daemon.wait(deadline).and_then(|()| answers(serve.address(), token, deadline));
    if let Err(failure) = served {
        drop(daemon);
        return Err(log.explain(failure));
    }
    report::succeeded(task, daemon.pid());
    daemon.let_go();
    Ok(())
}

/// Asks the worker for its status, as any client would.
fn answers(address: &WorkerAddress, token: Option<Token>, deadline: Instant) -> Result<(), Failure> {
    let timeout = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    let name = "dscli start".to_owned();
    let options = ConnectOptions { timeout, request_timeout: timeout, name, token, ..Default::default() };
    Client::connect(address, options)?.status()?;
    Ok(())
}

/// What a log says from a moment on.
struct LogSince {
    path: PathBuf,
    file: fs::File,
    start: u64,
}

impl LogSince {
    fn now(path: &Path) -> Result<Self, Failure> {
        let file = log::open(path)?;
        Ok(Self { path: path.to_owned(), start: file.metadata()?.len(), file })
    }

    /// With the log's last lines as a hint, where the failure has none.
    fn explain(self, failure: Failure) -> Failure {
        if failure.hint.is_some() {
            return failure;
        }
        let text = fs::read(&self.path).unwrap_or_default();
        let new = String::from_utf8_lossy(text.get(self.start as usize..).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = new.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n  ");
        let path = self.path.display();
        failure.hint(match tail.is_empty() {
            true => format!("nothing more is said in the log, `{path}`"),
            false => format!("the log, `{path}`, ends with\n  {tail}"),
        })
    }
}
