//! [`Driver`]: the spill's one thread. It begins reads and writes, takes their results, and looks at the time.
//!
//! Work that callers leave in [`State`](crate::state::State) is begun while few enough operations are under way
//! (`write`, `read`, `remove` say what each is), and whatever the disk does not answer in time is given up, with its
//! memory kept aside for as long as the kernel may use it.

mod read;
mod remove;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_types::Key;
use foldhash::fast::RandomState;

use crate::driver::read::Reading;
use crate::driver::write::Writing;
use crate::file::SpillFile;
use crate::io::{Buffer, Done, Engine, Operation, Way};
use crate::layout::Place;
use crate::memory::Memory;
use crate::spill::Shared;
use crate::state::{Answer, Health, Phase};
use crate::{Closed, Loaded};

/// Operations of all kinds that can be under way together.
pub(crate) const DEPTH: u32 = (READS + WRITES + REMOVALS) as u32;
const READS: usize = 32;
const WRITES: usize = 16;
const REMOVALS: usize = 4;

/// How often the time is looked at while something is under way.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait for something to do.
const IDLE: Duration = Duration::from_secs(3600);
/// An operation that takes longer shows that the disk does not answer.
const STALL: Duration = Duration::from_secs(2);
/// A block that waits longer is dropped: whoever needs its memory has waited long enough.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The pause after a failed write; it doubles with each failure in a row.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Who is told of blocks that cannot be found any more.
pub(crate) type Gone = Box<dyn FnMut(Vec<Key>) + Send>;

/// The spill's thread.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) file: SpillFile,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) gone: Gone,
    flights: HashMap<u64, Flight, RandomState>,
    next_flight: u64,
    rest: Duration,
}

/// An operation under way.
struct Flight {
    what: What,
    since: Instant,
}

enum What {
    Write(Writing),
    Read(Reading),
    Removal(Place),
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, file: SpillFile, engine: Box<dyn Engine>, gone: Gone) -> Self {
        Self { shared, file, engine, gone, flights: HashMap::default(), next_flight: 0, rest: FIRST_REST }
    }

    /// Serves until the spill is closed.
    pub(crate) fn run(mut self) -> Closed {
        let mut done = Vec::new();
        loop {
            self.begin_reads();
            self.begin_writes();
            self.begin_removals();
            if let Some(closed) = self.is_over() {
                self.give_up_all();
                if closed == Closed::Clean {
                    self.file.unlock();
                }
                return closed;
            }
            self.engine.wait(self.next_look(), &mut done);
            for done in done.drain(..) {
                self.take(done);
            }
            self.look_at_the_time();
        }
    }

    fn next_look(&self) -> Instant {
        let is_quiet = self.flights.is_empty() && {
            let state = self.shared.state.lock();
            state.is_quiet() && state.phase == Phase::Open && state.health == Health::Well
        };
        Instant::now() + if is_quiet { IDLE } else { TICK }
    }

    fn is_over(&self) -> Option<Closed> {
        let state = self.shared.state.lock();
        let Phase::Closing { until } = state.phase else { return None };
        let is_done = self.flights.is_empty() && state.is_quiet();
        match is_done {
            true => Some(Closed::Clean),
            false if Instant::now() >= until => Some(Closed::Unfinished),
            false => None,
        }
    }

    /// Begins an operation.
    fn fly(&mut self, what: What, way: Way, offset: u64, buffers: Vec<Buffer>) {
        let id = self.next_flight;
        self.next_flight += 1;
        self.flights.insert(id, Flight { what, since: Instant::now() });
        self.engine.start(Operation { id, way, offset, buffers });
    }

    fn under_way(&self, is_kind: impl Fn(&What) -> bool) -> usize {
        self.flights.values().filter(|flight| is_kind(&flight.what)).count()
    }

    fn take(&mut self, done: Done) {
        let Some(flight) = self.flights.remove(&done.operation.id) else { return };
        let (buffers, result) = (done.operation.buffers, done.result);
        match flight.what {
            What::Write(writing) => self.written(writing, result),
            What::Read(reading) => self.read(reading, buffers, result),
            What::Removal(place) => self.struck(place, result),
        }
    }

    /// Gives up what the disk has not answered in time, and says how the disk is.
    fn look_at_the_time(&mut self) {
        let now = Instant::now();
        let health = self.judge_the_disk(now);
        self.drop_what_waits_in_vain(health, now);
        self.answer_the_late(now);
        self.miss_what_cannot_be_read(now);
    }

    fn judge_the_disk(&self, now: Instant) -> Health {
        let is_stalled = self.flights.values().any(|flight| now.duration_since(flight.since) >= STALL);
        let before = self.shared.state.lock().health;
        let health = match before {
            _ if is_stalled => Health::Stalled,
            Health::Resting { until } if now < until => before,
            _ => Health::Well,
        };
        self.shared.state.lock().health = health;
        let path = self.shared.path.display();
        match (before, health) {
            (Health::Stalled, Health::Stalled) => {}
            (_, Health::Stalled) => {
                tracing::warn!(%path, "the spill's disk does not answer: nothing is stored or loaded")
            }
            (Health::Stalled, _) => tracing::info!(%path, "the spill's disk answers again"),
            _ => {}
        }
        health
    }

    fn drop_what_waits_in_vain(&mut self, health: Health, now: Instant) {
        let is_in_vain = |since: Instant| health != Health::Well || now.duration_since(since) >= LONGEST_WAIT;
        let (dropped, gone): (Vec<Memory>, Vec<Option<Key>>) = {
            let mut state = self.shared.state.lock();
            std::iter::from_fn(|| {
                let is_next = state.stores.front().is_some_and(|store| is_in_vain(store.since));
                is_next.then(|| state.drop_store()).flatten()
            })
            .unzip()
        };
        // Their owners may call: not while the state is locked.
        drop(dropped);
        self.tell_gone(gone.into_iter().flatten().collect());
    }

    fn tell_gone(&mut self, gone: Vec<Key>) {
        if !gone.is_empty() {
            (self.gone)(gone);
        }
    }

    fn answer_the_late(&mut self, now: Instant) {
        let mut late = Vec::new();
        for flight in self.flights.values_mut() {
            if let What::Read(reading) = &mut flight.what {
                late.append(&mut reading.take_late(now));
            }
        }
        if late.is_empty() {
            return;
        }
        {
            let mut state = self.shared.state.lock();
            state.stats.late += late.len() as u64;
            state.stats.misses += late.len() as u64;
        }
        late.into_iter().for_each(|answer| answer(Loaded::Late));
    }

    /// Lets go of all that is left when the time to close is over.
    fn give_up_all(&mut self) {
        let mut late: Vec<Answer> = Vec::new();
        for flight in self.flights.values_mut() {
            if let What::Read(reading) = &mut flight.what {
                late.append(&mut reading.take_all());
            }
        }
        let (dropped, loads) = {
            let mut state = self.shared.state.lock();
            state.phase = Phase::Closed;
            let dropped: Vec<Memory> = std::iter::from_fn(|| state.drop_store().map(|(memory, _)| memory)).collect();
            let loads = std::mem::take(&mut state.loads);
            state.stats.misses += (late.len() + loads.len()) as u64;
            (dropped, loads)
        };
        drop(dropped);
        late.into_iter().for_each(|answer| answer(Loaded::Late));
        loads.into_iter().for_each(|load| (load.answer)(Loaded::Miss { memory: load.memory }));
    }
}
