//! Removing: a record whose block is no more is overwritten by one that says so, and how long it is.

use std::io;

use chariot_types::NamespaceName;

use crate::Block;
use crate::driver::{Driver, REMOVALS, What};
use crate::io::{Buffer, Way};
use crate::layout::Place;
use crate::pages::Pages;
use crate::record::{Record, Standing};
use crate::state::{Removal, State};

impl Driver {
    /// Begins removals while there are some.
    pub(super) fn begin_removals(&mut self) {
        while self.under_way(|what| matches!(what, What::Removal(_))) < REMOVALS {
            let Some(removal) = next(&mut self.shared.state.lock()) else { return };
            self.remove(removal);
        }
    }

    fn remove(&mut self, Removal { place, filling, key, len }: Removal) {
        let record = Record {
            identity: self.file.identity,
            filling,
            segment: place.segment.into(),
            page: place.page.into(),
            standing: Standing::Removed,
            block: Block { key, parent: None, len, expires_at: None, namespace: NamespaceName::default() },
            payload_checksum: 0,
        };
        let mut page = Pages::zeroed(1);
        record.encode(&mut page);
        self.fly(What::Removal(place), Way::Write, self.file.layout.offset(place), vec![Buffer::Own(page)]);
    }

    /// A removal has ended.
    pub(super) fn struck(&mut self, place: Place, result: io::Result<()>) {
        {
            let mut state = self.shared.state.lock();
            state.log.write_ends(place.segment);
            state.stats.write_errors += u64::from(result.is_err());
        }
        if let Err(error) = result {
            let path = self.shared.path.display();
            tracing::warn!(%error, %path, "a removed block stays in the spill file, and a restart finds it again");
        }
    }
}

/// The next removal that is still called for: the segment may have been filled anew.
fn next(state: &mut State) -> Option<Removal> {
    loop {
        let removal = state.removals.pop_front()?;
        if state.log.filling(removal.place.segment) == removal.filling {
            state.log.write_begins(removal.place.segment);
            return Some(removal);
        }
    }
}
