//! [`Session`]: one client's connection, from its hello to the taking back of all it held.

mod answer;
mod demand;
mod elsewhere;
mod end;
mod inbound;
mod inline;
mod outbound;
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

use crate::shared::Shared;
use crate::tenants::Tenants;
use crate::waiters::Nudge;
use end::End;
use inbound::Inbound;
use inline::InlineSlot;
use outbound::Outbound;
pub(crate) use stream::Stream;
use wait::Waiting;
use welcome::{Heard, hear_hello, say_farewell};

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
        let (nudges, inbox) = unbounded_channel();
        let mut session = Self {
            owner: shared.next_session(),
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
        };
        let end = session.run(hello).await;
        end.log(Some(session.owner), &session.shared);
    }

    async fn run(&mut self, hello: Heard) -> End {
        if let Err(end) = self.welcome(hello).await {
            return end;
        }
        let mut ending = self.shared.ending.subscribe();
        let mut ending = pin!(async move { drop(ending.wait_for(|is_ending| *is_ending).await) });
        loop {
            if let Err(end) = self.outbound.flush(&self.stream, &self.shared, self.owner).await {
                return end;
            }
            let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
            let result = tokio::select! {
                biased;
                () = &mut ending => Err(End::Ending),
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
        self.outbound.reply(end.request(), &Reply::Refused { refusal, text: &text });
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
