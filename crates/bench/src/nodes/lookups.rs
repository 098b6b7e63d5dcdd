//! Where blocks are that this node does not have: one question to each owner of some of their keys.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::blocks::{Batches, Names, Shape};
use super::{Node, NodesConfig};
use crate::Row;
use crate::sample::median;

const KEYS: Shape = Shape { name: "1000", len: 1024, count: 1000, calls: 1 };
const PER_ROUND: usize = 50;

pub(super) fn measure(nodes: &[Node], config: &NodesConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    progress("look-ups of 1000 keys over three workers");
    let (holder, asker) = (&nodes[0], &nodes[2]);
    let batches = Batches::new(KEYS, &mut Names::new());
    batches.put(holder)?;
    batches.wait_until_known(asker)?;
    let (mut times, begin) = (Vec::new(), Instant::now());
    for _ in 0..config.rounds * PER_ROUND {
        let begin = Instant::now();
        let found = asker.client.exists(&batches.keys[0])?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        ensure!(found.iter().all(|is_there| *is_there), "a look-up did not find all that was put");
    }
    let rate = (times.len() * KEYS.count) as f64 / begin.elapsed().as_secs_f64();
    batches.delete(asker, holder)?;
    Ok(vec![Row::alone("lookup_1000_p50", median(times), "ms"), Row::alone("lookup_keys_per_s", rate, "keys/s")])
}
