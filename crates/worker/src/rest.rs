//! What a worker does when nobody asks for anything: lets blocks go whose time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shared::Shared;

const PERIOD: Duration = Duration::from_secs(1);

/// Runs until the worker ends.
pub(crate) async fn rest(shared: Arc<Shared>) {
    let mut ending = shared.ending.subscribe();
    loop {
        tokio::select! {
            _ = ending.wait_for(|is_ending| *is_ending) => return,
            () = tokio::time::sleep(PERIOD) => {
                shared.change(|state| state.pool.expire(Instant::now()));
            }
        }
    }
}
