//! [`Extent`]: a range of bytes of an arena.

/// A range of bytes of an arena, by its offset from the arena's start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Extent {
    /// The first byte's distance from the arena's start.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl Extent {
    /// Extents begin at multiples of this many bytes: a cache line, so that two writers never share one.
    pub const ALIGN: u64 = 64;

    /// Extents of at least one page begin at a page, so that a device or a disk can be given them directly.
    pub const PAGE: u64 = 4096;

    /// The room that a block of `len` bytes takes: `len` rounded up to whole cache lines, or whole pages from one
    /// page on. `None` when that overflows.
    pub const fn room_for(len: u64) -> Option<u64> {
        let align = if len >= Self::PAGE { Self::PAGE } else { Self::ALIGN };
        match len.checked_next_multiple_of(align) {
            Some(0) => Some(align),
            other => other,
        }
    }

    /// The first offset past the extent; `None` when it overflows.
    pub const fn end(self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }

    /// Whether `inner` lies within this extent.
    pub fn contains(self, inner: Self) -> bool {
        match (self.end(), inner.end()) {
            (Some(end), Some(inner_end)) => self.offset <= inner.offset && inner_end <= end,
            _ => false,
        }
    }

    /// Cuts a room of `room` bytes off the front, aligned for what [`Extent::room_for`] rounded it to; also returns
    /// the sliver skipped for alignment (often empty) and leaves the rest in `self`. `None`, and nothing changed,
    /// when it does not fit.
    pub fn carve(&mut self, room: u64) -> Option<Carved> {
        let align = if room >= Self::PAGE { Self::PAGE } else { Self::ALIGN };
        let start = self.offset.checked_next_multiple_of(align)?;
        let carved = Self { offset: start, len: room };
        if !self.contains(carved) {
            return None;
        }
        let skipped = Self { offset: self.offset, len: start - self.offset };
        let end = start + room;
        *self = Self { offset: end, len: self.offset + self.len - end };
        Some(Carved { skipped, carved })
    }
}

/// What [`Extent::carve`] cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carved {
    /// Bytes before the room that alignment skipped; they stay free.
    pub skipped: Extent,
    /// The room.
    pub carved: Extent,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn carving_loses_no_byte(offset in 0u64..100_000, len in 0u64..100_000, wanted in 1u64..60_000) {
            let whole = Extent { offset: offset * Extent::ALIGN, len };
            let room = Extent::room_for(wanted).unwrap();
            let mut rest = whole;
            match rest.carve(room) {
                None => prop_assert_eq!(rest, whole),
                Some(Carved { skipped, carved }) => {
                    prop_assert_eq!(skipped.offset, whole.offset);
                    prop_assert_eq!(skipped.end(), Some(carved.offset));
                    prop_assert_eq!(carved.end(), Some(rest.offset));
                    prop_assert_eq!(rest.end(), whole.end());
                    prop_assert_eq!(carved.len, room);
                }
            }
        }

        #[test]
        fn containment_never_overflows(a in any::<[u64; 4]>()) {
            let (outer, inner) = (Extent { offset: a[0], len: a[1] }, Extent { offset: a[2], len: a[3] });
            if outer.contains(inner) {
                prop_assert!(inner.end().unwrap() <= outer.end().unwrap());
            }
        }
    }
}
