//! [`Grants`]: the regions granted to one owner and not yet used.

use std::collections::BTreeMap;

use chariot_types::Extent;

/// Regions of the arena that are one owner's to carve blocks from. Regions are not joined: what was granted in two
/// answers stays two regions even where they touch.
#[derive(Default, Debug)]
pub(crate) struct Grants {
    /// End to offset; none empty, none overlapping. By their ends, because most blocks are cut off the front: that
    /// changes a region in its place.
    regions: BTreeMap<u64, u64>,
}

impl Grants {
    pub(crate) fn add(&mut self, region: Extent) {
        self.regions.insert(region.offset + region.len, region.offset);
    }

    /// Cuts `extent` out of the region that it lies in; what is left on either side stays granted. False, and nothing
    /// changed, if it does not lie in one.
    pub(crate) fn cut(&mut self, extent: Extent) -> bool {
        let Some(end) = extent.end().filter(|_| extent.len > 0) else { return false };
        let Some((&region_end, offset)) = self.regions.range_mut(end..).next() else { return false };
        let before = Extent { offset: *offset, len: extent.offset.saturating_sub(*offset) };
        if extent.offset < before.offset {
            return false;
        }
        if end < region_end {
            *offset = end;
        } else {
            self.regions.remove(&region_end);
        }
        if before.len > 0 {
            self.add(before);
        }
        true
    }

    pub(crate) fn regions(&self) -> impl Iterator<Item = Extent> {
        self.regions.iter().map(|(&end, &offset)| Extent { offset, len: end - offset })
    }

    pub(crate) fn into_regions(self) -> impl Iterator<Item = Extent> {
        self.regions.into_iter().map(|(end, offset)| Extent { offset, len: end - offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, len: u64) -> Extent {
        Extent { offset, len }
    }

    #[test]
    fn what_is_left_on_either_side_stays_granted() {
        let mut grants = Grants::default();
        grants.add(extent(100, 100));
        assert!(grants.cut(extent(120, 30)));
        assert_eq!(grants.into_regions().collect::<Vec<_>>(), [extent(100, 20), extent(150, 50)]);
    }

    #[test]
    fn only_what_is_granted_can_be_cut() {
        let mut grants = Grants::default();
        grants.add(extent(100, 100));
        grants.add(extent(200, 100));
        for wrong in [extent(99, 2), extent(150, 100), extent(300, 1), extent(150, 0), extent(150, u64::MAX)] {
            assert!(!grants.cut(wrong), "{wrong:?}");
        }
        assert!(grants.cut(extent(100, 100)));
        assert!(!grants.cut(extent(100, 1)));
        assert_eq!(grants.into_regions().collect::<Vec<_>>(), [extent(200, 100)]);
    }
}
