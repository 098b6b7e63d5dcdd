//! Which instance of a side gets the next request: the one with the fewest requests outstanding, ties in turn, those in
//! back-off left out. Pure state: it opens no connection and reads no clock, the time comes with each call.
//!
//! Health is passive. An instance that failed is left alone until its back-off is over; then one request tries it while
//! the others still stay away, so a host that swallows packets costs one request a connect timeout, not all of them.

use std::time::Duration;

use tokio::time::Instant;

use crate::Backoff;

/// The standing of every instance of one side.
#[derive(Debug)]
pub(crate) struct Balance {
    standings: Vec<Standing>,
    /// Where the search for the least busy instance begins: behind the one chosen last.
    turn: usize,
    backoff: Backoff,
}

#[derive(Clone, Debug)]
struct Standing {
    outstanding: usize,
    health: Health,
}

#[derive(Clone, Debug)]
enum Health {
    Up,
    /// Left alone.
    Down {
        until: Instant,
        wait: Duration,
    },
    /// One request is trying it; a further one may when that takes too long.
    OnTrial {
        until: Instant,
        wait: Duration,
    },
}

/// The instances that one request has tried already.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<usize>);

impl Tried {
    pub(crate) fn add(&mut self, index: usize) {
        self.0.push(index);
    }
}

impl Balance {
    pub(crate) fn new(instances: usize, backoff: Backoff) -> Self {
        Self { standings: vec![Standing { outstanding: 0, health: Health::Up }; instances], turn: 0, backoff }
    }

    /// Takes the least busy instance that is not in back-off. It counts as one request busier until [`Self::release`].
    pub(crate) fn take_available(&mut self, tried: &Tried, now: Instant) -> Option<usize> {
        let index = self.least_busy(tried, |standing| standing.health.is_available(now))?;
        let health = &mut self.standings[index].health;
        if let Health::Down { wait, .. } | Health::OnTrial { wait, .. } = *health {
            *health = Health::OnTrial { until: now + wait, wait };
        }
        Some(self.take(index))
    }

    /// Takes the least busy instance, in back-off or not: for requests that have nowhere else to go.
    pub(crate) fn take_any(&mut self, tried: &Tried) -> Option<usize> {
        let index = self.least_busy(tried, |_| true)?;
        Some(self.take(index))
    }

    /// Takes a certain instance: for questions about that one.
    pub(crate) fn take_this(&mut self, index: usize) {
        self.standings[index].outstanding += 1;
    }

    /// Gives back what one of the takes counted.
    pub(crate) fn release(&mut self, index: usize) {
        self.standings[index].outstanding -= 1;
    }

    /// The instance answered. True where it had failed before.
    pub(crate) fn succeeded(&mut self, index: usize) -> bool {
        let was = std::mem::replace(&mut self.standings[index].health, Health::Up);
        !matches!(was, Health::Up)
    }

    /// The instance could not be reached or broke off. True where it had been up.
    pub(crate) fn failed(&mut self, index: usize, now: Instant) -> bool {
        let health = &mut self.standings[index].health;
        let (wait, was_up) = match *health {
            Health::Up => (self.backoff.first, true),
            // Many requests fail on one outage. Only a trial that fails lengthens it.
            Health::Down { .. } => return false,
            Health::OnTrial { wait, .. } => ((wait * 2).min(self.backoff.most), false),
        };
        *health = Health::Down { until: now + wait, wait };
        was_up
    }

    /// How many requests an instance has outstanding.
    pub(crate) fn outstanding(&self, index: usize) -> usize {
        self.standings[index].outstanding
    }

    fn take(&mut self, index: usize) -> usize {
        self.standings[index].outstanding += 1;
        self.turn = (index + 1) % self.standings.len();
        index
    }

    fn least_busy(&self, tried: &Tried, eligible: impl Fn(&Standing) -> bool) -> Option<usize> {
        let count = self.standings.len();
        (0..count)
            .map(|step| (self.turn + step) % count)
            .filter(|index| !tried.0.contains(index) && eligible(&self.standings[*index]))
            .min_by_key(|index| self.standings[*index].outstanding)
    }
}

impl Health {
    fn is_available(&self, now: Instant) -> bool {
        match self {
            Self::Up => true,
            Self::Down { until, .. } | Self::OnTrial { until, .. } => *until <= now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const MOST: Duration = Duration::from_secs(2);

    fn balance(instances: usize) -> Balance {
        Balance::new(instances, Backoff { first: FIRST, most: MOST })
    }

    fn none() -> Tried {
        Tried::default()
    }

    #[test]
    fn idle_instances_are_taken_in_turn() {
        let (mut balance, now) = (balance(3), Instant::now());
        let mut taken = Vec::new();
        for _ in 0..6 {
            let index = balance.take_available(&none(), now).unwrap();
            taken.push(index);
            balance.release(index);
        }
        assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_least_busy_instance_is_taken_first() {
        let (mut balance, now) = (balance(2), Instant::now());
        assert_eq!(balance.take_available(&none(), now), Some(0));
        assert_eq!(balance.take_available(&none(), now), Some(1));
        balance.release(1);
        assert_eq!(balance.take_available(&none(), now), Some(1));
        balance.release(1);
        assert_eq!(balance.take_available(&none(), now), Some(1));
    }

    #[test]
    fn a_tried_instance_is_not_taken_again() {
        let (mut balance, now) = (balance(2), Instant::now());
        let mut tried = none();
        tried.add(0);
        assert_eq!(balance.take_available(&tried, now), Some(1));
        tried.add(1);
        assert_eq!(balance.take_available(&tried, now), None);
        assert_eq!(balance.take_any(&tried), None);
    }

    #[test]
    fn a_failed_instance_is_left_alone_and_then_tried_by_one_request() {
        let (mut balance, now) = (balance(1), Instant::now());
        assert!(balance.failed(0, now));
        assert_eq!(balance.take_available(&none(), now), None);
        assert_eq!(balance.take_any(&none()), Some(0));
        let later = now + FIRST;
        assert_eq!(balance.take_available(&none(), later), Some(0));
        assert_eq!(balance.take_available(&none(), later), None);
    }

    #[test]
    fn back_off_doubles_up_to_its_most_and_ends_with_success() {
        let (mut balance, mut now) = (balance(1), Instant::now());
        balance.failed(0, now);
        for expected in [1000, 2000, 2000].map(Duration::from_millis) {
            now += MOST;
            assert_eq!(balance.take_available(&none(), now), Some(0));
            assert!(!balance.failed(0, now));
            balance.release(0);
            assert_eq!(balance.take_available(&none(), now + expected - Duration::from_millis(1)), None);
            now += expected;
        }
        assert!(balance.succeeded(0));
        assert!(!balance.succeeded(0));
        assert_eq!(balance.take_available(&none(), now), Some(0));
    }

    #[test]
    fn many_failures_of_one_outage_count_once() {
        let (mut balance, now) = (balance(1), Instant::now());
        assert!(balance.failed(0, now));
        assert!(!balance.failed(0, now + FIRST / 2));
        assert_eq!(balance.take_available(&none(), now + FIRST), Some(0));
    }

    #[test]
    fn a_trial_that_never_ends_does_not_keep_the_instance_out() {
        let (mut balance, now) = (balance(1), Instant::now());
        balance.failed(0, now);
        assert_eq!(balance.take_available(&none(), now + FIRST), Some(0));
        assert_eq!(balance.take_available(&none(), now + FIRST * 2), Some(0));
    }
}
