//! [`Running`]: what runs in a worker, until it ends or is handed over.

use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::clustered::InCluster;
use crate::handover::Settling;
use crate::place::Place;
use crate::tenants::Tenants;
use crate::touch::Toucher;

/// What runs in a worker.
pub(crate) struct Running {
    tenants: Arc<Tenants>,
    // Held while it ends: whoever ends it as well returns when it has ended.
    parts: Mutex<Option<Parts>>,
}

/// Threads, and what they need.
pub(crate) struct Parts {
    pub(crate) serving: Vec<JoinHandle<()>>,
    /// Filled later where another worker has to leave first.
    pub(crate) clustered: Arc<Mutex<Option<InCluster>>>,
    pub(crate) settling: Option<Settling>,
    pub(crate) touchers: Vec<Toucher>,
    pub(crate) place: Place,
}

impl Running {
    pub(crate) fn new(tenants: Arc<Tenants>, parts: Parts) -> Self {
        Self { tenants, parts: Mutex::new(Some(parts)) }
    }

    /// The files by which the worker is found are another's from now on.
    pub(crate) fn give_place_away(&self) {
        if let Some(parts) = &mut *self.parts.lock() {
            parts.place.give_away();
        }
    }

    /// Ends all of it; returns when it has ended.
    pub(crate) fn end(&self) {
        let mut running = self.parts.lock();
        let Some(parts) = running.take() else { return };
        drop(parts.settling);
        // First of all others: nobody is to be sent here any more.
        drop(parts.clustered.lock().take());
        for shared in self.tenants.all() {
            shared.ending.send_replace(true);
        }
        for thread in parts.serving {
            if thread.join().is_err() {
                tracing::error!("a serving thread had panicked");
            }
        }
        for tier in self.tenants.all().filter_map(|shared| shared.tier()) {
            tier.close();
        }
        drop(parts.touchers);
        drop(parts.place);
        tracing::info!(address = %self.tenants.first().address, "ended");
    }
}
