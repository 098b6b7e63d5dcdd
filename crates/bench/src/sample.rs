//! Medians, and rows made from rounds.

use crate::Row;

/// The median of `values`; there must be some.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One round: a figure and the reference taken right beside it.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) value: f64,
    pub(crate) reference: f64,
}

/// The row that rounds add up to.
pub(crate) fn compared(row: &str, unit: &'static str, reference: &'static str, rounds: &[Round]) -> Row {
    Row {
        row: row.to_owned(),
        value: median(rounds.iter().map(|round| round.value).collect()),
        unit,
        reference,
        reference_value: Some(median(rounds.iter().map(|round| round.reference).collect())),
        ratio: Some(median(rounds.iter().map(|round| round.value / round.reference).collect())),
    }
}
