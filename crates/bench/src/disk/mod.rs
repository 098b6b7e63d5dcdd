//! Measures the second tier against what the disk itself can do, which fio says.
//!
//! Both work in the same folder, with blocks of the same length, as many of them under way at a time, past the page
//! cache, and on files whose room was allocated and written before. fio runs before and after what is compared with it,
//! so that noise takes no side.

mod fio;
mod lent;
mod tier;

use anyhow::Result;

use crate::sample::{Round, compared};
use crate::{BenchConfig, Row};
use fio::{Fio, Way};
use tier::Tier;

/// Bytes of a block.
const BLOCK: u64 = 1 << 20;
/// Blocks under way at a time.
const DEPTH: usize = 16;
/// Blocks that a round stores and loads.
const BLOCKS: usize = 384;
/// Bytes of each side's file.
const FILE: u64 = 2 << 30;

const FIO: &str = "fio, direct I/O of the same length and depth on the same file system";

pub(crate) fn measure(config: &BenchConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let Some(fio) = &config.fio else {
        progress("leaving the second tier out: it is compared with fio, which is not named");
        return Ok(Vec::new());
    };
    let folder = tempfile::tempdir_in(&config.disk)?;
    progress("writing both files once");
    let fio = Fio::lay_out(fio, folder.path())?;
    let mut tier = Tier::open(folder.path())?;
    tier.fill()?;
    let (mut stores, mut loads) = (Vec::new(), Vec::new());
    progress("spill and load of 1 MiB");
    for round in 0..config.rounds {
        let before = fio.rate(Way::Write, round)?;
        let value = tier.store()?;
        stores.push(Round { value, reference: f64::midpoint(before, fio.rate(Way::Write, round)?) });
        let before = fio.rate(Way::Read, round)?;
        let value = tier.load()?;
        loads.push(Round { value, reference: f64::midpoint(before, fio.rate(Way::Read, round)?) });
    }
    let mut rows = vec![compared("spill_1MiB", "GB/s", FIO, &stores), compared("load_1MiB", "GB/s", FIO, &loads)];
    progress("finding what the file holds");
    rows.extend(tier.recovery()?);
    Ok(rows)
}
