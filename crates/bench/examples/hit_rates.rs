//! Prints how many blocks of prompts the pool finds again, by trace and by memory: the tables of docs/perf.md.
//!
//! `cargo run --release -p chariot-bench --example hit_rates -- [--seed N] [FILE.jsonl ...]`: of the traces named, in the
//! form in which Mooncake publishes them, or of those that come with the bench, drawn from another seed where one is given.

use std::path::Path;

use anyhow::{Context, Result};
use chariot_bench::{Trace, own_traces, print_hit_rates};

fn main() -> Result<()> {
    let mut seed = 1;
    let mut traces = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--seed" {
            seed = arguments.next().context("a number follows --seed")?.parse()?;
        } else {
            traces.push(Trace::read(Path::new(&argument))?);
        }
    }
    if traces.is_empty() {
        traces = own_traces(seed)?;
    }
    print_hit_rates(&traces, &mut std::io::stdout().lock())
}
