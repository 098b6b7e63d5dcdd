//! [`Clients`]: those who put, grow, read, forward and delete blocks, as sessions would for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chariot_pool::{CreateRecord, GrantAsk, PinWhat, PutRecord, SlotId, Teller};
use chariot_types::{Extent, Key};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::{Interest, Sighting};
use super::world::{Host, PLACES, Places, World};
use crate::waiters::{Inbox, Topic};

/// Later than its deadline by more than this, an answer is late: virtual time does not pass by itself.
const LATE: Duration = Duration::from_millis(1);

/// A get that does not wait gives others this long, as a session does.
const GLANCE: Duration = Duration::from_micros(chariot_wire::limits::GLANCE_MICROS);

const COUNT: usize = 12;

/// All blocks that there ever are.
pub(super) fn names() -> impl Iterator<Item = String> {
    (0..COUNT).map(name)
}

fn name(number: usize) -> String {
    format!("block {number}")
}

/// What a block holds, by its name: up to a third of an arena.
pub(super) fn content(name: &str) -> &'static [u8] {
    static CONTENTS: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
        let mut random = fastrand::Rng::with_seed(7);
        let mut content = || {
            let mut bytes = vec![0; random.usize(..80_000)];
            random.fill(&mut bytes);
            bytes
        };
        names().map(|name| (name, content())).collect()
    });
    &CONTENTS[name]
}

/// Clients at work.
pub(super) struct Clients {
    at_work: JoinSet<Vec<String>>,
    is_over: Arc<AtomicBool>,
}

struct Client {
    random: fastrand::Rng,
    places: Places,
    trace: Vec<String>,
}

impl Clients {
    pub(super) fn start(world: &World, mut random: fastrand::Rng) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut at_work = JoinSet::new();
        for _ in 0..4 {
            let mut client = Client { random: random.fork(), places: world.places.clone(), trace: Vec::new() };
            let is_over = is_over.clone();
            at_work.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    client.act().await;
                    sleep(Duration::from_millis(client.random.u64(..200))).await;
                }
                client.trace
            });
        }
        Self { at_work, is_over }
    }

    /// Returns when all have finished what they began, with what each saw.
    pub(super) async fn end(mut self) -> Vec<Vec<String>> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut traces = Vec::new();
        while let Some(trace) = self.at_work.join_next().await {
            traces.push(trace.unwrap());
        }
        traces
    }
}

impl Client {
    async fn act(&mut self) {
        let name = name(self.random.usize(..COUNT));
        let Some(host) = self.places.at(self.random.usize(..PLACES)) else { return };
        let key = Key::of_name(name.as_bytes());
        match self.random.u32(..10) {
            0 | 1 => put(&host, &key, content(&name)),
            2 => self.grow(&host, &key, content(&name)).await,
            3 => drop(host.shared.change(|state| state.pool.delete(&key, std::time::Instant::now()))),
            4 => {
                if let Some(to) = self.places.at(self.random.usize(..PLACES)) {
                    host.node.forward(&to.member.address, &[key]);
                }
            }
            chance => {
                let wait = if chance < 8 { Duration::ZERO } else { Duration::from_millis(self.random.u64(..20_000)) };
                let begun = Instant::now();
                let got = get(&host, &key, wait).await;
                let most = if wait.is_zero() { GLANCE } else { wait };
                assert!(begun.elapsed() <= most + LATE, "{name}: {:?} instead of {most:?}", begun.elapsed());
                self.trace.push(format!("{:?} {name} {:?}", begun.elapsed(), got.as_ref().map(Vec::len)));
                assert!(got.is_none_or(|bytes| bytes == content(&name)), "{name}: wrong bytes");
            }
        }
    }

    /// Writes a block piece by piece, and sometimes gives it up.
    async fn grow(&mut self, host: &Host, key: &Key, bytes: &[u8]) {
        let (shared, owner, slot) = (&host.shared, host.shared.next_session(), SlotId(1));
        let now = std::time::Instant::now();
        let len = bytes.len() as u64;
        let Some(extent) = shared.change(|state| {
            let room = Extent::room_for(len)?;
            let extent = state.pool.grant(owner, GrantAsk { min: room, want: room }, now).ok()?;
            let (key, teller) = (*key, Teller::Pool);
            let record = CreateRecord { slot, key, parent: None, extent, len, time_to_live: None, teller };
            state.pool.create(owner, record, now).unwrap();
            Some(extent)
        }) else {
            return shared.change(|state| state.pool.drop_owner(owner));
        };
        let gives_up_at = if self.random.u32(..4) == 0 { self.random.usize(..=bytes.len()) } else { usize::MAX };
        let mut written = 0;
        while written < bytes.len() && written < gives_up_at {
            sleep(Duration::from_millis(self.random.u64(..300))).await;
            let more = (bytes.len() - written).min(self.random.usize(1..30_000));
            write(host, Extent { offset: extent.offset + written as u64, len: more as u64 }, &bytes[written..][..more]);
            written += more;
            shared.change(|state| state.pool.advance(owner, slot, written as u64)).unwrap();
        }
        shared.change(|state| {
            if written == bytes.len() {
                state.pool.seal(owner, slot, std::time::Instant::now()).unwrap();
            }
            state.pool.drop_owner(owner);
        });
    }
}

fn write(host: &Host, extent: Extent, bytes: &[u8]) {
    // SAFETY: granted to this client, and not readable yet.
    unsafe { host.shared.arena.bytes_mut(extent) }.unwrap().copy_from_slice(bytes);
}

fn put(host: &Host, key: &Key, bytes: &[u8]) {
    let (shared, owner, now) = (&host.shared, host.shared.next_session(), std::time::Instant::now());
    let len = bytes.len() as u64;
    let room = Extent::room_for(len).unwrap();
    let granted = shared.change(|state| state.pool.grant(owner, GrantAsk { min: room, want: room }, now));
    if let Ok(extent) = granted {
        write(host, Extent { offset: extent.offset, len }, bytes);
        let record = PutRecord { key: *key, parent: None, extent, len, time_to_live: None };
        shared.change(|state| state.pool.put(owner, record, now)).unwrap();
    }
    shared.change(|state| state.pool.drop_owner(owner));
}

/// Reads a whole block, as a session does it.
pub(super) async fn get(host: &Host, key: &Key, wait: Duration) -> Option<Vec<u8>> {
    let Host { shared, node, .. } = host;
    let (owner, key) = (shared.next_session(), *key);
    let (nudges, mut inbox) = unbounded_channel();
    let (interest, wait) = if wait.is_zero() { (Interest::Glances, GLANCE) } else { (Interest::Waits, wait) };
    let deadline = Instant::now() + wait;
    let mut is_wanted = false;
    let mut is_settled = false;
    let found = loop {
        let looked = shared.change(|state| {
            let now = std::time::Instant::now();
            if let Some(pinned) = state.pool.pin(owner, &key, PinWhat::Sealed, now) {
                return Ok(pinned);
            }
            let inbox = || Inbox::Session(nudges.clone());
            state.waiters.strike(Topic::Sealed(key), owner.0, 0);
            state.waiters.enrol(Topic::Sealed(key), owner.0, 0, inbox());
            if interest == Interest::Glances {
                state.waiters.strike(Topic::Elsewhere(key), owner.0, 0);
                state.waiters.enrol(Topic::Elsewhere(key), owner.0, 0, inbox());
            }
            Err(match state.pool.lookup(&key, now) {
                chariot_pool::Lookup::Miss => Sighting::Absent,
                _ => Sighting::Growing,
            })
        });
        match looked {
            Ok(pinned) => break Some(pinned),
            Err(_) if is_settled => break None,
            Err(sighting) if !is_wanted => {
                node.want([(key, sighting)], interest);
                is_wanted = true;
            }
            Err(_) => {}
        }
        match timeout_at(deadline, inbox.recv()).await {
            Ok(nudge) => is_settled = matches!(nudge, Some((_, Topic::Elsewhere(_)))),
            Err(_) => break None,
        }
    };
    if is_wanted {
        node.unwant([key], interest);
    }
    let bytes = found.map(|pinned| {
        let extent = Extent { offset: pinned.extent.offset, len: pinned.len };
        // SAFETY: the bytes of a whole block that is pinned.
        unsafe { shared.arena.bytes(extent) }.unwrap().to_vec()
    });
    shared.change(|state| {
        state.waiters.strike(Topic::Sealed(key), owner.0, 0);
        state.waiters.strike(Topic::Elsewhere(key), owner.0, 0);
        state.pool.drop_owner(owner);
    });
    bytes
}
