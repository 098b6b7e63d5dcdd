//! [`Session`]: one client's connection, from its hello to the taking back of all it held.

mod answer;
mod demand;
mod elsewhere;
mod end;
mod inbound;
mod inline;
mod outbound;
mod pause;
mod stream;
mod wait;
mod welcome;

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use chariot_pool::{BlockId, OwnerId, Pinned};
use chariot_wire::{Refusal, Reply};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::handover::Course;
use crate::shared::Shared;
use crate::tenants::Tenants;
use crate::waiters::Nudge;
use end::End;
use inbound::Inbound;
use inline::InlineSlot;
use outbound::Outbound;
pub(crate) use stream::Stream;
use wait::Waiting;
use welcome::{hear_hello, say_farewell};

/// One client's connection.
pub(crate) struct Session {
    shared: Arc<Shared>,
    owner: OwnerId,
    stream: Stream,
    inbound: Inbound,
    outbound: Outbound,
    nudges: UnboundedSender<Nudge>,
    inbox: UnboundedReceiver<Nudge>,
    waiting: HashMap<u64, Waiting>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// TCP only: growing blocks that the client follows.
    followed: HashMap<BlockId, Pinned>,
    /// TCP only: growing blocks that the client writes.
    slots: HashMap<u64, InlineSlot>,
}

impl Session {
    fn new(shared: Arc<Shared>, owner: OwnerId, stream: Stream, inbound: Inbound) -> Self {
        let (nudges, inbox) = unbounded_channel();
        Self {
            owner,
            shared,
            stream,
            inbound,
            outbound: Outbound::default(),
            nudges,
            inbox,
            waiting: HashMap::new(),
            deadlines: BTreeSet::new(),
            followed: HashMap::new(),
            slots: HashMap::new(),
        }
    }

    /// Lets a client in and serves it until it goes, breaks a rule, or the worker ends; then takes back what it held.
    pub(crate) async fn serve(tenants: &Tenants, stream: Stream) {
        let mut inbound = Inbound::default();
        let heard = hear_hello(tenants, &stream, &mut inbound).await;
        let (hello, shared) = match heard {
            Ok(heard) => heard,
            Err(end) => {
                say_farewell(&stream, &end).await;
                return end.log(None, tenants.first());
            }
        };
        let mut session = Self::new(shared.clone(), shared.next_session(), stream, inbound);
        let end = match session.welcome(hello).await {
            Ok(()) => session.run().await,
            Err(end) => end,
        };
        end.log(Some(session.owner), &session.shared);
    }

    async fn run(&mut self) -> End {
        let mut ending = self.shared.ending.subscribe();
        let mut ending = pin!(async move { drop(ending.wait_for(|is_ending| *is_ending).await) });
        let (shared, is_local) = (self.shared.clone(), !self.stream.is_inline());
        let mut pause = pin!(shared.pause());
        loop {
            if let Err(end) = self.outbound.flush(&self.stream, &self.shared, self.owner).await {
                self.say_farewell(&end).await;
                return end;
            }
            let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
            let result = tokio::select! {
                biased;
                () = &mut ending => Err(End::Ending),
                () = &mut pause => match self.stay_between_requests().await {
                    Course::Gone if is_local => return End::GoesOn,
                    Course::Gone => Err(End::Moved),
                    Course::Serving | Course::Pausing(_) => {
                        pause.set(shared.pause());
                        Ok(())
                    }
                },
                Some(nudge) = self.inbox.recv() => {
                    self.nudged(nudge);
                    Ok(())
                }
                () = sleep_until(deadline) => {
                    self.time_out();
                    Ok(())
                }
                readable = self.stream.readable() => match readable {
                    Ok(()) => self.receive().await,
                    Err(source) => Err(End::Io { source }),
                },
            };
            if let Err(end) = result {
                // What went wrong in what is left here did not.
                let end = if self.shared.is_gone() { End::Moved } else { end };
                self.say_farewell(&end).await;
                return end;
            }
        }
    }

    /// Reads what has arrived, and does what it asks for.
    async fn receive(&mut self) -> Result<(), End> {
        // Taken out, because what it holds is read while the session changes.
        let mut inbound = std::mem::take(&mut self.inbound);
        let result = self.receive_into(&mut inbound).await;
        self.inbound = inbound;
        result
    }

    async fn receive_into(&mut self, inbound: &mut Inbound) -> Result<(), End> {
        if !inbound.fill(&self.stream)? {
            return Ok(());
        }
        while let Some((header, body)) = inbound.next_frame()? {
            self.answer(header, body, inbound).await?;
            self.outbound.flush_if_large(&self.stream, &self.shared, self.owner).await?;
        }
        Ok(())
    }

    /// Tells the client why it is shown out, if it is to blame or the worker ends.
    async fn say_farewell(&mut self, end: &End) {
        let Some((refusal, text)) = end.farewell() else { return };
        let reply = Reply::Refused { refusal, text: &text };
        if matches!(end, End::Moved) {
            self.outbound.say_last(0, &reply, &self.stream).await;
            return self.stream.hang_up().await;
        }
        self.outbound.reply(end.request(), &reply);
        let _ = self.outbound.flush(&self.stream, &self.shared, self.owner).await;
    }

    fn refuse(&mut self, request: u64, refusal: Refusal, text: &str) {
        self.outbound.reply(request, &Reply::Refused { refusal, text });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.shared.change(|state| {
            for (request, waiting) in &waiting {
                waiting.strike(&mut state.waiters, self.owner, *request);
            }
            state.sessions.remove(&self.owner);
            state.pool.drop_owner(self.owner);
        });
        waiting.values().for_each(|waiting| self.want_no_more_of(waiting));
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
