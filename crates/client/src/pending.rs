//! [`PendingGet`]: a get whose answer is collected later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_types::Key;
use chariot_wire::limits::{GLANCE_MICROS, MAX_WAIT_MICROS};
use chariot_wire::{GetWhat, Reply, Request, micros};

use crate::connection::{Connection, Payload};
use crate::glance::{self, Glance, IfMissing};
use crate::keeper::Link;
use crate::lookout::{Ringer, look_until};
use crate::mailbox::{Answer, Waited};
use crate::{Block, ClientError};

/// A get that was begun and may not have found everything yet. Dropping it cancels it.
#[must_use = "a get that is dropped is cancelled"]
pub struct PendingGet {
    wanted: Box<Wanted>,
    connection: Arc<Connection>,
    what: GetWhat,
    /// One entry a key; among them some that are wanted whole and still grow.
    blocks: Vec<Option<Block>>,
    /// What is not there and is looked for until it is: its places in `blocks`, and its keys.
    missing: Vec<(usize, Key)>,
    /// What the worker was asked for.
    asked: Option<Box<Asked>>,
    /// Why there will be no blocks.
    failure: Option<Box<ClientError>>,
    /// What is not there by then is a miss.
    deadline: Instant,
}

/// What was wanted, and by whom.
struct Wanted {
    link: Arc<Link>,
    keys: Vec<Key>,
    if_missing: IfMissing,
}

struct Asked {
    request: u64,
    /// Places in the get's blocks, and keys.
    keys: Vec<(usize, Key)>,
    answered_by: Instant,
}

impl PendingGet {
    /// Looks for `keys`, and asks the worker for those that only it knows of.
    pub(crate) fn begin(link: Arc<Link>, what: GetWhat, keys: &[Key], wait: Duration) -> Result<Self, ClientError> {
        let wait = wait.min(Duration::from_micros(MAX_WAIT_MICROS));
        let if_missing = if wait.is_zero() { IfMissing::Miss } else { IfMissing::Wait };
        let connection = link.connection()?;
        let Glance { blocks, missing, unsure } = glance::get(&connection, what, keys, if_missing);
        let deadline = Instant::now() + wait;
        let wanted = Box::new(Wanted { link, keys: keys.to_vec(), if_missing });
        let mut get = Self { wanted, connection, what, blocks, missing, asked: None, failure: None, deadline };
        if !unsure.is_empty() {
            get.failure = get.ask(unsure).err().map(Box::new);
        }
        Ok(get)
    }

    /// Whether the result is here, so that [`PendingGet::wait`] returns at once. Does not wait.
    pub fn is_ready(&mut self) -> bool {
        self.go_on_until(Instant::now())
    }

    /// The blocks, if they come before `deadline`: one entry a key, `None` for a miss. `Err(self)` hands the pending
    /// get back when they do not.
    pub fn wait_until(mut self, deadline: Instant) -> Result<Result<Vec<Option<Block>>, ClientError>, Self> {
        if !self.go_on_until(deadline) {
            return Err(self);
        }
        Ok(match self.failure.take() {
            Some(failure) => Err(*failure),
            None => Ok(std::mem::take(&mut self.blocks)),
        })
    }

    /// The blocks: one entry a key, `None` for a miss.
    pub fn wait(self) -> Result<Vec<Option<Block>>, ClientError> {
        // It ends by its own deadlines.
        let never = Instant::now() + Duration::from_micros(2 * MAX_WAIT_MICROS) + self.connection.request_timeout();
        self.wait_until(never).unwrap_or_else(|_late| Err(ClientError::TimedOut { what: "get" }))
    }

    /// Waits for what is still missing, but not beyond `until`; whether the result is here.
    fn go_on_until(&mut self, until: Instant) -> bool {
        loop {
            while self.has_moved() {
                if !self.begin_again(until) {
                    return false;
                }
            }
            if self.failure.is_some() {
                return true;
            }
            let went_on = if self.asked.is_some() {
                self.hear(until)
            } else if !self.missing.is_empty() {
                self.look_for_missing(until)
            } else if let Some(place) = self.growing() {
                self.follow(place, until)
            } else {
                return true;
            };
            match went_on {
                Ok(true) => {}
                Ok(false) => return false,
                Err(failure) => self.failure = Some(Box::new(failure)),
            }
        }
    }

    /// Whether what went wrong is that the worker goes on in another process.
    fn has_moved(&self) -> bool {
        let is_unavailable = |failure: &ClientError| matches!(failure, ClientError::Unavailable { .. });
        self.failure.as_deref().is_some_and(is_unavailable) && self.connection.has_moved()
    }

    /// Looks there for all that was not found yet; whether there is news. What was found stays pinned where it is.
    fn begin_again(&mut self, until: Instant) -> bool {
        let Wanted { link, keys, if_missing } = &*self.wanted;
        let connection = match link.connection_until(until) {
            Ok(connection) => connection,
            Err(_) if link.is_moving() => return false,
            Err(failure) => {
                // It did not come.
                self.failure = Some(Box::new(failure));
                return true;
            }
        };
        let is_open = |block: &Option<Block>| block.as_ref().is_none_or(|block| !block.is_sealed());
        let open: Vec<usize> = (0..self.blocks.len()).filter(|place| is_open(&self.blocks[*place])).collect();
        let keys: Vec<Key> = open.iter().map(|place| keys[*place]).collect();
        let Glance { blocks, missing, unsure } = glance::get(&connection, self.what, &keys, *if_missing);
        (self.connection, self.failure, self.asked) = (connection, None, None);
        for (place, block) in open.iter().zip(blocks) {
            self.blocks[*place] = block;
        }
        let placed = |keys: Vec<(usize, Key)>| keys.into_iter().map(|(at, key)| (open[at], key)).collect::<Vec<_>>();
        self.missing = placed(missing);
        let unsure = placed(unsure);
        if !unsure.is_empty() {
            self.failure = self.ask(unsure).err().map(Box::new);
        }
        true
    }

    /// The place of a block that is wanted whole and still grows.
    fn growing(&self) -> Option<usize> {
        let grows = |block: &Option<Block>| block.as_ref().is_some_and(|block| !block.is_sealed());
        (self.what == GetWhat::Sealed).then(|| self.blocks.iter().position(grows)).flatten()
    }

    /// Waits for the worker's answer; whether it came.
    fn hear(&mut self, until: Instant) -> Result<bool, ClientError> {
        let Some(asked) = self.asked.take() else { return Ok(true) };
        let waited = match until.checked_duration_since(Instant::now()) {
            None | Some(Duration::ZERO) => self.connection.poll_for(asked.request),
            Some(_) => self.connection.wait_for(asked.request, until.min(asked.answered_by)),
        };
        match waited {
            Waited::Answer(answer) => self.take_in(&asked.keys, answer).map(|()| true),
            Waited::End => Err(self.connection.unavailable()),
            Waited::TimedOut if Instant::now() < asked.answered_by => {
                self.asked = Some(asked);
                Ok(false)
            }
            Waited::TimedOut => {
                self.connection.end();
                Err(ClientError::TimedOut { what: "get" })
            }
        }
    }

    /// Waits for a block that is not there; whether something came of it.
    fn look_for_missing(&mut self, until: Instant) -> Result<bool, ClientError> {
        let Some((place, key)) = self.missing.pop() else { return Ok(true) };
        let look = || glance::pin(&self.connection, &key).map(|block| block.map(Ok)).unwrap_or(Some(Err(())));
        let seen = look_until(&self.connection, &key, Ringer::MayBeAhead, until.min(self.deadline), look)?;
        match seen {
            Some(Ok(block)) => self.blocks[place] = Some(block),
            Some(Err(())) => self.ask(vec![(place, key)])?,
            // A miss.
            None if Instant::now() >= self.deadline => {}
            None => {
                self.missing.push((place, key));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for the block at `place` to be whole; whether something came of it.
    fn follow(&mut self, place: usize, until: Instant) -> Result<bool, ClientError> {
        let Some(block) = &self.blocks[place] else { return Ok(true) };
        let seen = block.wait_until_whole(until.min(self.deadline))?;
        match seen {
            Some(true) => return Ok(true),
            // It was lost, or another has taken its name or will.
            Some(false) => self.missing.push((place, block.key())),
            None if Instant::now() >= self.deadline => {}
            None => return Ok(false),
        }
        self.blocks[place] = None;
        Ok(true)
    }

    fn ask(&mut self, keys: Vec<(usize, Key)>) -> Result<(), ClientError> {
        let wait = self.deadline.saturating_duration_since(Instant::now());
        // Who waits for a whole block and shares memory follows it from its beginning, and so learns of its end sooner.
        let what = match &self.connection.payload {
            Payload::Mapped(_) if !wait.is_zero() => GetWhat::Readable,
            _ => self.what,
        };
        let wanted: Vec<Key> = keys.iter().map(|(_, key)| *key).collect();
        let request = self.connection.start(&Request::Get { what, wait: micros(wait), keys: &wanted }, &[])?;
        let answered_by =
            Instant::now() + wait.max(Duration::from_micros(GLANCE_MICROS)) + self.connection.request_timeout();
        self.asked = Some(Box::new(Asked { request, keys, answered_by }));
        Ok(())
    }

    /// Takes the blocks in that an answer tells of.
    fn take_in(&mut self, keys: &[(usize, Key)], answer: Answer) -> Result<(), ClientError> {
        let Self { connection, blocks, .. } = self;
        connection.decode("get", answer, |reply, payload| match reply {
            Reply::Blocks(records) if records.len() == keys.len() => {
                let (payload, mut taken) = (Arc::new(payload), 0);
                Some(keys.iter().zip(records).try_for_each(|((place, key), record)| {
                    blocks[*place] = Block::from_record(connection, *key, record, &payload, &mut taken)?;
                    Ok::<_, ClientError>(())
                }))
            }
            _ => None,
        })?
    }
}

impl Drop for PendingGet {
    fn drop(&mut self) {
        if let Some(asked) = &self.asked {
            self.connection.cancel(asked.request);
        }
    }
}
