//! [`Pause`]: how long to wait before etcd is tried again.

use std::time::Duration;

use chariot_types::RunId;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double up to a longest. Workers that lost etcd at the same time do not all come back at the same time.
pub(crate) struct Pause {
    next: Duration,
    /// Between three quarters and one: this worker's share of each pause.
    share: f64,
}

impl Pause {
    pub(crate) fn new(run: RunId) -> Self {
        let share = 0.75 + f64::from(run.as_bytes()[0]) / 1024.0;
        Self { next: SHORTEST, share }
    }

    /// The pause to make now.
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = LONGEST.min(now * 2);
        now.mul_f64(self.share)
    }

    /// It went well for a time.
    pub(crate) fn reset(&mut self) {
        self.next = SHORTEST;
    }
}
