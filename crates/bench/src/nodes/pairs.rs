//! Blocks that are pulled between two workers, beside the same between two others on the same nodes.

use anyhow::Result;

use super::blocks::Names;
use super::transfers::{MANY, pull};
use super::{Node, NodesConfig};
use crate::Row;
use crate::sample::{Round, compared};

const FIRST: &str = "the same pull between the first two workers";

/// The first two nodes are what the next two are compared with.
pub(super) fn measure(nodes: &[Node], config: &NodesConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let (first, second) = nodes.split_at(2);
    let mut names = Names::new();
    let mut rounds = Vec::new();
    for round in 0..config.rounds {
        progress(&format!("pulls between pairs of workers, round {} of {}", round + 1, config.rounds));
        let before = pull(&first[0], &first[1], MANY, &mut names)?;
        let value = pull(&second[0], &second[1], MANY, &mut names)?;
        let after = pull(&first[0], &first[1], MANY, &mut names)?;
        rounds.push(Round { value, reference: f64::midpoint(before, after) });
    }
    Ok(vec![compared(&format!("pull_{}_second", MANY.name), "GB/s", FIRST, &rounds)])
}
