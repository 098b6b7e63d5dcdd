//! [`Target`]: the worker that is measured, a process of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chariot_client::{Client, ConnectOptions, Transport};
use chariot_types::WorkerAddress;

use crate::sample::median;
use crate::{BenchConfig, Row};

/// The worker that is measured. Ends with this.
pub(crate) struct Target {
    dscli: PathBuf,
    dir: tempfile::TempDir,
    address: WorkerAddress,
    start_seconds: f64,
    idle_resident_bytes: u64,
    is_running: bool,
}

impl Target {
    fn new(config: &BenchConfig) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self {
            dscli: config.dscli.clone(),
            dir: tempfile::tempdir()?,
            address: format!("127.0.0.1:{port}").parse()?,
            start_seconds: 0.0,
            idle_resident_bytes: 0,
            is_running: false,
        })
    }

    /// Starts a worker with an arena of so many bytes.
    pub(crate) fn start_once(config: &BenchConfig, shared_memory: u64) -> Result<Self> {
        let mut target = Self::new(config)?;
        target.launch(shared_memory)?;
        Ok(target)
    }

    /// Has the worker go on in another process.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.dscli(&["restart", "-w"]).map(drop)
    }

    /// Starts a worker three times, to see how long that takes, and keeps the last.
    pub(crate) fn start(config: &BenchConfig) -> Result<Self> {
        let mut target = Self::new(config)?;
        let mut seconds = Vec::new();
        for remaining in [2, 1, 0] {
            let begin = Instant::now();
            target.launch(config.shared_memory)?;
            seconds.push(begin.elapsed().as_secs_f64());
            if remaining > 0 {
                target.halt()?;
            }
        }
        target.start_seconds = median(seconds);
        target.wait_until_touched()?;
        target.idle_resident_bytes = target.client(Transport::Auto)?.status()?.resident_bytes;
        Ok(target)
    }

    /// What was seen at the start.
    pub(crate) fn rows(&self) -> Result<Vec<Row>> {
        Ok(vec![
            Row::alone("worker_start", self.start_seconds, "s"),
            Row::alone("worker_idle_rss", self.idle_resident_bytes as f64 / 1e6, "MB"),
        ])
    }

    /// Where the worker is.
    pub(crate) fn address(&self) -> &WorkerAddress {
        &self.address
    }

    /// A client with a connection of its own.
    pub(crate) fn client(&self, transport: Transport) -> Result<Client> {
        let timeout = Duration::from_secs(10);
        let options = ConnectOptions {
            timeout,
            request_timeout: timeout,
            transport,
            name: "bench".to_owned(),
            ..Default::default()
        };
        Client::connect(&self.address, options).context("cannot reach the worker that was just started")
    }

    /// Fresh pages are slow to write: measures only begin once the worker has touched them all.
    pub(crate) fn wait_until_touched(&self) -> Result<()> {
        let client = self.client(Transport::Auto)?;
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let status = client.status()?;
            if status.touched_bytes >= status.capacity_bytes {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the worker touched only {} of {} bytes", status.touched_bytes, status.capacity_bytes);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the worker.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.halt()
    }

    fn launch(&mut self, shared_memory: u64) -> Result<()> {
        let megabytes = (shared_memory >> 20).to_string();
        let log_dir = self.dir.path().join("log").display().to_string();
        self.dscli(&["start", "-w", "--shared_memory_size_mb", &megabytes, "--log_dir", &log_dir])?;
        self.is_running = true;
        Ok(())
    }

    fn halt(&mut self) -> Result<()> {
        self.is_running = false;
        self.dscli(&["stop", "-w"]).map(drop)
    }

    fn dscli(&self, arguments: &[&str]) -> Result<Output> {
        let output = Command::new(&self.dscli)
            .args(arguments)
            .args(["--worker_address", &self.address.to_string()])
            .env("CHARIOT_RUN_DIR", self.dir.path().join("run"))
            .output()
            .with_context(|| format!("cannot run `{}`", self.dscli.display()))?;
        if !output.status.success() {
            bail!("`dscli {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(output)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.is_running {
            let _ = self.halt();
        }
    }
}
