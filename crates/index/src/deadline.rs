//! [`Deadline`]: until when a listed block may be found, on a clock that all processes of a host read alike.

use std::time::{Duration, Instant};

use rustix::time::ClockId;

/// Deadlines count in units of 2^24 nanoseconds, about 17 milliseconds, so that 32 bits last for two years.
const UNIT_BITS: u32 = 24;

/// Until when a listed block may be found, in units rounded down, plus 1; 0 is for ever.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Deadline(pub(crate) u32);

/// When an index was made: where its deadlines count from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch {
    instant: Instant,
    /// The same moment on the monotonic clock, in nanoseconds.
    pub(crate) nanos: u64,
}

impl Epoch {
    /// Now.
    pub fn now() -> Self {
        Self { instant: Instant::now(), nanos: monotonic_nanos() }
    }

    /// The deadline that is over at `at`, or up to a unit before.
    pub fn deadline(&self, at: Option<Instant>) -> Deadline {
        let Some(at) = at else { return Deadline::default() };
        let units = at.saturating_duration_since(self.instant).as_nanos() >> UNIT_BITS;
        Deadline(u32::try_from(units).unwrap_or(u32::MAX).saturating_add(1))
    }
}

impl Deadline {
    /// Whether it may be over, counted from an epoch at `nanos` on the monotonic clock.
    pub(crate) fn may_be_over(self, nanos: u64) -> bool {
        self.0 != 0 && monotonic_nanos().saturating_sub(nanos) >> UNIT_BITS >= u64::from(self.0 - 1)
    }
}

fn monotonic_nanos() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let since_boot = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
    u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX)
}
