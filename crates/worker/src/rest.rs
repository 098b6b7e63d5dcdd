//! What a worker does when nobody asks for anything: lets blocks go whose time is over, and looks at what is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shared::Shared;

const PERIOD: Duration = Duration::from_secs(1);

/// How long a reader may stand in the way of those who want room; `docs/design/shared-index.md` promises it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until the worker ends.
pub(crate) async fn rest(shared: Arc<Shared>) {
    let mut ending = shared.ending.subscribe();
    loop {
        tokio::select! {
            _ = ending.wait_for(|is_ending| *is_ending) => return,
            () = tokio::time::sleep(PERIOD) => {
                let now = Instant::now();
                let revoked = shared.change(|state| {
                    state.pool.expire(now);
                    let revoked = state.pool.end_long_reads(now, PATIENCE);
                    state.pool.look_again();
                    revoked
                });
                if revoked > 0 {
                    tracing::warn!(revoked, "took pins away that were held too long while room was wanted");
                }
            }
        }
    }
}
