//! [`Order`]: what goes before what, by class and age.
//!
//! A block in the pool takes room for some time and brings a hit at its end, if it is used again. The blocks that go
//! first are those that promise the fewest hits for that time, if they are kept for as long as is best for them: for
//! any time to come, the chance of a use within it, divided by how long the block would stay. That is the Gittins
//! index of keeping it, as LHD (Beckmann, Chen and Cidon, NSDI 2018) estimates it from what is seen.
//!
//! So nothing has to be chosen by hand: where prompts come back soon or not at all, it evicts what is old; where they
//! come back by their popularity, what was used seldom; and where they go round in a loop, what was used just now.

use super::class::{Age, Class};
use super::history::{Outcomes, Seen};

/// A class is believed to be like all others until it was seen so often.
const DOUBT: f64 = 20.0;

/// Blocks of one class and age.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) class: Class,
    pub(super) age: Age,
}

/// All places, those first whose blocks go first.
#[derive(Debug)]
pub(super) struct Order {
    places: Vec<Place>,
    /// Where each place is among them, by class and age.
    positions: [[u16; Age::COUNT]; Class::COUNT],
}

impl Default for Order {
    /// As long as nothing is known: the oldest first.
    fn default() -> Self {
        let of_age = |age| Class::all().map(move |class| Place { class, age });
        Self::of(Age::all().rev().flat_map(of_age).collect())
    }
}

impl Order {
    /// By what was seen of blocks.
    pub(super) fn by(outcomes: &Outcomes) -> Self {
        let seen: Vec<_> = Class::all().map(|class| (class, outcomes.seen(class))).collect();
        let mut all = [Seen::default(); Age::COUNT];
        for (_, seen) in &seen {
            all.iter_mut().zip(seen).for_each(|(all, seen)| all.add(seen));
        }
        let mut ranked = Vec::with_capacity(Class::COUNT * Age::COUNT);
        let usual = usual(&all);
        for (class, seen) in &seen {
            let chances = std::array::from_fn(|age| chance(seen[age], usual[age]));
            ranked.extend(densities(&chances).into_iter().zip(Age::all()).map(|(density, age)| {
                let place = Place { class: *class, age };
                (density, place)
            }));
        }
        ranked.sort_by(|(density, place), (other_density, other)| {
            density.total_cmp(other_density).then(other.age.cmp(&place.age)).then(place.class.cmp(&other.class))
        });
        Self::of(ranked.into_iter().map(|(_, place)| place).collect())
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where a place is among all.
    pub(super) fn position(&self, place: Place) -> usize {
        self.positions[place.class.index()][place.age.index()].into()
    }

    fn of(places: Vec<Place>) -> Self {
        let mut positions = [[0; Age::COUNT]; Class::COUNT];
        for (place, position) in places.iter().zip(0..) {
            positions[place.class.index()][place.age.index()] = position;
        }
        Self { places, positions }
    }
}

/// The chance that any block is used while it is of an age. Where little was seen it is as it was at the age before, so
/// that a block's worth falls with its age until something else is seen: who comes back never, goes oldest first.
fn usual(all: &[Seen; Age::COUNT]) -> [f64; Age::COUNT] {
    let mut before = 0.01;
    all.map(|seen| {
        before = (seen.again + before) / (seen.of + 1.0);
        before
    })
}

/// The chance that a block of one class is used while it is of an age.
fn chance(seen: Seen, usual: f64) -> f64 {
    ((seen.again + DOUBT * usual) / (seen.of + DOUBT)).clamp(0.0, 0.999)
}

/// For each age, the hits a tick that a block promises which is kept until the best age to let it go.
fn densities(chances: &[f64; Age::COUNT]) -> [f64; Age::COUNT] {
    let mut best = [0.0; Age::COUNT];
    for from in Age::all() {
        let (mut is_there, mut hits, mut ticks) = (1.0, 0.0, 0.0);
        for age in Age::all().skip(from.index()) {
            let chance = chances[age.index()];
            hits += is_there * chance;
            // Who is used meanwhile is, on average, used in the middle.
            ticks += is_there * (1.0 - chance / 2.0) * age.ticks() as f64;
            is_there *= 1.0 - chance;
            best[from.index()] = f64::max(best[from.index()], hits / ticks);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::history::History;
    use super::*;
    use chariot_types::Key;

    /// Where a block that was used once stands, by its age.
    fn position(order: &Order, ticks: u64) -> usize {
        order.position(Place { class: Class::of(1, false), age: Age::of(ticks) })
    }

    /// What is learned when each of `count` blocks is used every `period` ticks, `times` times over, and as many others once.
    fn order_after(count: u64, period: u64, times: u64) -> Order {
        let mut history = History::default();
        for time in 0..times {
            for name in 0..count {
                let (key, once) = (Key::of_name(&name.to_le_bytes()), Key::of_name(&(count + name).to_le_bytes()));
                let now = time * period + name * period / count;
                history.note_use(&key, Class::of(1, false), now);
                if time == 0 {
                    history.note_use(&once, Class::of(1, false), now);
                }
            }
        }
        Order::by(&history.look_back(times * period, 100 * period))
    }

    #[test]
    fn the_oldest_go_first_while_nothing_is_known() {
        for order in [Order::default(), Order::by(&History::default().look_back(0, 100))] {
            assert!(position(&order, 1000) < position(&order, 100));
            assert!(position(&order, 100) < position(&order, 10));
        }
    }

    #[test]
    fn the_oldest_go_first_where_nothing_ever_comes_back() {
        let order = order_after(4000, 50_000, 1);
        assert!(position(&order, 40_000) < position(&order, 4000));
        assert!(position(&order, 4000) < position(&order, 400));
    }

    #[test]
    fn in_a_loop_what_was_used_just_now_goes_first() {
        let order = order_after(500, 5000, 6);
        assert!(position(&order, 1000) < position(&order, 3000));
        assert!(position(&order, 3000) < position(&order, 4000));
        assert!(position(&order, 20_000) < position(&order, 1000), "what missed its turn goes first of all");
    }
}
