//! [`Apart`]: keeps two sides of a conversation on two processors while it is measured.
//!
//! Left alone, the scheduler puts the two sides of a ping-pong on one processor or on two as it likes, and a wake-up
//! costs twenty times more on two: a figure and its reference must not differ by that luck.

use anyhow::Result;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// While it lives, this thread runs on one processor, and what [`away`](Self::away) was called for on another.
pub(crate) struct Apart {
    before: CpuSet,
    own: CpuSet,
    other: CpuSet,
}

impl Apart {
    /// Pins this thread. Does nothing where there is one processor only.
    pub(crate) fn pin_this_thread() -> Result<Self> {
        let before = sched_getaffinity(None)?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu));
        let (first, second) = (usable.next(), usable.next());
        let only = |cpu: Option<usize>| {
            let mut set = CpuSet::new();
            cpu.map_or(before, |cpu| {
                set.set(cpu);
                set
            })
        };
        let own = if second.is_some() { only(first) } else { before };
        sched_setaffinity(None, &own)?;
        Ok(Self { before, own, other: only(second) })
    }

    /// Pins all threads of the process `pid` to this thread's processor.
    pub(crate) fn beside(&self, pid: u32) -> Result<()> {
        set_all_threads(pid, &self.own)
    }

    /// Pins all threads of the process `pid` to the other processor.
    pub(crate) fn away(&self, pid: u32) -> Result<()> {
        set_all_threads(pid, &self.other)
    }

    /// Lets all threads of the process `pid` run anywhere again.
    pub(crate) fn release(&self, pid: u32) -> Result<()> {
        set_all_threads(pid, &self.before)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.before);
    }
}

fn set_all_threads(pid: u32, processors: &CpuSet) -> Result<()> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread: i32 = task?.file_name().to_string_lossy().parse()?;
        // A thread may have ended meanwhile.
        let _ = sched_setaffinity(Pid::from_raw(thread), processors);
    }
    Ok(())
}
