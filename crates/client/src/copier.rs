//! [`Copier`]: copies of many bytes, for which one thread is too slow.
//!
//! One core does not use up the memory's bandwidth. From a size found by measuring (docs/perf.md), a second thread takes
//! part: it takes small pieces as it gets to them, so on a machine that is busy with other things the caller copies most of
//! them itself, and loses little. More than two were not measured, and a process that has but one processor copies alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use crate::copy::copy_into_shared_memory;

/// From this many bytes on, it is worth waking a thread.
const SHARED_FROM: usize = 2 << 20;

/// What a thread takes at a time: short, because who is done waits for the other's last.
const CHUNK: usize = 256 << 10;

/// Copies for one client. Its thread begins with the first large copy, and ends with this.
#[derive(Default)]
pub(crate) struct Copier {
    second: OnceLock<Option<Sender<Arc<Work>>>>,
}

/// Bytes, and where they go.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) source: &'a [u8],
    pub(crate) target: *mut u8,
}

impl Copier {
    /// Copies all `pieces`; returns when that is done.
    ///
    /// # Safety
    /// Each target is valid for writes of as many bytes as its source has, overlaps no source and no other target, and
    /// nobody else accesses it during the call.
    pub(crate) unsafe fn copy(&self, pieces: &[Piece<'_>]) {
        let len: usize = pieces.iter().map(|piece| piece.source.len()).sum();
        let second = if len >= SHARED_FROM { self.second() } else { None };
        let Some(second) = second else {
            for piece in pieces {
                // SAFETY: as the caller promises.
                unsafe { copy_into_shared_memory(piece.target, piece.source) };
            }
            return;
        };
        let work = Arc::new(Work::of(pieces));
        // Its thread lives as long as this. If it did not, all would be copied here.
        let _ = second.send(work.clone());
        work.take_part();
        work.wait();
    }

    fn second(&self) -> Option<&Sender<Arc<Work>>> {
        self.second.get_or_init(begin_second).as_ref()
    }
}

/// Begins a thread that takes part in all work that it is sent, until nobody can send any more. `None` where there is no
/// processor for it.
fn begin_second() -> Option<Sender<Arc<Work>>> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    let (sender, work): (_, Receiver<Arc<Work>>) = channel();
    // Detached: it holds nothing of the client's, and no copy returns while it still has a part in that.
    let thread = std::thread::Builder::new().name("chariot-copy".into());
    thread.spawn(move || work.iter().for_each(|work| work.take_part())).ok().map(|_| sender)
}

/// One call's copies, of which threads take chunks until there are no more.
struct Work {
    chunks: Vec<Chunk>,
    /// The first chunk that nobody has taken.
    next: AtomicUsize,
    /// Chunks that are not copied.
    left: AtomicUsize,
    caller: Thread,
}

struct Chunk {
    source: *const u8,
    target: *mut u8,
    len: usize,
}

// SAFETY: a chunk's memory is used only by the thread that has taken it, and only while the caller of `Copier::copy` waits,
// who promises that it stays and that nobody else uses it.
unsafe impl Send for Work {}
// SAFETY: as above; everything else is atomic.
unsafe impl Sync for Work {}

impl Work {
    fn of(pieces: &[Piece<'_>]) -> Self {
        let chunks: Vec<Chunk> = pieces.iter().flat_map(chunks_of).collect();
        let left = AtomicUsize::new(chunks.len());
        Self { chunks, next: AtomicUsize::new(0), left, caller: std::thread::current() }
    }

    /// Copies chunks until all are taken.
    fn take_part(&self) {
        while let Some(chunk) = self.chunks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            // SAFETY: a chunk that has been taken is not copied yet, so the caller still waits, and its bytes are there.
            let source = unsafe { std::slice::from_raw_parts(chunk.source, chunk.len) };
            // SAFETY: as for the source; and this thread alone has taken it.
            unsafe { copy_into_shared_memory(chunk.target, source) };
            if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.caller.unpark();
            }
        }
    }

    /// Waits for what the other thread has taken.
    fn wait(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            std::thread::park();
        }
    }
}

fn chunks_of<'a>(piece: &'a Piece<'_>) -> impl Iterator<Item = Chunk> + 'a {
    piece.source.chunks(CHUNK).enumerate().map(|(number, source)| {
        let target = piece.target.wrapping_add(number * CHUNK);
        Chunk { source: source.as_ptr(), target, len: source.len() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_copied_to_its_place_whoever_copies_it() {
        let copier = Copier::default();
        for lens in [vec![], vec![0, 1, 5000], vec![SHARED_FROM], vec![3 * CHUNK + 7; 9], vec![999; 5000]] {
            let sources: Vec<Vec<u8>> =
                lens.iter().map(|len| (0..*len).map(|at| (at * 31 % 251) as u8).collect()).collect();
            let mut targets: Vec<Vec<u8>> = lens.iter().map(|len| vec![0xEE; *len]).collect();
            let pieces: Vec<_> = sources
                .iter()
                .zip(&mut targets)
                .map(|(source, target)| Piece { source, target: target.as_mut_ptr() })
                .collect();
            // SAFETY: each target is as long as its source, and this test's own.
            unsafe { copier.copy(&pieces) };
            assert!(sources == targets);
        }
    }
}
