//! What clients demand of eviction: whose their blocks are, which go last, and which go now.

use std::time::{Duration, Instant};

use chariot_pool::{SoftPinOutcome, Terms, Whose};
use chariot_types::{Key, NamespaceName};
use chariot_wire::{EvictWhat, Refusal, Reply};

use super::{End, Session};

/// Blocks that are looked at, or evicted, before others are served.
const AT_A_TIME: usize = 4096;

impl Session {
    pub(super) fn enter_namespace(&mut self, request: u64, name: &str) -> Result<(), End> {
        let name: NamespaceName =
            name.parse().map_err(|_| End::OutOfPlace { request, what: "a namespace without a proper name" })?;
        self.shared.change(|state| {
            let namespace = state.pool.namespace(&name);
            state.pool.agree(self.owner, Terms { namespace, ..Terms::default() });
            if let Some(facts) = state.sessions.get_mut(&self.owner) {
                facts.namespace = name;
            }
        });
        Ok(())
    }

    /// Soft-pins up to the first for which there is no share left.
    pub(super) fn soft_pin(&mut self, request: u64, time: u64, keys: &[Key]) {
        let (now, time) = (Instant::now(), (time != 0).then(|| Duration::from_micros(time)));
        let pinned = self.shared.change(|state| {
            keys.iter().try_fold(0, |count, key| match state.pool.soft_pin(*key, time, now) {
                SoftPinOutcome::Pinned => Ok(count + 1),
                SoftPinOutcome::Absent => Ok(count),
                SoftPinOutcome::NoShare { share, held, more } => Err((count, share, held, more)),
            })
        });
        match pinned {
            Ok(count) => self.outbound.reply(request, &Reply::Done { count }),
            Err((count, share, held, more)) => {
                let text = format!(
                    "`{held}` bytes are soft-pinned and `{share}` may be, a quarter of the pool: `{more}` bytes more are too many; `{count}` blocks of this call were pinned before"
                );
                self.refuse(request, Refusal::TooMany, &text);
            }
        }
    }

    pub(super) fn soft_unpin(&mut self, request: u64, keys: &[Key]) {
        let count = self.shared.change(|state| keys.iter().filter(|key| state.pool.soft_unpin(key)).count());
        self.outbound.reply(request, &Reply::Done { count: count as u64 });
    }

    /// Evicts in steps, between which others are served.
    pub(super) async fn evict(&mut self, request: u64, what: EvictWhat<'_>) {
        let count = match what {
            EvictWhat::Keys(keys) => {
                let now = Instant::now();
                self.shared.change(|state| keys.iter().filter(|key| state.pool.delete(key, now)).count() as u64)
            }
            EvictWhat::All => self.evict_all(Whose::Everybody).await,
            EvictWhat::Namespace(name) => {
                let named = name.parse().ok().and_then(|name| self.shared.state().pool.find_namespace(&name));
                match named {
                    Some(namespace) => self.evict_all(Whose::Namespace(namespace)).await,
                    None => 0,
                }
            }
            EvictWhat::UntilFree(bytes) => self.evict_until_free(bytes).await,
        };
        self.outbound.reply(request, &Reply::Done { count });
    }

    async fn evict_all(&self, whose: Whose) -> u64 {
        let (mut sum, mut from) = (0, Some(0));
        while let Some(place) = from {
            let (evicted, next) = self.shared.change(|state| state.pool.evict_all(whose, place, AT_A_TIME));
            sum += evicted;
            from = next;
            tokio::task::yield_now().await;
        }
        sum
    }

    async fn evict_until_free(&self, bytes: u64) -> u64 {
        let mut sum = 0;
        loop {
            let now = Instant::now();
            let evicted = self.shared.change(|state| state.pool.evict_until_free(bytes, AT_A_TIME as u64, now));
            sum += evicted;
            if evicted < AT_A_TIME as u64 {
                return sum;
            }
            tokio::task::yield_now().await;
        }
    }
}
