//! Looking for what others do with a block, and sleeping in between until they ring its bell.

use std::time::{Duration, Instant};

use chariot_index::Woken;
use chariot_types::Key;

use crate::ClientError;
use crate::connection::Connection;

/// Whether who rings may be ahead of what is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ringer {
    /// What it rang for is to be seen.
    IsSeen,
    /// It may be to be seen in a moment: the ringer told the worker and us at once, and we may be awake first.
    MayBeAhead,
}

/// How long to look again and again for what is to be seen in a moment: about as long as it takes to fall asleep and to be
/// woken.
const MOMENT: Duration = Duration::from_micros(50);

/// Looks until `look` sees something, or `deadline`; sleeps in between, and is woken by what rings for `key`. `None` at the
/// deadline. Only who shares a board with the worker can sleep.
pub(crate) fn look_until<T>(
    connection: &Connection,
    key: &Key,
    ringer: Ringer,
    deadline: Instant,
    mut look: impl FnMut() -> Option<T>,
) -> Result<Option<T>, ClientError> {
    let (mut listening, mut moment) = (None, None);
    loop {
        let seen = look();
        if seen.is_some() {
            return Ok(seen);
        }
        if connection.has_ended() {
            return Err(connection.unavailable());
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(None);
        }
        if moment.is_some_and(|end| now < end) {
            // It may be on this processor that it is about to be done.
            std::thread::yield_now();
            continue;
        }
        moment = None;
        // Who listens looks once more before it sleeps.
        match listening.take() {
            None => {
                let board = connection.board().ok_or_else(|| connection.unavailable())?;
                listening = Some(board.listen(key));
            }
            Some(heard) => {
                let woken = heard.wait(deadline);
                moment = (woken == Woken::Rung && ringer == Ringer::MayBeAhead).then(|| Instant::now() + MOMENT);
            }
        }
    }
}
