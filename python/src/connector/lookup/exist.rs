//! [`ExistQuestion`]: which blocks are there whole.

use std::collections::VecDeque;

use chariot_client::{Client, ClientError, PendingExists};
use parking_lot::Mutex;
use pyo3::prelude::*;

use super::{BlockKeys, MAX_BATCH, to_connection_error};

/// A question which blocks are there whole.
#[pyclass(module = "chariot_ds._native", frozen)]
pub(crate) struct ExistQuestion {
    /// Where the keys of each block end.
    ends: Vec<usize>,
    /// Locked for a look at what has arrived: the scheduler is one thread.
    state: Mutex<State>,
}

struct State {
    /// For each key that was answered, in their order, whether it is there.
    found: Vec<bool>,
    /// Asked and not answered.
    asked: VecDeque<PendingExists>,
}

#[pymethods]
impl ExistQuestion {
    /// For each block, whether it is there; `None` as long as that is not known. Does not wait.
    fn exist(&self) -> PyResult<Option<Vec<bool>>> {
        let mut state = self.state.lock();
        while let Some(mut asked) = state.asked.pop_front() {
            if !asked.is_ready() {
                state.asked.push_front(asked);
                return Ok(None);
            }
            let found = asked.wait().map_err(to_connection_error)?;
            state.found.extend(found);
        }
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let whole =
            starts.zip(&self.ends).map(|(start, end)| state.found[start..*end].iter().all(|is_there| *is_there));
        Ok(Some(whole.collect()))
    }
}

impl ExistQuestion {
    pub(super) fn ask(client: &Client, blocks: BlockKeys) -> Result<Self, ClientError> {
        let asked = blocks.keys.chunks(MAX_BATCH).map(|batch| client.start_exists(batch)).collect::<Result<_, _>>()?;
        let found = Vec::with_capacity(blocks.keys.len());
        Ok(Self { ends: blocks.ends, state: Mutex::new(State { found, asked }) })
    }
}
