//! [`PrefixQuestion`]: how many blocks are there, from the first on.

use chariot_client::{Client, ClientError, PendingPrefix};
use parking_lot::Mutex;
use pyo3::prelude::*;

use super::{BlockKeys, MAX_BATCH, to_connection_error};

/// A question how many blocks are there, from the first on.
#[pyclass(module = "chariot_ds._native", frozen)]
pub(crate) struct PrefixQuestion {
    client: Client,
    blocks: BlockKeys,
    /// Locked for a look at what has arrived: the scheduler is one thread.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Keys that were found, from the first on.
    present: usize,
    /// What is asked of those that follow.
    asked: Option<PendingPrefix>,
}

#[pymethods]
impl PrefixQuestion {
    /// How many blocks are there, from the first on; `None` as long as that is not known. Does not wait.
    fn present(&self) -> PyResult<Option<usize>> {
        let mut state = self.state.lock();
        while let Some(mut asked) = state.asked.take() {
            if !asked.is_ready() {
                state.asked = Some(asked);
                return Ok(None);
            }
            let batch = self.batch(&state).len();
            let found = asked.wait().map_err(to_connection_error)?.present;
            state.present += found;
            if found == batch {
                state.asked = self.next(&state).map_err(to_connection_error)?;
            }
        }
        Ok(Some(self.blocks.ends.partition_point(|end| *end <= state.present)))
    }

    /// Asks again for what was not there.
    fn ask_again(&self) -> PyResult<()> {
        let mut state = self.state.lock();
        if state.asked.is_none() {
            state.asked = self.next(&state).map_err(to_connection_error)?;
        }
        Ok(())
    }
}

impl PrefixQuestion {
    pub(super) fn ask(client: &Client, blocks: BlockKeys) -> Result<Self, ClientError> {
        let question = Self { client: client.clone(), blocks, state: Mutex::default() };
        let asked = question.next(&State::default())?;
        question.state.lock().asked = asked;
        Ok(question)
    }

    /// The keys that are asked about next.
    fn batch(&self, state: &State) -> &[chariot_types::Key] {
        let left = &self.blocks.keys[state.present..];
        &left[..left.len().min(MAX_BATCH)]
    }

    fn next(&self, state: &State) -> Result<Option<PendingPrefix>, ClientError> {
        let batch = self.batch(state);
        if batch.is_empty() { Ok(None) } else { self.client.start_longest_prefix(batch).map(Some) }
    }
}
