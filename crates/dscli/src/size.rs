//! [`Size`]: a number of bytes, as the user writes it. Fuzzed, and so without anything of this crate.

use std::str::FromStr;

use anyhow::Context;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("", 0)];

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, anyhow::Error> {
        let cut = |&(unit, bits): &(&str, u32)| Some((text.strip_suffix(unit)?.trim_end(), bits));
        let number = UNITS.iter().find_map(cut).and_then(|(number, bits)| Some((number.parse::<u64>().ok()?, bits)));
        let size = number.and_then(|(number, bits)| number.checked_mul(1 << bits));
        size.map(Self).context("expected a number of bytes, or one with a unit, such as `500GiB`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_or_without_a_unit() {
        let size = |text: &str| text.parse::<Size>().ok().map(|size| size.0);
        assert_eq!(
            ["0", "4096", "3KiB", "5 MiB", "500GiB", "1TiB"].map(size),
            [0, 4096, 3 << 10, 5 << 20, 500 << 30, 1 << 40].map(Some)
        );
        assert_eq!(["", "GiB", "1.5GiB", "-1", "10GB", "99999999TiB"].map(size), [None; 6]);
    }
}
