//! [`Spill`]: the handle through which a spill is used.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use chariot_types::Key;
use parking_lot::Mutex;

use crate::driver::{DEPTH, Driver, Gone};
use crate::file::SpillFile;
use crate::io::{Bell, Engine, choose};
use crate::memory::Memory;
use crate::record::micros_of;
use crate::recovery::recover;
use crate::state::{Load, Phase, State};
use crate::{Block, Closed, Held, Loaded, Recovered, SpillConfig, SpillError, SpillStats, Stored, Wanted};

/// A file of blocks. Dropped, it is closed, and what waits is written if the disk does that within a second.
#[must_use = "a spill that is dropped is closed"]
pub struct Spill {
    shared: Arc<Shared>,
    bell: Arc<dyn Bell>,
    capacity: u64,
    /// Taken by the first who closes.
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    /// Says how it ended, just before it does.
    ended: mpsc::Receiver<Closed>,
    handle: JoinHandle<()>,
}

/// What the handle and the thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) state: Mutex<State>,
}

/// How long a spill that is dropped takes at the most.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// How much longer than it was given the thread may take to say that it has ended.
const SLACK: Duration = Duration::from_millis(500);

/// Makes the engine for a file, on the thread that will use it.
type MakeEngine = Box<dyn FnOnce(&SpillFile) -> std::io::Result<Box<dyn Engine>> + Send>;

struct Opened {
    shared: Arc<Shared>,
    bell: Arc<dyn Bell>,
    recovered: Recovered,
    capacity: u64,
}

impl Spill {
    /// Opens the file, or makes it, and finds what it holds. `gone` is told, on the spill's own thread, of blocks that
    /// were found or accepted and cannot be found any more, but for those that a caller removes.
    pub fn open(
        config: &SpillConfig,
        gone: impl FnMut(Vec<Key>) + Send + 'static,
    ) -> Result<(Self, Recovered), SpillError> {
        let engine = config.engine;
        Self::open_with(config, gone, move |file| choose(&file.file, engine, DEPTH))
    }

    /// As [`Spill::open`], with another way to read and write.
    pub(crate) fn open_with(
        config: &SpillConfig,
        gone: impl FnMut(Vec<Key>) + Send + 'static,
        engine: impl FnOnce(&SpillFile) -> std::io::Result<Box<dyn Engine>> + Send + 'static,
    ) -> Result<(Self, Recovered), SpillError> {
        let file = SpillFile::open(config)?;
        let (tell_opened, opened) = mpsc::channel();
        let (tell_ended, ended) = mpsc::channel();
        let (config, gone, engine): (_, Gone, MakeEngine) = (config.clone(), Box::new(gone), Box::new(engine));
        let work = move || match begin(&config, file, gone, engine) {
            Err(error) => {
                let _ = tell_opened.send(Err(error));
            }
            Ok((driver, opened)) => {
                if tell_opened.send(Ok(opened)).is_ok() {
                    let _ = tell_ended.send(driver.run());
                }
            }
        };
        let handle = std::thread::Builder::new().name("chariot-ssd".into()).spawn(work)?;
        let Opened { shared, bell, recovered, capacity } =
            opened.recv().map_err(|_| std::io::Error::other("the spill's thread has panicked"))??;
        Ok((Self { shared, bell, capacity, thread: Mutex::new(Some(Thread { ended, handle })) }, recovered))
    }

    /// Stores a block, whose bytes are at the start of `memory`. Returns at once: what cannot wait is dropped. What is
    /// accepted can be found from now on; a load of it waits until it is written.
    ///
    /// # Panics
    /// If the memory is shorter than the block.
    pub fn store(&self, block: Block, memory: Memory) -> Stored {
        assert!(block.len <= memory.bytes().len() as u64, "a block is never longer than its memory");
        let stored = self.shared.state.lock().store(block, memory);
        if matches!(stored, Stored::Accepted) {
            self.bell.ring();
        }
        stored
    }

    /// How many bytes of blocks would be accepted now, and one block more: none where the disk does not keep up, fails or
    /// does not answer.
    pub fn room(&self) -> u64 {
        self.shared.state.lock().room()
    }

    /// Loads blocks, and tells `answer` of each what became of it, by `until` and a little later at the latest. It is
    /// called on the spill's own thread, in any order.
    ///
    /// Blocks that are asked for together are read together.
    pub fn load(&self, wanted: Vec<Wanted>, until: Instant, answer: impl Fn(Key, Loaded) + Send + Sync + 'static) {
        let answer = Arc::new(answer);
        let mut refused = Vec::new();
        {
            let mut state = self.shared.state.lock();
            for Wanted { key, memory } in wanted {
                let answer = answer.clone();
                match state.phase {
                    Phase::Closed => refused.push((key, memory)),
                    Phase::Open | Phase::Closing { .. } => {
                        let answer = Box::new(move |loaded| answer(key, loaded));
                        state.loads.push_back(Load { key, memory, until, answer });
                    }
                }
            }
        }
        self.bell.ring();
        refused.into_iter().for_each(|(key, memory)| answer(key, Loaded::Miss { memory }));
    }

    /// Which of `keys` the file holds.
    pub fn find(&self, keys: &[Key]) -> Vec<Option<Held>> {
        let now = micros_of(SystemTime::now());
        let state = self.shared.state.lock();
        keys.iter().map(|key| state.held(key, now)).collect()
    }

    /// Whether the file holds a block.
    pub fn holds(&self, key: &Key) -> bool {
        self.shared.state.lock().held(key, micros_of(SystemTime::now())).is_some()
    }

    /// All blocks that the file holds, in steps: some from `step` on, and the next step if there is one. Between two
    /// steps blocks may come and go.
    pub fn keys(&self, step: usize) -> (Vec<Key>, Option<usize>) {
        let state = self.shared.state.lock();
        match state.index.keys_of(step) {
            Some(keys) => (keys, Some(step + 1)),
            // What is on its way comes last: by then it may be in a segment that was looked at before.
            None => (state.coming.keys().copied().collect(), None),
        }
    }

    /// Removes a block, whether it is in the file or on its way there; whether it was. It is not found again from now
    /// on, and after a restart as soon as the disk has heard of it.
    pub fn remove(&self, key: &Key) -> bool {
        let (was_there, memory) = self.shared.state.lock().remove(key);
        // Its owner may call: not while the state is locked.
        drop(memory);
        if was_there {
            self.bell.ring();
        }
        was_there
    }

    /// What it holds and has done.
    pub fn stats(&self) -> SpillStats {
        self.shared.state.lock().stats(self.capacity)
    }

    /// Takes no more, writes what waits, and ends; within `patience`, or a little more. Does nothing the second time.
    pub fn close(&self, patience: Duration) -> Closed {
        let Some(Thread { ended, handle }) = self.thread.lock().take() else { return Closed::Clean };
        self.shared.state.lock().phase = Phase::Closing { until: Instant::now() + patience };
        self.bell.ring();
        match ended.recv_timeout(patience + SLACK) {
            Ok(Closed::Clean) => {
                let _ = handle.join();
                Closed::Clean
            }
            // A thread whose operations the disk holds up cannot be waited for: it ends when they do.
            Ok(Closed::Unfinished) | Err(_) => Closed::Unfinished,
        }
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        let _ = self.close(DROP_PATIENCE);
    }
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("path", &self.shared.path).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What the thread does first.
fn begin(
    config: &SpillConfig,
    file: SpillFile,
    gone: Gone,
    engine: MakeEngine,
) -> Result<(Driver, Opened), SpillError> {
    let began = Instant::now();
    let mut engine = engine(&file)?;
    let found = recover(&file, engine.as_mut()).map_err(|source| match source.kind() {
        std::io::ErrorKind::TimedOut => SpillError::Unresponsive { path: config.path.clone() },
        _ => SpillError::File { path: config.path.clone(), source },
    })?;
    let recovered = Recovered {
        beginning: file.beginning,
        blocks: found.index.len() as u64,
        bytes: found.index.bytes(),
        took: began.elapsed(),
        engine: engine.name(),
    };
    let mut state = State::new(found.index, found.log, config.queue, file.layout.segment_pages());
    state.removals.extend(found.outdated);
    let shared = Arc::new(Shared { path: config.path.clone(), state: Mutex::new(state) });
    let opened = Opened { shared: shared.clone(), bell: engine.bell(), recovered, capacity: file.layout.file_len() };
    Ok((Driver::new(shared, file, engine, gone), opened))
}

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;
