//! [`Row`]: one measured figure next to its reference.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One measured figure next to its reference.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name, by which the documents refer to it.
    pub row: String,
    /// The median over the rounds.
    pub value: f64,
    /// The value's unit.
    pub unit: &'static str,
    /// What it is compared with, taken in the same rounds; empty where there is nothing to compare with.
    pub reference: &'static str,
    /// The reference's median, in the same unit.
    pub reference_value: Option<f64>,
    /// The median over the rounds of value over reference.
    pub ratio: Option<f64>,
}

impl Row {
    /// A figure that stands alone.
    pub(crate) fn alone(row: &str, value: f64, unit: &'static str) -> Self {
        Self { row: row.to_owned(), value, unit, reference: "", reference_value: None, ratio: None }
    }
}

/// Prints rows for people.
pub fn print_table(rows: &[Row], out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{:<24} {:>12} {:<8} {:>12} {:>7}  reference", "row", "value", "unit", "reference", "ratio")?;
    for row in rows {
        let optional = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
        let (reference, ratio) = (optional(row.reference_value), optional(row.ratio));
        writeln!(
            out,
            "{:<24} {:>12.3} {:<8} {:>12} {:>7}  {}",
            row.row, row.value, row.unit, reference, ratio, row.reference
        )?;
    }
    Ok(())
}

/// Writes rows for programs: `{"rows": [...]}`.
pub fn write_json(rows: &[Row], path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(&serde_json::json!({ "rows": rows }))?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write `{}`", path.display()))
}
