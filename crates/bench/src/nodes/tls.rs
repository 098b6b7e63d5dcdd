//! Blocks that are pulled within TLS, beside the same without.

use anyhow::Result;

use super::blocks::Names;
use super::transfers::{MANY, pull};
use super::{Node, NodesConfig};
use crate::Row;
use crate::sample::{Round, compared};

const PLAIN: &str = "the same pull between workers on the same nodes without TLS";

/// The first two nodes speak plainly, the next two within TLS.
pub(super) fn measure(nodes: &[Node], config: &NodesConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let (plain, tls) = nodes.split_at(2);
    let mut names = Names::new();
    let mut rounds = Vec::new();
    for round in 0..config.rounds {
        progress(&format!("pulls within TLS, round {} of {}", round + 1, config.rounds));
        let before = pull(&plain[0], &plain[1], MANY, &mut names)?;
        let value = pull(&tls[0], &tls[1], MANY, &mut names)?;
        let after = pull(&plain[0], &plain[1], MANY, &mut names)?;
        rounds.push(Round { value, reference: f64::midpoint(before, after) });
    }
    Ok(vec![compared(&format!("pull_{}_tls", MANY.name), "GB/s", PLAIN, &rounds)])
}
