//! How many blocks of prompts the pool finds again with little memory: its policy against the least recently used, and
//! against one that knows the future.
//!
//! No clock is involved: the same traces give the same figures on every machine.

mod drawn;
mod lru;
mod optimum;
mod replay;
mod trace;

use std::io::Write;

use anyhow::Result;

use crate::Row;
pub use trace::Trace;

/// How much of all blocks of a trace a pool has room for, in percent.
const ROOMS: [usize; 5] = [1, 5, 10, 25, 50];

/// What is drawn is drawn from this.
const SEED: u64 = 1;

/// The shares of all prompts' blocks that are found in pools of one size.
#[derive(Clone, Copy, Debug)]
pub struct HitRates {
    /// How many percent of the trace's blocks there is room for.
    pub room: usize,
    /// By the pool.
    pub pool: f64,
    /// By a cache that evicts the least recently used, children before their parents.
    pub lru: f64,
    /// By a cache that knows all requests to come.
    pub optimum: f64,
}

/// All traces that come with the bench, drawn from `seed` where they are drawn.
pub fn own_traces(seed: u64) -> Result<Vec<Trace>> {
    let published = Trace::conversation();
    let mut traces = vec![published.clone(), published.with_decode()];
    traces.extend(drawn::traces(seed)?);
    Ok(traces)
}

/// What is found of one trace, with little memory and with more.
pub fn hit_rates(trace: &Trace) -> Result<Vec<HitRates>> {
    let longest = trace.requests.iter().map(Vec::len).max().unwrap_or(0);
    let rate = |hits: u64| hits as f64 / trace.uses() as f64;
    let rates = ROOMS.map(|room| {
        // Less than the longest prompt is no cache.
        let blocks = (trace.blocks() * room / 100).max(longest + 1);
        let (lru, optimum) = (lru::hits(trace, blocks), optimum::hits(trace, blocks));
        replay::hits(trace, blocks).map(|pool| HitRates {
            room,
            pool: rate(pool),
            lru: rate(lru),
            optimum: rate(optimum),
        })
    });
    rates.into_iter().collect()
}

/// Prints what is found of `traces`, as tables of Markdown.
pub fn print_hit_rates(traces: &[Trace], out: &mut impl Write) -> Result<()> {
    writeln!(out, "| trace | room | LRU | pool | optimum | pool / LRU | pool / optimum |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for trace in traces {
        for HitRates { room, pool, lru, optimum } in hit_rates(trace)? {
            let (name, to_lru, to_optimum) = (trace.name(), pool / lru, pool / optimum);
            writeln!(
                out,
                "| {name} | {room}% | {lru:.4} | {pool:.4} | {optimum:.4} | {to_lru:.3} | {to_optimum:.3} |"
            )?;
        }
    }
    Ok(())
}

/// The rows of the bench: the worst trace's mean over all sizes.
pub(crate) fn measure(progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let mut means = Vec::new();
    for trace in own_traces(SEED)? {
        progress(&format!("hit rates of the trace \"{}\"", trace.name()));
        let rates = hit_rates(&trace)?;
        let mean = |of: fn(&HitRates) -> f64| rates.iter().map(of).sum::<f64>() / rates.len() as f64;
        means.push((mean(|rates| rates.pool), mean(|rates| rates.lru), mean(|rates| rates.optimum)));
    }
    let worst = |name: &str, reference_name: &'static str, reference: fn(&(f64, f64, f64)) -> f64| {
        let pair = means.iter().map(|means| (means.0, reference(means)));
        let worst = pair.min_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)));
        worst.map(|(value, reference)| Row {
            row: name.to_owned(),
            value,
            unit: "hits",
            reference: reference_name,
            reference_value: Some(reference),
            ratio: Some(value / reference),
        })
    };
    let rows = [
        worst("hit_rate_vs_lru", "least recently used, same memory; the trace where the ratio is worst", |means| {
            means.1
        }),
        worst("hit_rate_vs_optimum", "one that knows the future; the trace where the ratio is worst", |means| means.2),
    ];
    Ok(rows.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::trace::{Chains, Readers};
    use super::*;

    fn trace(requests: &[&[u64]]) -> Trace {
        let mut chains = Chains::default();
        requests.iter().for_each(|contents| chains.add(contents));
        chains.into_trace("test", Readers::SameInstance)
    }

    #[test]
    fn the_least_recently_used_goes_first_and_children_before_their_parents() {
        let requests: [&[u64]; 4] = [&[1, 2], &[3], &[4], &[1, 2]];
        assert_eq!(lru::hits(&trace(&requests), 3), 1, "block 2 went for block 4");
        assert_eq!(lru::hits(&trace(&requests), 4), 2);
        assert_eq!(lru::hits(&trace(&requests), 2), 0);
    }

    #[test]
    fn the_optimum_keeps_what_comes_back_first() {
        let requests: [&[u64]; 5] = [&[1], &[2], &[3], &[1], &[2]];
        let found = [1, 2, 3].map(|room| optimum::hits(&trace(&requests), room));
        assert_eq!(found, [1, 2, 2]);
    }

    #[test]
    fn no_policy_finds_more_than_the_optimum_nor_than_there_is() {
        for trace in drawn::traces(3).unwrap().iter().skip(3).take(1) {
            for rates in hit_rates(trace).unwrap() {
                assert!(rates.pool <= rates.optimum && rates.lru <= rates.optimum, "{rates:?} in {}", trace.name());
                assert!(rates.optimum <= 1.0 - trace.blocks() as f64 / trace.uses() as f64 + 1e-9);
            }
        }
    }
}
