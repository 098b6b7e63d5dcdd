//! [`Seldom`]: what others can cause as often as they like is logged no more than now and then.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// Says when a line of one kind may be logged again.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    // Held for moments.
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    unsaid: u64,
}

impl Seldom {
    /// Whether to log it now, and how many were left out since the last that was; else it is left out and counted.
    pub(crate) fn is_due(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock();
        if let Some(last) = last.as_mut().filter(|last| now.saturating_duration_since(last.at) < PAUSE) {
            last.unsaid += 1;
            return None;
        }
        Some(last.replace(Last { at: now, unsaid: 0 }).map_or(0, |last| last.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_others_are_counted_until_there_was_a_pause() {
        let (seldom, begun) = (Seldom::default(), Instant::now());
        let due = |milliseconds| seldom.is_due(begun + Duration::from_millis(milliseconds));
        assert_eq!(due(0), Some(0));
        assert!((1..1000).all(|milliseconds| due(milliseconds).is_none()));
        assert_eq!(due(10_000), Some(999));
        assert_eq!(due(10_001), None);
        assert_eq!(due(30_000), Some(1));
    }
}
