//! Which engine there is: io_uring where it works, else threads. Found out by trying.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use crate::IoEngine;
use crate::io::threads::Threads;
use crate::io::uring::Uring;
use crate::io::{Buffer, Engine, Operation, Way};
use crate::pages::Pages;

/// How long a disk may take for the first read: one that takes longer is no reason to give io_uring up.
const PATIENCE: Duration = Duration::from_secs(5);

/// An engine for `file`, whose first page can be read, with room for `depth` operations.
pub(crate) fn choose(file: &File, wanted: IoEngine, depth: u32) -> io::Result<Box<dyn Engine>> {
    let threads = || Threads::new(file.try_clone()?, depth as usize);
    match wanted {
        IoEngine::Threads => Ok(Box::new(threads()?)),
        IoEngine::Uring => Ok(Box::new(tried(Uring::new(file, depth)?)?)),
        IoEngine::Best => match Uring::new(file, depth).and_then(tried) {
            Ok(uring) => Ok(Box::new(uring)),
            Err(error) => {
                tracing::info!(%error, "io_uring cannot be used: reading and writing with threads");
                Ok(Box::new(threads()?))
            }
        },
    }
}

/// An engine that has read a page: a kernel may allow a ring and forbid what is done with it.
fn tried(mut engine: Uring) -> io::Result<Uring> {
    let page = Buffer::Own(Pages::zeroed(1));
    engine.start(Operation { id: 0, way: Way::Read, offset: 0, buffers: vec![page] });
    let (until, mut done) = (Instant::now() + PATIENCE, Vec::new());
    while done.is_empty() && Instant::now() < until {
        engine.wait(until, &mut done);
    }
    match done.pop() {
        Some(done) => done.result.map(|()| engine),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}
