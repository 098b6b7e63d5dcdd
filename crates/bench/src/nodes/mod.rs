//! Measures several workers of one cluster against the network between them.
//!
//! The workers run already, each on a node of its own: a host, or a network namespace of this one. This process is a
//! client of all of them, through shared memory where that can be had, and so sees both ends of a transfer with one clock.
//! What a transfer is compared with, a raw TCP connection or iperf3, runs between the same nodes in the same rounds.

mod blocks;
mod handoff;
mod iperf3;
mod lookups;
mod pairs;
mod place;
mod raw;
mod small;
mod transfers;
mod unpaced;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chariot_client::{Client, ConnectOptions, Transport};
use chariot_types::WorkerAddress;

pub use place::Place;

use crate::Row;

/// What to measure between nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodesPart {
    /// Pulls and pushes of blocks, against raw TCP and iperf3: two nodes.
    Transfers,
    /// Which worker holds which key: three nodes.
    Lookups,
    /// Very many small blocks, of which the rows say little: what they cost others is seen there. Two nodes.
    Small,
    /// Pulls between two workers, against pulls between two others on the same nodes that differ from them in one thing: four
    /// workers, the others first.
    Pairs,
    /// A prompt's KV cache that follows its computation, against carrying it afterwards: two nodes.
    Handoff,
}

/// What to measure with.
#[derive(Clone, Debug)]
pub struct NodesConfig {
    /// The workers, all of one cluster (two, for pairs) and used by nobody else, and where each is.
    pub nodes: Vec<Place>,
    /// The program iperf3.
    pub iperf3: PathBuf,
    /// How often each row and its reference take turns.
    pub rounds: usize,
}

/// Runs one part; `progress` is told what is being measured.
pub fn run_nodes(part: NodesPart, config: &NodesConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let needed = match part {
        NodesPart::Transfers | NodesPart::Small | NodesPart::Handoff => 2,
        NodesPart::Lookups => 3,
        NodesPart::Pairs => 4,
    };
    ensure!(config.nodes.len() >= needed, "{needed} nodes are needed, and {} are named", config.nodes.len());
    let nodes = config.nodes.iter().map(Node::connect).collect::<Result<Vec<_>>>()?;
    progress("waiting until the workers' memory is touched");
    nodes.iter().try_for_each(Node::wait_until_touched)?;
    match part {
        NodesPart::Transfers => {
            let mut rows = transfers::measure(&nodes, config, progress)?;
            rows.extend(unpaced::measure(&nodes, config, progress)?);
            Ok(rows)
        }
        NodesPart::Lookups => lookups::measure(&nodes, config, progress),
        NodesPart::Small => small::measure(&nodes, progress),
        NodesPart::Pairs => pairs::measure(&nodes, config, progress),
        NodesPart::Handoff => handoff::measure(&nodes, config, progress),
    }
}

/// Everything that is waited for is there by then, or the measurement has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker, and a client of it.
struct Node {
    place: Place,
    client: Client,
}

impl Node {
    fn connect(place: &Place) -> Result<Self> {
        let timeout = Duration::from_secs(10);
        let options = ConnectOptions {
            timeout,
            request_timeout: timeout,
            transport: Transport::Auto,
            name: "bench".to_owned(),
            ..Default::default()
        };
        let client = Client::connect(&place.worker, options)
            .with_context(|| format!("cannot reach the worker at `{}`", place.worker))?;
        ensure!(client.is_local(), "the worker at `{}` shares no memory with this process", place.worker);
        Ok(Self { place: place.clone(), client })
    }

    fn worker(&self) -> &WorkerAddress {
        &self.place.worker
    }

    /// Fresh pages are slow to write: measures only begin once the worker has touched them all.
    fn wait_until_touched(&self) -> Result<()> {
        let deadline = Instant::now() + 4 * PATIENCE;
        loop {
            let status = self.client.status()?;
            if status.touched_bytes >= status.capacity_bytes {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("`{}` touched only {} of {} bytes", self.worker(), status.touched_bytes, status.capacity_bytes);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
