//! [`Blocks`]: every block's record, by its id, and a running census of them.

use chariot_types::{Extent, Key};

use crate::block::Block;
use crate::evict::Standing;
use crate::{BlockId, Tally};

/// Every block's record, in places that are used again under another id.
#[derive(Default, Debug)]
pub(crate) struct Blocks {
    places: Vec<Place>,
    vacant: Vec<usize>,
    census: Census,
}

/// How many blocks of each kind there are, kept up at every change so that asking costs nothing.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Census {
    pub(crate) sealed: Tally,
    pub(crate) growing: Tally,
    pub(crate) detached: Tally,
    pub(crate) pinned: Tally,
    /// Sealed ones that nobody has pinned.
    pub(crate) idle: Tally,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    block: Option<Block>,
}

impl Blocks {
    pub(crate) fn insert(&mut self, block: Block) -> BlockId {
        self.census.count(Kind::of(&block), block.extent);
        if let Some(at) = self.vacant.pop() {
            let place = &mut self.places[at];
            place.block = Some(block);
            return BlockId::new(at, place.generation);
        }
        let at = self.places.len();
        self.places.push(Place { generation: 1, block: Some(block) });
        BlockId::new(at, 1)
    }

    /// Puts a block that comes with its id where that says; false if there is another. The places before it are made.
    pub(crate) fn insert_at(&mut self, id: BlockId, block: Block) -> bool {
        if self.places.len() <= id.place() {
            // Whatever ids these places had before, nobody goes by them any more: no block of theirs came with its id.
            self.places.resize_with(id.place() + 1, || Place { generation: 1, block: None });
        }
        let place = &mut self.places[id.place()];
        if place.block.is_some() {
            return false;
        }
        self.census.count(Kind::of(&block), block.extent);
        *place = Place { generation: id.generation(), block: Some(block) };
        true
    }

    /// Finds the places that [`insert_at`](Self::insert_at) made and left empty.
    pub(crate) fn find_vacant(&mut self) {
        let vacant = self.places.iter().enumerate().filter(|(_, place)| place.block.is_none());
        self.vacant = vacant.map(|(at, _)| at).rev().collect();
    }

    /// All blocks with their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BlockId, &Block)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(at, place)| Some((BlockId::new(at, place.generation), place.block.as_ref()?)))
    }

    pub(crate) fn get(&self, id: BlockId) -> Option<&Block> {
        let place = self.places.get(id.place())?;
        if place.generation == id.generation() { place.block.as_ref() } else { None }
    }

    /// Changes a block's record, and the census with it; the extent stays.
    pub(crate) fn change<T>(&mut self, id: BlockId, change: impl FnOnce(&mut Block) -> T) -> Option<T> {
        let block = Self::get_mut(&mut self.places, id)?;
        let before = Kind::of(block);
        let result = change(block);
        let after = Kind::of(block);
        if before != after {
            let extent = block.extent;
            self.census.discount(before, extent);
            self.census.count(after, extent);
        }
        Some(result)
    }

    pub(crate) fn standing_mut(&mut self, id: BlockId) -> Option<&mut Standing> {
        Self::get_mut(&mut self.places, id).map(|block| &mut block.standing)
    }

    /// With the block's key.
    pub(crate) fn named_standing_mut(&mut self, id: BlockId) -> Option<(Key, &mut Standing)> {
        Self::get_mut(&mut self.places, id).map(|block| (block.key, &mut block.standing))
    }

    pub(crate) fn remove(&mut self, id: BlockId) -> Option<Block> {
        let place = self.places.get_mut(id.place()).filter(|place| place.generation == id.generation())?;
        let block = place.block.take()?;
        self.census.discount(Kind::of(&block), block.extent);
        // A place whose generations are used up stays empty for ever, so that no id comes twice.
        if place.generation < BlockId::LAST_GENERATION {
            place.generation += 1;
            self.vacant.push(id.place());
        }
        Some(block)
    }

    /// The ids of what is in the `count` places from `from` on, and the place after them, if there is one.
    pub(crate) fn ids_in_places(&self, from: usize, count: usize) -> (Vec<BlockId>, Option<usize>) {
        let places = self.places.iter().enumerate().skip(from).take(count).filter(|(_, place)| place.block.is_some());
        let ids = places.map(|(at, place)| BlockId::new(at, place.generation)).collect();
        let until = from.saturating_add(count);
        (ids, (until < self.places.len()).then_some(until))
    }

    /// What is in the `count` places from `from` on, and the place after them, if there is one.
    pub(crate) fn in_places(&self, from: usize, count: usize) -> (impl Iterator<Item = &Block>, Option<usize>) {
        let from = from.min(self.places.len());
        let until = self.places.len().min(from.saturating_add(count));
        let blocks = self.places[from..until].iter().filter_map(|place| place.block.as_ref());
        (blocks, (until < self.places.len()).then_some(until))
    }

    pub(crate) fn census(&self) -> &Census {
        &self.census
    }

    fn get_mut(places: &mut [Place], id: BlockId) -> Option<&mut Block> {
        let place = places.get_mut(id.place())?;
        if place.generation == id.generation() { place.block.as_mut() } else { None }
    }
}

/// What a block counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    life: Life,
    pinned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Sealed,
    Growing,
    Detached,
}

impl Kind {
    fn of(block: &Block) -> Self {
        let life = match (block.is_published(), block.is_growing()) {
            (false, _) => Life::Detached,
            (true, true) => Life::Growing,
            (true, false) => Life::Sealed,
        };
        Self { life, pinned: block.pins > 0 }
    }
}

impl Census {
    fn count(&mut self, kind: Kind, extent: Extent) {
        self.tallies_of(kind, |tally| {
            tally.blocks += 1;
            tally.bytes += extent.len;
        });
    }

    fn discount(&mut self, kind: Kind, extent: Extent) {
        self.tallies_of(kind, |tally| {
            tally.blocks -= 1;
            tally.bytes -= extent.len;
        });
    }

    fn tallies_of(&mut self, kind: Kind, mut change: impl FnMut(&mut Tally)) {
        change(match kind.life {
            Life::Sealed => &mut self.sealed,
            Life::Growing => &mut self.growing,
            Life::Detached => &mut self.detached,
        });
        if kind.pinned {
            change(&mut self.pinned);
        } else if kind.life == Life::Sealed {
            change(&mut self.idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NamespaceId;
    use crate::block::{Naming, State};

    fn block() -> Block {
        Block {
            key: Key::of_name(b"block"),
            parent: None,
            extent: Extent { offset: 0, len: 64 },
            len: 10,
            state: State::Sealed,
            naming: Naming::Published,
            namespace: NamespaceId::default(),
            pins: 0,
            expires_at: None,
            standing: Standing::default(),
        }
    }

    #[test]
    fn an_id_never_names_a_later_block() {
        let mut blocks = Blocks::default();
        let first = blocks.insert(block());
        assert!(blocks.remove(first).is_some());
        let second = blocks.insert(block());
        assert_eq!((first.place(), first == second), (second.place(), false));
        assert!(blocks.get(first).is_none() && blocks.remove(first).is_none());
        assert!(blocks.change(first, |_| ()).is_none());
    }

    #[test]
    fn a_place_retires_with_its_last_generation() {
        let mut blocks = Blocks::default();
        let first = blocks.insert(block());
        blocks.places[first.place()].generation = BlockId::LAST_GENERATION;
        let last = BlockId::new(first.place(), BlockId::LAST_GENERATION);
        assert!(blocks.remove(last).is_some() && blocks.get(last).is_none());
        assert_ne!(blocks.insert(block()).place(), first.place());
    }

    #[test]
    fn ids_made_up_by_a_client_name_nothing() {
        let blocks = Blocks::default();
        for raw in [0, 1, u64::MAX, 1 << 36] {
            assert!(blocks.get(BlockId::from_u64(raw)).is_none());
        }
    }

    #[test]
    fn the_census_follows_every_change() {
        let mut blocks = Blocks::default();
        let id = blocks.insert(block());
        let one = Tally { blocks: 1, bytes: 64 };
        assert_eq!((blocks.census().sealed, blocks.census().idle), (one, one));
        blocks.change(id, |block| block.pins = 1);
        assert_eq!((blocks.census().pinned, blocks.census().idle), (one, Tally::default()));
        blocks.change(id, |block| block.naming = Naming::Withdrawn);
        assert_eq!((blocks.census().detached, blocks.census().sealed), (one, Tally::default()));
        blocks.remove(id);
        assert_eq!((blocks.census().detached, blocks.census().pinned), (Tally::default(), Tally::default()));
    }
}
