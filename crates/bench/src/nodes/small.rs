//! Very many small blocks, put on one node and pulled on another: what each costs etcd is seen in etcd's own counters.

use std::time::Instant;

use anyhow::Result;

use super::Node;
use super::blocks::{Batches, Names, Shape};
use crate::Row;

const BLOCKS: Shape = Shape { name: "small", len: 1024, count: 1000, calls: 100 };

pub(super) fn measure(nodes: &[Node], progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    progress("100,000 small blocks, put here and pulled there");
    let (holder, asker) = (&nodes[0], &nodes[1]);
    let batches = Batches::new(BLOCKS, &mut Names::new());
    batches.put(holder)?;
    let begin = Instant::now();
    for keys in &batches.keys {
        Batches::get(asker, keys)?;
    }
    let rate = (BLOCKS.count * BLOCKS.calls) as f64 / begin.elapsed().as_secs_f64();
    batches.delete(asker, holder)?;
    Ok(vec![Row::alone("pull_1000x1KiB_ops", rate, "keys/s")])
}
