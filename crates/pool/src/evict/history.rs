//! [`History`]: when blocks were used again, and when they were not.
//!
//! Kept of a sample of all keys, whether their blocks are in the pool or not, so that it also tells what would have been
//! found with more room. Which keys are in the sample is their own hash's to say; when it grows too large, half of them
//! leave it, as in SHARDS (Waldspurger and others, FAST 2015).

use std::collections::HashMap;

use chariot_types::Key;
use foldhash::fast::RandomState;

use super::class::{Age, Class};

/// Keys in the sample at most.
const SAMPLE: usize = 4096;

/// What happened longer ago counts less: by this much with every look back.
const FADING: f64 = 0.95;

/// When blocks of each class were used again.
#[derive(Debug)]
pub(super) struct History {
    sample: HashMap<Key, Sampled, RandomState>,
    /// Keys that begin with a number up to this are in the sample.
    sampled_up_to: u64,
    outcomes: Outcomes,
}

/// A key's last use.
#[derive(Clone, Copy, Debug)]
struct Sampled {
    at: u64,
    class: Class,
}

/// How many uses of blocks of a class were followed by what, when the blocks were of an age.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    again: [[f64; Age::COUNT]; Class::COUNT],
    /// By that age they were not used again, and nothing more is known of them.
    not_yet: [[f64; Age::COUNT]; Class::COUNT],
}

impl Default for History {
    fn default() -> Self {
        let none = [[0.0; Age::COUNT]; Class::COUNT];
        let outcomes = Outcomes { again: none, not_yet: none };
        Self { sample: HashMap::default(), sampled_up_to: u64::MAX, outcomes }
    }
}

impl History {
    /// A block was used at `now`; it is of `class` from now on.
    pub(super) fn note_use(&mut self, key: &Key, class: Class, now: u64) {
        if !self.samples(key) {
            return;
        }
        if let Some(last) = self.sample.insert(*key, Sampled { at: now, class }) {
            self.outcomes.again[last.class.index()][Age::of(now - last.at).index()] += 1.0;
        }
        while self.sample.len() > SAMPLE {
            self.sampled_up_to /= 2;
            let up_to = self.sampled_up_to;
            self.sample.retain(|key, _| number(key) <= up_to);
        }
    }

    /// A block was used at `now`, which is still a part of its last use.
    pub(super) fn note_echo(&mut self, key: &Key, now: u64) {
        if self.samples(key)
            && let Some(last) = self.sample.get_mut(key)
        {
            last.at = now;
        }
    }

    /// The block is of another class, though it was not used.
    pub(super) fn note_class(&mut self, key: &Key, class: Class) {
        if self.samples(key)
            && let Some(last) = self.sample.get_mut(key)
        {
            last.class = class;
        }
    }

    /// All that is known at `now`. Keys that were not used for more than `horizon` leave the sample.
    pub(super) fn look_back(&mut self, now: u64, horizon: u64) -> Outcomes {
        let Self { sample, outcomes, .. } = self;
        sample.retain(|_, last| {
            let age = now - last.at;
            if age > horizon {
                outcomes.not_yet[last.class.index()][Age::of(age).index()] += 1.0;
            }
            age <= horizon
        });
        let mut known = outcomes.clone();
        for last in sample.values() {
            known.not_yet[last.class.index()][Age::of(now - last.at).index()] += 1.0;
        }
        outcomes.fade();
        known
    }

    fn samples(&self, key: &Key) -> bool {
        number(key) <= self.sampled_up_to
    }
}

impl Outcomes {
    /// How many blocks of the class were seen at each age, and how many of these were used again while of that age.
    pub(super) fn seen(&self, class: Class) -> [Seen; Age::COUNT] {
        let (again, not_yet) = (&self.again[class.index()], &self.not_yet[class.index()]);
        let mut seen = [Seen::default(); Age::COUNT];
        let mut older = 0.0;
        for age in Age::all().rev().map(Age::index) {
            // Of whom no more is known were of the age for half of it.
            seen[age] = Seen { again: again[age], of: older + again[age] + not_yet[age] / 2.0 };
            older += again[age] + not_yet[age];
        }
        seen
    }

    fn fade(&mut self) {
        let counts = self.again.iter_mut().chain(&mut self.not_yet).flatten();
        counts.for_each(|count| *count *= FADING);
    }
}

/// Blocks of one class and age.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Seen {
    pub(super) again: f64,
    pub(super) of: f64,
}

impl Seen {
    pub(super) fn add(&mut self, more: &Self) {
        self.again += more.again;
        self.of += more.of;
    }
}

/// Keys are hashes: their first bytes are as good as any other hash. A client that chooses its keys can make the sample
/// tell of these alone, which costs hits and nothing else.
fn number(key: &Key) -> u64 {
    let (number, _) = key.as_bytes().split_first_chunk().expect("a key has more than 8 bytes");
    u64::from_le_bytes(*number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: u64) -> Key {
        Key::of_name(&name.to_le_bytes())
    }

    #[test]
    fn a_use_is_known_by_the_age_and_the_class_that_the_block_had() {
        let (once, twice) = (Class::of(1, false), Class::of(2, false));
        let mut history = History::default();
        history.note_use(&key(1), once, 10);
        history.note_use(&key(1), twice, 110);
        let seen = history.look_back(140, 1000);
        assert_eq!(seen.seen(once)[Age::of(100).index()].again, 1.0);
        assert_eq!(seen.seen(twice)[Age::of(30).index()].of, 0.5);
        assert_eq!(seen.seen(twice)[Age::of(29).index() - 1].of, 1.0);
    }

    #[test]
    fn an_echo_only_makes_a_block_younger() {
        let once = Class::of(1, false);
        let mut history = History::default();
        history.note_use(&key(1), once, 10);
        history.note_echo(&key(1), 20);
        history.note_use(&key(1), once, 50);
        let seen = history.look_back(50, 1000).seen(once);
        assert_eq!(seen.iter().map(|seen| seen.again).sum::<f64>(), 1.0);
        assert_eq!(seen[Age::of(30).index()].again, 1.0);
    }

    #[test]
    fn the_sample_stays_small_and_tells_the_same() {
        let once = Class::of(1, false);
        let mut history = History::default();
        for round in 0..3 {
            for name in 0..50_000 {
                history.note_use(&key(name), once, round * 50_000 + name);
            }
        }
        assert!(history.sample.len() <= SAMPLE);
        let seen = history.look_back(150_000, 1_000_000).seen(once)[Age::of(50_000).index()];
        assert!(seen.again / seen.of > 0.6, "{seen:?}");
    }
}
