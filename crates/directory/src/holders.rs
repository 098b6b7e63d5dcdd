//! [`Holders`]: short numbers for the workers that hold something.

use std::collections::BTreeMap;

use chariot_types::RunId;

/// A holder's number, in as few bytes as a record should take.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Seat(u16);

/// Which run has which number. A number is another's only after [`Holders::reuse_the_gone`].
#[derive(Default, Debug)]
pub(crate) struct Holders {
    seated: Vec<Option<Holder>>,
    seats: BTreeMap<RunId, Seat>,
    free: Vec<Seat>,
    gone: Vec<Seat>,
}

/// Who has a seat.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) run: RunId,
    /// Records that name it.
    pub(crate) records: u64,
}

impl Holders {
    /// The seat of `run`, a new one if need be; `None` when none is left.
    pub(crate) fn admit(&mut self, run: RunId) -> Option<Seat> {
        if let Some(seat) = self.seats.get(&run) {
            return Some(*seat);
        }
        let seat = match self.free.pop() {
            Some(seat) => seat,
            None => {
                let seat = Seat(u16::try_from(self.seated.len()).ok()?);
                self.seated.push(None);
                seat
            }
        };
        self.seated[usize::from(seat.0)] = Some(Holder { run, records: 0 });
        self.seats.insert(run, seat);
        Some(seat)
    }

    /// The seat that `run` has.
    pub(crate) fn seat(&self, run: RunId) -> Option<Seat> {
        self.seats.get(&run).copied()
    }

    /// Who has `seat`; `None` when it has gone.
    pub(crate) fn get(&self, seat: Seat) -> Option<&Holder> {
        self.seated[usize::from(seat.0)].as_ref()
    }

    /// Who has `seat`; `None` when it has gone.
    pub(crate) fn get_mut(&mut self, seat: Seat) -> Option<&mut Holder> {
        self.seated[usize::from(seat.0)].as_mut()
    }

    /// Takes the seat of `run` away and says what it had: records that name it are void from now on.
    pub(crate) fn dismiss(&mut self, run: RunId) -> Option<Holder> {
        let seat = self.seats.remove(&run)?;
        self.gone.push(seat);
        self.seated[usize::from(seat.0)].take()
    }

    /// The seats that were taken away can be given to others: no record names them any more.
    pub(crate) fn reuse_the_gone(&mut self) {
        self.free.append(&mut self.gone);
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }
}
