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
    /// What is asked of those that follow, and of how many.
    asked: Option<(PendingPrefix, usize)>,
}

#[pymethods]
impl PrefixQuestion {
    /// How many blocks are there, from the first on; `None` as long as that is not known. Does not wait.
    fn present(&self) -> PyResult<Option<usize>> {
        let mut state = self.state.lock();
        while let Some((mut asked, keys)) = state.asked.take() {
            if !asked.is_ready() {
                state.asked = Some((asked, keys));
                return Ok(None);
            }
            let found = asked.wait().map_err(to_connection_error)?.present;
            state.present += found;
            if found == keys {
                state.asked = self.ask_for(&state, self.blocks.keys.len()).map_err(to_connection_error)?;
            }
        }
        Ok(Some(self.blocks.ends.partition_point(|end| *end <= state.present)))
    }

    /// Asks again for what was not there: for the first such block, and for the others when that has come.
    fn ask_again(&self) -> PyResult<()> {
        let mut state = self.state.lock();
        if state.asked.is_none() {
            let block = self.blocks.ends.partition_point(|end| *end <= state.present);
            let end = self.blocks.ends.get(block).copied().unwrap_or(state.present);
            state.asked = self.ask_for(&state, end).map_err(to_connection_error)?;
        }
        Ok(())
    }
}

impl PrefixQuestion {
    pub(super) fn ask(client: &Client, blocks: BlockKeys) -> Result<Self, ClientError> {
        let question = Self { client: client.clone(), blocks, state: Mutex::default() };
        let asked = question.ask_for(&State::default(), question.blocks.keys.len())?;
        question.state.lock().asked = asked;
        Ok(question)
    }

    /// Asks for the keys that follow those found, up to the one at `end`.
    fn ask_for(&self, state: &State, end: usize) -> Result<Option<(PendingPrefix, usize)>, ClientError> {
        let end = end.min(state.present + MAX_BATCH);
        let keys = &self.blocks.keys[state.present..end];
        if keys.is_empty() {
            return Ok(None);
        }
        Ok(Some((self.client.start_longest_prefix(keys)?, keys.len())))
    }
}
