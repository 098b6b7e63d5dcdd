//! [`Class`] and [`Age`]: what the chance that a block is used again depends on, as far as that is told apart.

/// What kind of block it is: how often it was used, and whether others ever followed it in a chain.
///
/// The last block of a prompt has led nowhere. It is often filled in part, and then the next prompt of the same
/// conversation has another one in its place: so it is worth less than those before it, or where prompts are repeated
/// as they are, it is not. Which it is, [`History`](super::history::History) learns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Class(u8);

/// Once, 2 to 3 times, 4 to 7, 8 to 15, more often.
const FREQUENCIES: u32 = 5;

impl Class {
    pub(super) const COUNT: usize = FREQUENCIES as usize * 2;

    pub(super) fn of(uses: u8, has_led: bool) -> Self {
        let frequency = uses.max(1).ilog2().min(FREQUENCIES - 1) as u8;
        Self(frequency * 2 + u8::from(has_led))
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    pub(super) fn index(self) -> usize {
        self.0.into()
    }
}

/// For how long a block was not used, in ticks of the policy's clock: a half of an octave, from 2 to 2.99 ticks, 3 to
/// 3.99, 4 to 5.99, 6 to 7.99, and so on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Age(u8);

impl Age {
    /// More ticks than a pool ever sees are the last.
    pub(super) const COUNT: usize = 2 * 40;

    pub(super) fn of(ticks: u64) -> Self {
        let octave = ticks.max(1).ilog2();
        let at = match octave {
            0 => ticks as u32,
            _ => 2 * octave + (ticks >> (octave - 1) & 1) as u32,
        };
        Self(at.min(Self::COUNT as u32 - 1) as u8)
    }

    pub(super) fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    pub(super) fn index(self) -> usize {
        self.0.into()
    }

    /// The fewest ticks of this age.
    pub(super) fn least(self) -> u64 {
        match self.0 {
            ticks @ (0 | 1) => ticks.into(),
            at => (2 + u64::from(at & 1)) << (at / 2 - 1),
        }
    }

    /// The most ticks of this age.
    pub(super) fn most(self) -> u64 {
        if self.index() + 1 < Self::COUNT { Self(self.0 + 1).least() - 1 } else { u64::MAX }
    }

    /// How many ticks a block is of this age, if it is not used meanwhile.
    pub(super) fn ticks(self) -> u64 {
        if self.index() + 1 < Self::COUNT { self.most() - self.least() + 1 } else { self.least() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_follow_each_other_without_a_gap() {
        assert_eq!(Age::of(0).least(), 0);
        for age in Age::all() {
            assert_eq!((Age::of(age.least()), Age::of(age.most())), (age, age));
            assert!(age.index() == 0 || Age::of(age.least() - 1) < age);
        }
    }

    #[test]
    fn classes_are_told_apart_by_both() {
        let uses = [1, 2, 3, 4, 15, 16, u8::MAX].map(|uses| Class::of(uses, false).index());
        assert_eq!(uses, [0, 2, 2, 4, 6, 8, 8]);
        assert_eq!(Class::of(u8::MAX, true).index(), Class::COUNT - 1);
    }
}
