//! Blocks that one node holds and another gets: pulled when they are asked for, or pushed ahead.

use std::time::Instant;

use anyhow::Result;
use chariot_types::Key;

use super::blocks::{Batches, Names, Shape, wait_for_count};
use super::iperf3::{Iperf3, StreamRates};
use super::raw::RawPair;
use super::{Node, NodesConfig};
use crate::Row;
use crate::sample::{Round, compared};

/// One alone.
pub(super) const ONE: Shape = Shape { name: "1MiB", len: 1 << 20, count: 1, calls: 48 };

/// Many at once.
pub(super) const MANY: Shape = Shape { name: "64x1MiB", len: 1 << 20, count: 64, calls: 2 };

const SHAPES: [Shape; 3] = [ONE, Shape { name: "16MiB", len: 16 << 20, count: 1, calls: 4 }, MANY];

const RAW: &str = "the same bytes in one TCP request and response between the nodes";
const IPERF3: &str = "the better of iperf3 with 1 and 4 streams between the nodes";

/// The rounds of one row.
struct Rounds {
    row: String,
    reference: &'static str,
    rounds: Vec<Round>,
}

pub(super) fn measure(nodes: &[Node], config: &NodesConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let (holder, asker) = (&nodes[0], &nodes[1]);
    let most = SHAPES.iter().map(|shape| shape.len).max().expect("there are shapes");
    let mut raw = RawPair::connect(&holder.place, &asker.place, most, |_| ())?;
    let iperf3 = Iperf3::start(&config.iperf3, &holder.place, &asker.place)?;
    let mut names = Names::new();
    let mut rows: Vec<Rounds> = Vec::new();
    for shape in SHAPES {
        let reference = if shape.name == ONE.name { RAW } else { IPERF3 };
        rows.push(Rounds { row: format!("pull_{}", shape.name), reference, rounds: Vec::new() });
        rows.push(Rounds { row: format!("push_{}", shape.name), reference: IPERF3, rounds: Vec::new() });
    }
    let mut before = iperf3.rates(None)?;
    for round in 0..config.rounds {
        progress(&format!("pulls and pushes, round {} of {}", round + 1, config.rounds));
        let mut seen = Vec::new();
        for shape in SHAPES {
            let raw_before = raw.rate(shape)?;
            let pulled = pull(holder, asker, shape, &mut names)?;
            let raw_rate = f64::midpoint(raw_before, raw.rate(shape)?);
            seen.push((pulled, raw_rate));
            seen.push((push(holder, asker, shape, &mut names)?, raw_rate));
        }
        let after = iperf3.rates(None)?;
        let best = StreamRates::best_around(before, after);
        for (row, (value, raw_rate)) in rows.iter_mut().zip(seen) {
            let reference = if row.reference == RAW { raw_rate } else { best };
            row.rounds.push(Round { value, reference });
        }
        before = after;
    }
    Ok(rows.iter().map(|row| compared(&row.row, "GB/s", row.reference, &row.rounds)).collect())
}

/// GB/s of gets on a node that has to fetch what it is asked for.
pub(super) fn pull(holder: &Node, asker: &Node, shape: Shape, names: &mut Names) -> Result<f64> {
    rate(holder, asker, shape, names, |keys| Batches::get(asker, keys).map(drop))
}

/// GB/s of blocks sent to a node that has not asked.
fn push(holder: &Node, asker: &Node, shape: Shape, names: &mut Names) -> Result<f64> {
    let mut there = asker.client.status()?.sealed_blocks;
    rate(holder, asker, shape, names, |keys| {
        there += keys.len() as u64;
        holder.client.forward(asker.worker(), keys)?;
        wait_for_count(asker, there)
    })
}

fn rate(
    holder: &Node,
    asker: &Node,
    shape: Shape,
    names: &mut Names,
    mut carry: impl FnMut(&[Key]) -> Result<()>,
) -> Result<f64> {
    let batches = Batches::new(shape, names);
    batches.put(holder)?;
    batches.wait_until_known(asker)?;
    let begin = Instant::now();
    batches.keys.iter().try_for_each(|keys| carry(keys))?;
    let seconds = begin.elapsed().as_secs_f64();
    batches.check(asker)?;
    batches.delete(asker, holder)?;
    Ok(shape.bytes() as f64 / seconds / 1e9)
}
