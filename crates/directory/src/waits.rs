//! [`Waits`]: who is to be told when a key appears.

use std::collections::{BTreeMap, BTreeSet};

use chariot_types::{Key, RunId};

/// The number that an asker gave to a look-up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What an asker that waited is to be told, once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Appeared {
    /// Who waited.
    pub asker: RunId,
    /// Which of its look-ups waited.
    pub ticket: Ticket,
    /// The key that appeared.
    pub key: Key,
    /// Who holds it.
    pub holder: RunId,
}

/// Every wait, in two orders.
#[derive(Default, Debug)]
pub(crate) struct Waits {
    by_key: BTreeSet<(Key, RunId, Ticket)>,
    by_asker: BTreeMap<RunId, BTreeSet<(Ticket, Key)>>,
}

impl Waits {
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many keys `asker` waits for.
    pub(crate) fn of(&self, asker: RunId) -> usize {
        self.by_asker.get(&asker).map_or(0, BTreeSet::len)
    }

    pub(crate) fn add(&mut self, asker: RunId, ticket: Ticket, key: Key) {
        self.by_key.insert((key, asker, ticket));
        self.by_asker.entry(asker).or_default().insert((ticket, key));
    }

    /// Ends the waits for `key` that `holder` can serve, and adds what each asker is to be told. A worker that waits for
    /// what it holds itself does so because its own copy did not serve it.
    pub(crate) fn answer(&mut self, key: &Key, holder: RunId, appeared: &mut Vec<Appeared>) {
        let first = (*key, RunId::from_bytes([0; RunId::LEN]), Ticket(0));
        let waiting = self.by_key.range(first..).take_while(|(waited_for, ..)| waited_for == key);
        let from = appeared.len();
        appeared.extend(waiting.filter(|(_, asker, _)| *asker != holder).map(|&(key, asker, ticket)| Appeared {
            asker,
            ticket,
            key,
            holder,
        }));
        for told in &appeared[from..] {
            self.by_key.remove(&(told.key, told.asker, told.ticket));
            self.remove_from_asker(told.asker, &[(told.ticket, told.key)]);
        }
    }

    /// Ends the waits of one look-up.
    pub(crate) fn strike(&mut self, asker: RunId, ticket: Ticket) {
        let Some(waits) = self.by_asker.get(&asker) else { return };
        let from = (ticket, Key::from_bytes([0; Key::LEN]));
        let struck: Vec<_> = waits.range(from..).take_while(|(of, _)| *of == ticket).copied().collect();
        for (ticket, key) in &struck {
            self.by_key.remove(&(*key, asker, *ticket));
        }
        self.remove_from_asker(asker, &struck);
    }

    /// Ends all waits of an asker.
    pub(crate) fn strike_all(&mut self, asker: RunId) {
        for (ticket, key) in self.by_asker.remove(&asker).unwrap_or_default() {
            self.by_key.remove(&(key, asker, ticket));
        }
    }

    fn remove_from_asker(&mut self, asker: RunId, ended: &[(Ticket, Key)]) {
        let Some(waits) = self.by_asker.get_mut(&asker) else { return };
        for wait in ended {
            waits.remove(wait);
        }
        if waits.is_empty() {
            self.by_asker.remove(&asker);
        }
    }
}
