//! Measures a data worker against what the machine itself can do, in one run.
//!
//! Machines differ and are noisy, so no figure stands alone: each row is taken in turns with its reference (a copy
//! into the same mapping, a message between two processes), round after round, and what counts is their ratio. Nothing
//! here is a test: a slow machine fails nothing.

mod copies;
mod disk;
mod hits;
mod latencies;
mod nodes;
mod part;
mod ping_pong;
mod placement;
mod python;
mod restart;
mod row;
mod sample;
mod target;
mod throughput;
mod waiting;

use std::path::PathBuf;

use anyhow::Result;

pub use hits::{HitRates, Trace, hit_rates, own_traces, print_hit_rates};
pub use nodes::{NodesConfig, NodesPart, Place, run_nodes};
pub use part::Part;
pub use ping_pong::{PING_PONG_PEER, be_ping_pong_peer};
pub use row::{Row, print_table, write_json};
pub use waiting::{WRITING_PEER, be_writing_peer};

/// What to measure with.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// The `dscli` that starts and stops the worker, and that runs as peer when called with [`PING_PONG_PEER`] or
    /// [`WRITING_PEER`].
    pub dscli: PathBuf,
    /// A Python that has `chariot_ds`; without one, what needs it is not measured.
    pub python: Option<PathBuf>,
    /// The program fio; without it, the second tier is not measured.
    pub fio: Option<PathBuf>,
    /// A folder on the disk that the second tier is measured on, with room for two files of 2 GiB.
    pub disk: PathBuf,
    /// Bytes of the worker's arena.
    pub shared_memory: u64,
    /// How often each row and its reference take turns.
    pub rounds: usize,
    /// What to measure.
    pub parts: Vec<Part>,
}

/// Runs measurements on a worker of its own; `progress` is told what is being measured.
pub fn run(config: &BenchConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    progress("starting a worker");
    let target = target::Target::start(config)?;
    rows.extend(target.rows()?);
    progress("waiting until its memory is touched");
    target.wait_until_touched()?;
    for part in &config.parts {
        rows.extend(match (part, &config.python) {
            (Part::Disk, _) => disk::measure(config, progress)?,
            (Part::Hits, _) => hits::measure(progress)?,
            (Part::Restart, _) => restart::measure(config, progress)?,
            (Part::Latency, _) => latencies::measure(&target, config, progress)?,
            (Part::Waiting, _) => waiting::measure(&target, config, progress)?,
            (Part::Throughput, _) => throughput::measure(&target, config, progress)?,
            (Part::Python, Some(python)) => {
                progress("the Python client");
                python::measure(&target, config, python)?
            }
            (Part::Idle, Some(python)) => {
                progress("a worker and an engine that do nothing");
                vec![python::measure_idle(&target, python)?]
            }
            (Part::Python | Part::Idle, None) => {
                progress(&format!("leaving {part:?} out: it needs a Python that has chariot_ds"));
                Vec::new()
            }
        });
    }
    target.stop()?;
    Ok(rows)
}
