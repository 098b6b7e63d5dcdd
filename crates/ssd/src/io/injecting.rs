//! [`Injecting`]: an engine for tests whose disk fails, or does not answer, when the test says so.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::io::{Bell, Done, Engine, Operation, Way};

/// An engine around a real one, which a [`Disk`] tells what to spoil.
pub(crate) struct Injecting {
    inner: Box<dyn Engine>,
    disk: Disk,
    failed: Vec<Done>,
    held: Vec<Operation>,
}

/// How the disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    Good,
    /// Operations of this kind fail.
    Fails(Way),
    /// Nothing is answered.
    Silent,
}

/// Sets the mood of a disk, from outside.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Mutex<Mood>>);

impl Disk {
    pub(crate) fn good() -> Self {
        Self(Arc::new(Mutex::new(Mood::Good)))
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.0.lock() = mood;
    }
}

impl Injecting {
    pub(crate) fn new(inner: Box<dyn Engine>, disk: Disk) -> Self {
        Self { inner, disk, failed: Vec::new(), held: Vec::new() }
    }
}

impl Engine for Injecting {
    fn start(&mut self, operation: Operation) {
        match *self.disk.0.lock() {
            Mood::Silent => self.held.push(operation),
            Mood::Fails(way) if way == operation.way => {
                // EIO, as a disk that cannot read a sector has it.
                let result = Err(io::Error::from_raw_os_error(libc::EIO));
                self.failed.push(Done { operation, result });
            }
            Mood::Good | Mood::Fails(_) => self.inner.start(operation),
        }
    }

    fn wait(&mut self, until: Instant, done: &mut Vec<Done>) {
        if *self.disk.0.lock() != Mood::Silent {
            self.held.drain(..).for_each(|operation| self.inner.start(operation));
        }
        if !self.failed.is_empty() {
            done.append(&mut self.failed);
            return;
        }
        // Changes of mood are heard within a moment.
        self.inner.wait(until.min(Instant::now() + Duration::from_millis(10)), done);
    }

    fn bell(&self) -> Arc<dyn Bell> {
        self.inner.bell()
    }

    fn name(&self) -> &'static str {
        "injecting"
    }
}

impl Drop for Injecting {
    fn drop(&mut self) {
        self.held.drain(..).for_each(std::mem::forget);
    }
}
