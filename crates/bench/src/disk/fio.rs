//! [`Fio`]: what the disk can do, as the usual tool says.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{BLOCK, BLOCKS, DEPTH, FILE};

/// Runs of fio on one file of its own.
pub(super) struct Fio {
    program: PathBuf,
    file: PathBuf,
}

/// Which way the bytes go.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Write,
    Read,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

impl Fio {
    /// Makes its file in `folder`, and writes all of it.
    pub(super) fn lay_out(program: &Path, folder: &Path) -> Result<Self> {
        let fio = Self { program: program.to_owned(), file: folder.join("fio") };
        fio.run(Way::Write, 0, FILE)?;
        Ok(fio)
    }

    /// GB/s of one round, each in another part of the file.
    pub(super) fn rate(&self, way: Way, round: usize) -> Result<f64> {
        let bytes = BLOCKS as u64 * BLOCK;
        self.run(way, round as u64 % (FILE / bytes) * bytes, bytes)
    }

    fn run(&self, way: Way, offset: u64, bytes: u64) -> Result<f64> {
        let output = Command::new(&self.program)
            .args(["--name=chariot", "--direct=1", "--ioengine=io_uring", "--fallocate=native", "--output-format=json"])
            .arg(format!("--filename={}", self.file.display()))
            .arg(format!("--rw={}", way.word()))
            .arg(format!("--bs={BLOCK}"))
            .arg(format!("--iodepth={DEPTH}"))
            .arg(format!("--offset={offset}"))
            .arg(format!("--size={bytes}"))
            .arg(format!("--filesize={FILE}"))
            .output()
            .with_context(|| format!("cannot start `{}`", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "fio failed: {}", said.trim());
        // Notes may precede the JSON.
        let json = output.stdout.iter().position(|byte| *byte == b'{').map_or(&[][..], |start| &output.stdout[start..]);
        let said: Value = serde_json::from_slice(json).context("fio said what is no JSON")?;
        let rate = said["jobs"][0][way.word()]["bw_bytes"].as_f64().context("fio named no rate")?;
        Ok(rate / 1e9)
    }
}
