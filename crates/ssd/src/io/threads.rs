//! [`Threads`]: an engine of threads that each do one read or write at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::io::operation::{Step, Transfer};
use crate::io::{Bell, Done, Engine, Operation, Way};

/// An engine of threads, which come when there is more to do than those that are there can take.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    most: usize,
}

struct Shared {
    file: File,
    // Two locks, so that who begins work does not meet who ends it; each is held for a push or a pop.
    work: Mutex<Work>,
    more_work: Condvar,
    news: Mutex<News>,
    some_news: Condvar,
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<Transfer>,
    under_way: usize,
    idle: usize,
    is_ending: bool,
}

#[derive(Default)]
struct News {
    done: Vec<Done>,
    rung: bool,
}

impl Threads {
    /// An engine of up to `most` threads for `file`.
    pub(crate) fn new(file: File, most: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            file,
            work: Mutex::default(),
            more_work: Condvar::new(),
            news: Mutex::default(),
            some_news: Condvar::new(),
        });
        let mut engine = Self { shared, threads: Vec::new(), most };
        engine.add_thread()?;
        Ok(engine)
    }

    fn add_thread(&mut self) -> io::Result<()> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("chariot-ssd-io".into());
        self.threads.push(thread.spawn(move || shared.serve())?);
        Ok(())
    }
}

impl Engine for Threads {
    fn start(&mut self, operation: Operation) {
        let is_too_much = {
            let mut work = self.shared.work.lock();
            work.waiting.push_back(Transfer::new(operation));
            work.waiting.len() > work.idle
        };
        self.shared.more_work.notify_one();
        if is_too_much && self.threads.len() < self.most {
            // Where there is no thread to be had, those that are there do the work.
            let _ = self.add_thread();
        }
    }

    fn wait(&mut self, until: Instant, done: &mut Vec<Done>) {
        let mut news = self.shared.news.lock();
        while news.done.is_empty() && !news.rung {
            if self.shared.some_news.wait_until(&mut news, until).timed_out() {
                break;
            }
        }
        news.rung = false;
        done.append(&mut news.done);
    }

    fn bell(&self) -> Arc<dyn Bell> {
        self.shared.clone()
    }

    fn name(&self) -> &'static str {
        "threads"
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let (is_idle, not_begun) = {
            let mut work = self.shared.work.lock();
            work.is_ending = true;
            (work.under_way == 0, std::mem::take(&mut work.waiting))
        };
        drop(not_begun);
        self.shared.more_work.notify_all();
        if is_idle {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
        // Threads that a disk holds up cannot be waited for. They end with their operation.
    }
}

impl Shared {
    fn serve(&self) {
        while let Some(mut transfer) = self.next() {
            let done = loop {
                let result = step(&self.file, &transfer);
                match transfer.advance(result) {
                    Step::Unfinished(rest) => transfer = rest,
                    Step::Ended(done) => break done,
                }
            };
            let is_ending = {
                let mut work = self.work.lock();
                work.under_way -= 1;
                work.is_ending
            };
            if is_ending {
                // Nobody will take the result: what it owns is forgotten, as the engine's drop says.
                std::mem::forget(done);
                return;
            }
            self.news.lock().done.push(done);
            self.some_news.notify_one();
        }
    }

    fn next(&self) -> Option<Transfer> {
        let mut work = self.work.lock();
        loop {
            if work.is_ending {
                return None;
            }
            if let Some(transfer) = work.waiting.pop_front() {
                work.under_way += 1;
                return Some(transfer);
            }
            work.idle += 1;
            self.more_work.wait(&mut work);
            work.idle -= 1;
        }
    }
}

impl Bell for Shared {
    fn ring(&self) {
        self.news.lock().rung = true;
        self.some_news.notify_one();
    }
}

fn step(file: &File, transfer: &Transfer) -> io::Result<usize> {
    let (vectors, fd) = (transfer.vectors(), file.as_raw_fd());
    let offset = libc::off_t::try_from(transfer.offset()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let count = libc::c_int::try_from(vectors.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let bytes = match transfer.way() {
        // SAFETY: the vectors lie in buffers that the transfer owns, and nobody else uses them meanwhile.
        Way::Read => unsafe { libc::preadv(fd, vectors.as_ptr(), count, offset) },
        // SAFETY: as above.
        Way::Write => unsafe { libc::pwritev(fd, vectors.as_ptr(), count, offset) },
    };
    usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
}
