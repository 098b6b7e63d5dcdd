//! [`Iperf3`]: what the network between two nodes can carry, as the usual tool says.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{PATIENCE, Place};

/// Streams at a time; the better of them counts.
const STREAMS: [&str; 2] = ["1", "4"];
const SECONDS: &str = "1";

/// An iperf3 that receives. Ends with this.
pub(super) struct Iperf3<'a> {
    program: &'a Path,
    sender: &'a Place,
    receiver: &'a Place,
    port: u16,
    server: Child,
}

/// GB/s with each number of streams.
#[derive(Clone, Copy)]
pub(super) struct StreamRates([f64; STREAMS.len()]);

impl StreamRates {
    /// The better number of streams over two measurements, before and after what is compared with them.
    pub(super) fn best_around(before: Self, after: Self) -> f64 {
        let mut around = before;
        around.0.iter_mut().zip(after.0).for_each(|(rate, after)| *rate = f64::midpoint(*rate, after));
        around.best()
    }

    /// The better number of streams.
    pub(super) fn best(self) -> f64 {
        self.0.into_iter().fold(0.0, f64::max)
    }
}

impl<'a> Iperf3<'a> {
    pub(super) fn start(program: &'a Path, sender: &'a Place, receiver: &'a Place) -> Result<Self> {
        let host = receiver.worker.host();
        let port = receiver.enter(|| Ok(TcpListener::bind((host, 0))?.local_addr()?.port()))?;
        let server = receiver
            .command(program)
            .args(["--server", "--bind", host, "--port", &port.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        Ok(Self { program, sender, receiver, port, server })
    }

    /// With the system's congestion control, or with the one that is named.
    pub(super) fn rates(&self, congestion: Option<&str>) -> Result<StreamRates> {
        let mut rates = [0.0; STREAMS.len()];
        for (rate, streams) in rates.iter_mut().zip(STREAMS) {
            *rate = self.rate(streams, congestion)?;
        }
        Ok(StreamRates(rates))
    }

    fn rate(&self, streams: &str, congestion: Option<&str>) -> Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self
                .sender
                .command(self.program)
                .args(["--client", self.receiver.worker.host(), "--port", &self.port.to_string()])
                .args(["--time", SECONDS, "--parallel", streams, "--json"])
                .args(congestion.into_iter().flat_map(|name| ["--congestion", name]))
                .output()?;
            let said: Value = serde_json::from_slice(&output.stdout).context("iperf3 said what is no JSON")?;
            if let Some(bits) = said["end"]["sum_received"]["bits_per_second"].as_f64() {
                return Ok(bits / 8e9);
            }
            // The server listens some moments after it was started, and takes some to be ready again.
            if Instant::now() > deadline {
                bail!("iperf3 failed: {}", said["error"]);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Iperf3<'_> {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
