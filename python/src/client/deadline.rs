//! Deadlines: seconds from Python, and waits that Ctrl-C can end.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How long a wait runs before it looks for signals.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// The longest wait: what the worker grants. Longer ones, infinity too, mean this.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The longest duration of another kind.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A wait from Python's seconds; `name` is the argument that carried them.
pub(crate) fn wait(name: &str, seconds: f64) -> PyResult<Duration> {
    Ok(duration(name, seconds)?.min(LONGEST_WAIT))
}

/// A duration from Python's seconds; `name` is the argument that carried them.
pub(crate) fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!("`{name}` is {seconds}: expected a number of seconds, 0 or more")));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST))
}

/// Runs `attempt` detached from the interpreter, with ever later deadlines up to `deadline`, until it returns something
/// or has been called with `deadline` itself; between attempts, the handlers of signals run and may raise.
pub(crate) fn wait_in_slices<T: Send>(
    py: Python<'_>,
    deadline: Instant,
    mut attempt: impl FnMut(Instant) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    loop {
        let until = deadline.min(Instant::now() + SLICE);
        if let Some(done) = py.detach(|| attempt(until)) {
            return Ok(Some(done));
        }
        py.check_signals()?;
        if until == deadline {
            return Ok(None);
        }
    }
}
