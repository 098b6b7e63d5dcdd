//! [`Forward`]: blocks that go on to another worker.

use chariot_client::{Client, ClientError};
use chariot_types::{Key, WorkerAddress};

/// Keys in one call of the client.
const MAX_BATCH: usize = 1 << 16;

/// Blocks that the data worker is to carry on to the worker at `to`, as they grow.
pub(super) struct Forward {
    pub(super) to: WorkerAddress,
    pub(super) keys: Vec<Key>,
}

impl Forward {
    /// Tells the worker. Nobody waits for it, and what does not arrive is fetched by those who need it.
    pub(super) fn tell(&self, client: &Client) -> Result<(), ClientError> {
        self.keys.chunks(MAX_BATCH).try_for_each(|keys| client.forward(&self.to, keys))
    }
}
