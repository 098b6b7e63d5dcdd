//! [`Loader`]: copies blocks of the data worker to an engine's pages while the engine does other things.
//!
//! A load is all blocks of one request. The worker is asked for some of them at a time, and what it finds is cut into
//! pieces that threads copy side by side; blocks that still grow are followed, and what has arrived of them is copied
//! layer by layer. However many pieces are followed, each is looked at again and again: a thread sleeps only when none of
//! them has anything new. Every load ends by its deadline, and says which of its pages do not hold what they should.

mod job;
mod piece;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chariot_client::Client;
use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use self::job::{Job, Search, Then, WantedBlock};
use self::piece::{Found, Piece, Progress};
use super::connection::Connection;
use super::pages::PagedCache;
use crate::chain::{Shard, key_of};
use crate::describe::describe;

/// Loads blocks into pages, with `threads` threads.
///
/// `shards` holds, by group, the description of the shard that this rank keeps.
#[pyclass(module = "chariot_ds._native", frozen)]
pub(crate) struct Loader {
    desk: Arc<Desk>,
    shards: Vec<Shard>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads and the engine share.
struct Desk {
    client: Client,
    /// Held for a few pushes and pops; never while bytes are copied or the worker is asked.
    state: Mutex<State>,
    /// There is work, or no more will come.
    work: Condvar,
    /// A load has ended.
    ended: Condvar,
}

/// How long a thread waits for the blocks of one piece to grow before it looks at others.
const PATIENCE: Duration = Duration::from_millis(2);

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Pieces that were looked at since something grew or came, and had nothing new.
    fruitless: usize,
    /// Loads that have begun and not ended.
    active: usize,
    reports: Vec<LoadReport>,
    is_closed: bool,
}

enum Task {
    /// Find a load's blocks, from this one on.
    Find(Arc<Job>, usize),
    /// Copy some of them.
    Copy(Piece),
}

impl Task {
    fn job(&self) -> &Arc<Job> {
        match self {
            Self::Find(job, _) => job,
            Self::Copy(piece) => piece.job(),
        }
    }
}

/// What became of a load.
#[pyclass(module = "chariot_ds._native", frozen, get_all)]
pub(crate) struct LoadReport {
    /// Whose blocks they were.
    name: String,
    /// The pages that do not hold their block: `(group, block)`.
    failed: Vec<(usize, usize)>,
    /// Blocks that were loaded.
    loaded: usize,
    /// Bytes of those.
    bytes: usize,
    /// Seconds from the start to the end of the load.
    seconds: f64,
    /// Why pages failed, if any did.
    error: Option<String>,
}

/// A block to load: `(group, block, key)`.
type BlockTuple = (usize, usize, PyBackedBytes);

#[pymethods]
impl Loader {
    #[new]
    fn new(connection: &Connection, shards: Vec<PyBackedBytes>, threads: usize) -> PyResult<Self> {
        let desk = Arc::new(Desk {
            client: connection.client(),
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
        });
        let thread = |index: usize| {
            let desk = desk.clone();
            std::thread::Builder::new().name(format!("chariot-load-{index}")).spawn(move || desk.work())
        };
        let threads = (0..threads.max(1)).map(thread).collect::<Result<_, _>>();
        let threads = Mutex::new(threads.map_err(|error| PyRuntimeError::new_err(error.to_string()))?);
        Ok(Self { desk, shards: shards.iter().map(|description| Shard::new(description)).collect(), threads })
    }

    /// Starts to load `blocks` into their pages of `cache`, for at most `timeout` seconds. Returns at once; `reports`
    /// will have a report with this `name`.
    fn start(&self, cache: &PagedCache, name: String, blocks: Vec<BlockTuple>, timeout: f64) -> PyResult<()> {
        let timeout = Duration::try_from_secs_f64(timeout).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let blocks = blocks.into_iter().map(|block| self.wanted(&block)).collect::<PyResult<Vec<_>>>()?;
        let job = Job::new(name, cache.pages(), blocks, Instant::now() + timeout);
        let job = job.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let mut state = self.desk.state.lock();
        if state.is_closed {
            return Err(PyRuntimeError::new_err("the loader is closed"));
        }
        state.active += 1;
        state.fruitless = 0;
        state.tasks.push_back(Task::Find(Arc::new(job), 0));
        drop(state);
        self.desk.work.notify_one();
        Ok(())
    }

    /// The loads that have ended since the last call.
    fn reports(&self) -> Vec<LoadReport> {
        std::mem::take(&mut self.desk.state.lock().reports)
    }

    /// How many loads have not ended.
    fn active(&self) -> usize {
        self.desk.state.lock().active
    }

    /// Waits until a load has ended, there is none, or `timeout` seconds have passed.
    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = Duration::try_from_secs_f64(timeout).map_err(|error| PyValueError::new_err(error.to_string()))?;
        py.detach(|| {
            let mut state = self.desk.state.lock();
            let is_pending = |state: &mut State| state.reports.is_empty() && state.active > 0;
            self.desk.ended.wait_while_for(&mut state, is_pending, timeout);
        });
        Ok(())
    }

    /// Ends the threads; loads that have not ended never will.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.end());
    }
}

impl Loader {
    fn wanted(&self, (group, block, key): &BlockTuple) -> PyResult<WantedBlock> {
        let shard = self.shards.get(*group);
        let shard = shard.ok_or_else(|| PyValueError::new_err(format!("there is no group `{group}`")))?;
        Ok(WantedBlock { group: *group, block: *block, key: shard.key(key_of(key)?) })
    }

    fn end(&self) {
        self.desk.state.lock().is_closed = true;
        self.desk.work.notify_all();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.end();
    }
}

impl Desk {
    /// A thread: does what there is to do until the loader is closed.
    fn work(&self) {
        let mut state = self.state.lock();
        while !state.is_closed {
            match state.tasks.pop_front() {
                None => self.work.wait(&mut state),
                Some(task) => parking_lot::MutexGuard::unlocked(&mut state, || self.carry(task)),
            }
        }
    }

    /// Does one task. A panic is reported by the panic hook and fails the load, so that no request waits forever.
    fn carry(&self, task: Task) {
        let job = task.job().clone();
        let carried = catch_unwind(AssertUnwindSafe(|| match task {
            Task::Find(job, from) => self.find(job, from),
            Task::Copy(piece) => self.copy(piece),
        }));
        if carried.is_err() {
            job.fail_from(0, "a thread of the loader panicked");
            self.end_part_of(&job);
        }
    }

    /// Finds some blocks, and has them copied. The next are looked for meanwhile, but not at once, since what is found is
    /// pinned: a load may be of more than the worker has room for.
    fn find(&self, job: Arc<Job>, from: usize) {
        let until = job.step_from(from);
        let (pieces, next) = match Piece::find(&self.client, &job, from..until) {
            Ok(Found { pieces, missing: Some(missing) }) => (pieces, Search::WhenAllEnded(missing)),
            Ok(Found { pieces, missing: None }) => {
                let few = pieces.len() / 2;
                (pieces, Search::WhenFewAreFresh(until, few))
            }
            Err(error) => {
                job.fail_from(from, &describe(&error));
                (Vec::new(), Search::Now)
            }
        };
        let goes_on = match next {
            Search::Now => None,
            Search::WhenFewAreFresh(from, _) | Search::WhenAllEnded(from) => {
                (!job.has_failed_from(from)).then_some(from)
            }
        };
        let waits = job.begin(pieces.len(), if goes_on.is_some() { next } else { Search::Now });
        self.queue(pieces.into_iter().map(Task::Copy));
        match goes_on {
            None => self.end_part_of(&job),
            Some(from) if !waits => self.queue([Task::Find(job, from)]),
            Some(_) => {}
        }
    }

    fn copy(&self, mut piece: Piece) {
        if let Some(from) = piece.take_up() {
            self.queue([Task::Find(piece.job().clone(), from)]);
        }
        let now = Instant::now();
        let until = {
            let state = self.state.lock();
            if state.fruitless >= state.tasks.len() { now + PATIENCE } else { now }
        };
        match piece.copy(&self.client, until) {
            Progress::Ended(job) => self.end_part_of(&job),
            Progress::Grown(piece) => self.queue([Task::Copy(piece)]),
            Progress::Waiting(piece) => {
                let mut state = self.state.lock();
                state.fruitless += 1;
                state.tasks.push_back(Task::Copy(piece));
                drop(state);
                self.work.notify_one();
            }
        }
    }

    fn queue(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut state = self.state.lock();
        state.fruitless = 0;
        state.tasks.extend(tasks);
        drop(state);
        self.work.notify_all();
    }

    /// A piece of the load, or the search for its blocks, has ended: with the last of them it has.
    fn end_part_of(&self, job: &Arc<Job>) {
        match job.end_part() {
            Then::Wait => return,
            Then::Search(from) => return self.queue([Task::Find(job.clone(), from)]),
            Then::Report => {}
        }
        let report = job.report();
        let mut state = self.state.lock();
        state.active -= 1;
        state.reports.push(report);
        drop(state);
        self.ended.notify_all();
    }
}
