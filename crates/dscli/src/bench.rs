//! `dscli bench`: measures a worker of its own against what the machine can do.

use std::path::PathBuf;

use chariot_bench::{BenchConfig, NodesConfig, NodesPart, Part, Place, print_table, write_json};

use crate::failure::Failure;

/// Measure a data worker against this machine's own memory and sockets.
///
/// Starts a worker of its own, so it needs no other and disturbs none; but a busy machine gives figures that tell little.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Write the rows as JSON to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Shared memory of the worker, in MiB.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(512..))]
    shared_memory_size_mb: u64,
    /// How often each row and its reference take turns.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// A Python that has chariot_ds, to measure the Python client and an idle engine with.
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// The program fio, to measure the second tier against.
    #[arg(long, value_name = "PROGRAM")]
    fio: Option<PathBuf>,
    /// A folder on the disk to measure, with room for 4 GiB.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    disk: PathBuf,
    /// Measure this part only; may be given more than once.
    #[arg(long, value_name = "PART")]
    only: Vec<OnePart>,
}

/// As [`Part`].
#[derive(Clone, Copy, clap::ValueEnum)]
enum OnePart {
    Latency,
    Waiting,
    Throughput,
    Python,
    Idle,
    Disk,
    Hits,
    Restart,
}

impl From<OnePart> for Part {
    fn from(part: OnePart) -> Self {
        match part {
            OnePart::Latency => Self::Latency,
            OnePart::Waiting => Self::Waiting,
            OnePart::Throughput => Self::Throughput,
            OnePart::Python => Self::Python,
            OnePart::Idle => Self::Idle,
            OnePart::Disk => Self::Disk,
            OnePart::Hits => Self::Hits,
            OnePart::Restart => Self::Restart,
        }
    }
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let failed = |error: anyhow::Error| Failure::new(error.context("bench failed"));
        let config = BenchConfig {
            dscli: std::env::current_exe().map_err(|error| failed(error.into()))?,
            shared_memory: self.shared_memory_size_mb << 20,
            rounds: self.rounds.into(),
            python: self.python,
            fio: self.fio,
            disk: self.disk,
            parts: if self.only.is_empty() {
                Part::ALL.to_vec()
            } else {
                self.only.into_iter().map(Part::from).collect()
            },
        };
        let rows = chariot_bench::run(&config, &mut |what| eprintln!("  {what} ...")).map_err(failed)?;
        print_table(&rows, &mut std::io::stdout()).map_err(|error| failed(error.into()))?;
        if let Some(path) = &self.json {
            write_json(&rows, path).map_err(failed)?;
        }
        Ok(())
    }
}

/// The other side of the ping-pong that small operations are compared with.
#[derive(clap::Args)]
pub(crate) struct PingPongPeer;

impl PingPongPeer {
    pub(crate) fn run(self) -> Result<(), Failure> {
        Ok(chariot_bench::be_ping_pong_peer()?)
    }
}

/// The process that writes the blocks for which gets wait.
#[derive(clap::Args)]
pub(crate) struct WritingPeer {
    worker: chariot_types::WorkerAddress,
}

impl WritingPeer {
    pub(crate) fn run(self) -> Result<(), Failure> {
        chariot_bench::be_writing_peer(&self.worker).map_err(Failure::new)
    }
}

/// Measure workers of one cluster, on nodes of their own, against the network between them; `./dev bench` sets them up.
#[derive(clap::Args)]
pub(crate) struct BenchNodes {
    /// What to measure
    part: OneNodesPart,
    /// A worker, and the network namespace that it is in
    #[arg(long = "node", value_name = "HOST:PORT[@NAMESPACE]", required = true)]
    nodes: Vec<Place>,
    /// The program iperf3
    #[arg(long, value_name = "FILE", default_value = "iperf3")]
    iperf3: PathBuf,
    /// Write the rows as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// How often each row and its reference take turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

/// As [`NodesPart`].
#[derive(Clone, Copy, clap::ValueEnum)]
enum OneNodesPart {
    Transfers,
    Lookups,
    Small,
    Pairs,
    Handoff,
}

impl BenchNodes {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let failed = |error: anyhow::Error| Failure::new(error.context("bench failed"));
        let part = match self.part {
            OneNodesPart::Transfers => NodesPart::Transfers,
            OneNodesPart::Lookups => NodesPart::Lookups,
            OneNodesPart::Small => NodesPart::Small,
            OneNodesPart::Pairs => NodesPart::Pairs,
            OneNodesPart::Handoff => NodesPart::Handoff,
        };
        let config = NodesConfig { nodes: self.nodes, iperf3: self.iperf3, rounds: self.rounds.into() };
        let rows = chariot_bench::run_nodes(part, &config, &mut |what| eprintln!("  {what} ...")).map_err(failed)?;
        write_json(&rows, &self.json).map_err(failed)
    }
}
