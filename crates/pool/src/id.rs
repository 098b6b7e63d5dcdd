//! What names an owner, a slot and a block.

/// Someone who holds grants, slots and pins: one connection of a client. Never given to a second connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OwnerId(pub u64);

/// The name that an owner gives a block while it writes it; free for another block once that is sealed or abandoned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub u64);

/// One block of this pool: the place of its record and how often that place was used before, so that an id that
/// outlived its block never names another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockId(u64);

impl BlockId {
    const PLACE_BITS: u32 = 36;
    const PLACE_MASK: u64 = (1 << Self::PLACE_BITS) - 1;

    /// The last generation of a place; after that the place retires.
    pub(crate) const LAST_GENERATION: u32 = (1 << (u64::BITS - Self::PLACE_BITS)) - 1;

    /// No id is less.
    pub(crate) const LEAST: Self = Self(0);

    pub(crate) fn new(place: usize, generation: u32) -> Self {
        debug_assert!(place as u64 <= Self::PLACE_MASK && generation <= Self::LAST_GENERATION);
        Self(u64::from(generation) << Self::PLACE_BITS | place as u64)
    }

    pub(crate) fn place(self) -> usize {
        (self.0 & Self::PLACE_MASK) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> Self::PLACE_BITS) as u32
    }

    /// The id as a client sends it back; any number is allowed, most name no block.
    pub fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The id as it is sent to clients.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}
