//! Touches the arena's pages ahead, because the first write to a fresh page takes several times as long.
//!
//! In a thread that runs only when a processor has nothing else to do, and one huge page at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use chariot_pool::Mapping;
use chariot_types::Extent;

use crate::shared::Shared;

/// The pause between two pieces: with it, touching takes a fifth of an idle processor and not all of it.
const PAUSE: Duration = Duration::from_millis(1);

/// The thread that touches; dropped, it ends.
pub(crate) struct Toucher {
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Toucher {
    pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let is_ending = Arc::new(AtomicBool::new(false));
        let flag = is_ending.clone();
        let thread = std::thread::Builder::new().name("chariot-touch".into()).spawn(move || touch(&shared, &flag))?;
        Ok(Self { is_ending, thread: Some(thread) })
    }
}

impl Drop for Toucher {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn touch(shared: &Shared, is_ending: &AtomicBool) {
    // Best effort: where the limit on niceness forbids it, the pauses still keep it polite.
    let _ = rustix::process::nice(19);
    let len = shared.arena.len();
    let mut offset = shared.touched.load(Ordering::Relaxed);
    while offset < len && !is_ending.load(Ordering::Relaxed) {
        let piece = Extent { offset, len: Mapping::TOUCH.min(len - offset) };
        if let Err(error) = shared.arena.touch(piece) {
            tracing::warn!(%error, offset, "stopped touching pages ahead: first writes will be slower");
            return;
        }
        offset += piece.len;
        shared.touched.store(offset, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
}
