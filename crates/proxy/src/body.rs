//! Reads a client's request body: whole, within a size and a time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a body that is too large is read on, so that the client gets to see the refusal and not a reset.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// A body that was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is larger than allowed.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It broke off or is malformed.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// Reads a body of at most `most` bytes, all of it within `time`.
pub(crate) async fn read(mut body: Incoming, most: usize, time: Duration) -> Result<Bytes, Unread> {
    let deadline = Instant::now() + time;
    let collecting = Limited::new(&mut body, most).collect();
    match timeout_at(deadline, collecting).await {
        Err(_elapsed) => Err(Unread::TooSlow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body, most).await;
            Err(Unread::TooLarge)
        }
        Ok(Err(error)) => Err(Unread::Broken(error)),
    }
}

/// Reads on for a while, keeping nothing.
async fn discard(mut body: Incoming, most: usize) {
    let discarding = async {
        let mut discarded = 0;
        while discarded < most
            && let Some(Ok(frame)) = body.frame().await
        {
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whether it ended or ran out of time, what was read is gone.
    let _ = timeout(DISCARD_TIME, discarding).await;
}
