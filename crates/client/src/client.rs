//! [`Client`]: what a program holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chariot_pool::Prefix;
use chariot_types::{Extent, Key, NamespaceName, WorkerAddress};
use chariot_wire::limits::{MAX_BATCH, MAX_WAIT_MICROS};
use chariot_wire::{
    CreateInlineRecord, CreateRecord, EvictWhat, GetWhat, InlineRecord, PutRecord, Reply, Request, Status, micros,
};

use crate::connection::{Connection, Payload};
use crate::copier::{Copier, Piece};
use crate::glance::{self, IfMissing};
use crate::keeper::Link;
use crate::question::Question;
use crate::{Block, ClientError, ConnectOptions, GrowingBlock, PendingExists, PendingGet, PendingPrefix, Room, Wait};

/// How long a worker may take to evict millions of blocks.
const EVICTING: Duration = Duration::from_secs(60);

/// A client of one data worker. Cheap to clone; all clones share one connection.
///
/// Calls of one client are carried out in order: what it put, it finds.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Keeping>,
}

/// What all clones share. Lets the keeper go with the last of them.
struct Keeping {
    link: Arc<Link>,
    copier: Copier,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// A block to put.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// The block's key.
    pub key: Key,
    /// The key of the block before this one in its prefix chain, which is evicted after it.
    pub parent: Option<Key>,
    /// The block's bytes.
    pub bytes: &'a [u8],
    /// How long the block may live; `None` for as long as there is room.
    pub time_to_live: Option<Duration>,
}

/// A block to write piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Reserve {
    /// The block's key.
    pub key: Key,
    /// The key of the block before this one in its prefix chain, which is evicted after it.
    pub parent: Option<Key>,
    /// Bytes of the whole block.
    pub len: u64,
    /// How long the block may live after it is sealed; `None` for as long as there is room.
    pub time_to_live: Option<Duration>,
}

/// What to evict of what a worker holds. Others of its cluster keep theirs.
#[derive(Clone, Copy, Debug)]
pub enum Evict<'a> {
    /// These blocks, whether others follow them in their chains or not. Who reads them reads on.
    Keys(&'a [Key]),
    /// All of a namespace's blocks that nobody reads or writes.
    Namespace(&'a NamespaceName),
    /// All blocks that nobody reads or writes.
    All,
    /// As many as it takes until so many bytes are free: those first that would go next for want of room.
    UntilFree(u64),
}

impl Client {
    /// Connects, and fails when the worker cannot be reached. Should it go away later, the client finds it again.
    pub fn connect(address: &WorkerAddress, options: ConnectOptions) -> Result<Self, ClientError> {
        let link = Arc::new(Link::new(address, options).map_err(|source| ClientError::System { source })?);
        link.connect()?;
        Self::keep(link)
    }

    /// A client of a worker that may not be there yet: calls fail with [`ClientError::Unavailable`] until it is.
    pub fn connect_later(address: &WorkerAddress, options: ConnectOptions) -> Result<Self, ClientError> {
        let link = Arc::new(Link::new(address, options).map_err(|source| ClientError::System { source })?);
        Self::keep(link)
    }

    fn keep(link: Arc<Link>) -> Result<Self, ClientError> {
        link.keep().map_err(|source| ClientError::System { source })?;
        Ok(Self { shared: Arc::new(Keeping { link, copier: Copier::default() }) })
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.connection_now().is_ok()
    }

    /// Whether blocks are read and written through shared memory; `false` over TCP or while there is no connection.
    pub fn is_local(&self) -> bool {
        self.connection_now().is_ok_and(|connection| matches!(connection.payload, Payload::Mapped(_)))
    }

    /// Which of `keys` are there, whole: one entry a key.
    pub fn exists(&self, keys: &[Key]) -> Result<Vec<bool>, ClientError> {
        check_batch(keys.len())?;
        self.wherever_it_goes(|connection| ask_exists(connection.clone(), keys)?.wait())
    }

    /// Which of `keys` are there, whole, as far as this client sees by itself: without a message or a system call. `None`
    /// when only the worker knows, or it is not on this host.
    pub fn exists_at_a_glance(&self, keys: &[Key]) -> Result<Option<Vec<bool>>, ClientError> {
        check_batch(keys.len())?;
        Ok(glance::exists(&*self.connection_now()?, keys))
    }

    /// Asks which of `keys` are there, whole, to be told later.
    pub fn start_exists(&self, keys: &[Key]) -> Result<PendingExists, ClientError> {
        check_batch(keys.len())?;
        ask_exists(self.connection_now()?, keys)
    }

    /// Which of `keys` this worker is seen to hold itself, whole: one entry a key. For those who would write them: it costs
    /// no message to a client on the worker's host, whatever other workers of the cluster hold. A block that has just
    /// become whole may not be seen yet, and over TCP others' blocks count as well.
    pub fn holds(&self, keys: &[Key]) -> Result<Vec<bool>, ClientError> {
        check_batch(keys.len())?;
        let connection = self.connection_now()?;
        glance::holds(&connection, keys).map_or_else(|| self.exists(keys), Ok)
    }

    /// How many of `keys` are there, from the first on and without a gap.
    pub fn longest_prefix(&self, keys: &[Key]) -> Result<Prefix, ClientError> {
        check_batch(keys.len())?;
        self.wherever_it_goes(|connection| ask_longest_prefix(connection.clone(), keys)?.wait())
    }

    /// How many of `keys` are there, from the first on and without a gap, as far as this client sees by itself: without a
    /// message or a system call. `None` when only the worker knows, or it is not on this host.
    pub fn longest_prefix_at_a_glance(&self, keys: &[Key]) -> Result<Option<Prefix>, ClientError> {
        check_batch(keys.len())?;
        Ok(glance::longest_prefix(&*self.connection_now()?, keys))
    }

    /// Asks how many of `keys` are there, from the first on and without a gap, to be told later: for those who must not
    /// wait. What the index shows is answered at once.
    pub fn start_longest_prefix(&self, keys: &[Key]) -> Result<PendingPrefix, ClientError> {
        check_batch(keys.len())?;
        ask_longest_prefix(self.connection_now()?, keys)
    }

    /// Puts whole blocks: one copy of the bytes, and one message that is not waited for (over TCP, one round trip).
    /// A block that is there already stays as it is. Returns once the bytes are copied; this client finds them from
    /// then on, others within milliseconds, and for certain after [`flush`](Self::flush).
    pub fn put(&self, blocks: &[Put<'_>], room: Room) -> Result<(), ClientError> {
        check_batch(blocks.len())?;
        self.wherever_it_goes(|connection| self.put_over(connection, blocks, room))
    }

    fn put_over(&self, connection: &Arc<Connection>, blocks: &[Put<'_>], room: Room) -> Result<(), ClientError> {
        let records =
            blocks.iter().map(|put| InlineRecord::new(put.key, put.parent, put.bytes.len() as u64, put.time_to_live));
        let Payload::Mapped(local) = &connection.payload else {
            let records: Vec<_> = records.collect();
            let parts: Vec<_> = blocks.iter().map(|put| put.bytes).collect();
            let put = room.wait_inline(|wait| {
                let request = Request::PutInline { wait: micros(wait).min(MAX_WAIT_MICROS), blocks: &records };
                connection.call("put", &request, &parts, wait, done)
            });
            return put.map(drop).map_err(with_size(&parts));
        };
        let extents = connection.take_room(&rooms(blocks.iter().map(|put| put.bytes.len() as u64))?, room)?;
        let mut pieces = Vec::with_capacity(blocks.len());
        for (put, extent) in blocks.iter().zip(&extents) {
            pieces.push(Piece { source: put.bytes, target: local.arena().slice(*extent)?.cast().as_ptr() });
        }
        // SAFETY: the extents lie in the mapping, hold the bytes, and were granted to this connection alone, each once.
        unsafe { self.shared.copier.copy(&pieces) };
        let records: Vec<_> = records.zip(extents).map(|(block, extent)| PutRecord::new(block, extent)).collect();
        connection.announce(&records)
    }

    /// Publishes blocks that will be written piece by piece. A block whose key is taken can be written all the same,
    /// and is dropped when it is sealed.
    pub fn reserve(&self, blocks: &[Reserve], room: Room) -> Result<Vec<GrowingBlock>, ClientError> {
        check_batch(blocks.len())?;
        self.wherever_it_goes(|connection| reserve_over(connection, blocks, room))
    }

    /// Returns once everything that this client put, advanced and sealed before can be found by all.
    pub fn flush(&self) -> Result<(), ClientError> {
        self.call("flush", &Request::Flush, done).map(drop)
    }

    /// Pins whole blocks: one entry a key, `None` for a miss.
    pub fn get(&self, keys: &[Key], wait: Wait) -> Result<Vec<Option<Block>>, ClientError> {
        self.start(GetWhat::Sealed, keys, wait)?.wait()
    }

    /// Pins whole blocks, as far as this client sees by itself: without a message or a system call. `None` when only the
    /// worker knows of one of them, or it is not on this host.
    pub fn get_at_a_glance(&self, keys: &[Key]) -> Result<Option<Vec<Option<Block>>>, ClientError> {
        check_batch(keys.len())?;
        let glance = glance::get(&self.connection_now()?, GetWhat::Sealed, keys, IfMissing::Miss);
        Ok(glance.unsure.is_empty().then_some(glance.blocks))
    }

    /// Pins blocks that may still grow: one entry a key, `None` for a miss.
    pub fn follow(&self, keys: &[Key], wait: Wait) -> Result<Vec<Option<Block>>, ClientError> {
        self.start(GetWhat::Readable, keys, wait)?.wait()
    }

    /// Asks for whole blocks, to be collected later.
    pub fn start_get(&self, keys: &[Key], wait: Wait) -> Result<PendingGet, ClientError> {
        self.start(GetWhat::Sealed, keys, wait)
    }

    /// Withdraws blocks; returns how many of `keys` there were. Readers keep what they have pinned.
    pub fn delete(&self, keys: &[Key]) -> Result<usize, ClientError> {
        check_batch(keys.len())?;
        self.call("delete", &Request::Delete(keys), done).map(|count| count as usize)
    }

    /// Keeps blocks, each with all that leads up to it in its chain, until all that is not soft-pinned has been evicted: for
    /// `time`, or until they are [unpinned](Self::soft_unpin). Returns how many of `keys` there were. What is soft-pinned can
    /// be deleted, and expires, and the pin goes with it. Refused for more than a quarter of the pool.
    pub fn soft_pin(&self, keys: &[Key], time: Option<Duration>) -> Result<usize, ClientError> {
        check_batch(keys.len())?;
        let time = time.map_or(0, |time| micros(time).max(1));
        self.call("soft pin", &Request::SoftPin { time, keys }, done).map(|count| count as usize)
    }

    /// Ends soft pins, whoever made them; returns how many of `keys` there were pinned.
    pub fn soft_unpin(&self, keys: &[Key]) -> Result<usize, ClientError> {
        check_batch(keys.len())?;
        self.call("soft unpin", &Request::SoftUnpin(keys), done).map(|count| count as usize)
    }

    /// Evicts blocks; returns how many went.
    pub fn evict(&self, what: Evict<'_>) -> Result<u64, ClientError> {
        let what = match what {
            Evict::Keys(keys) => {
                check_batch(keys.len())?;
                EvictWhat::Keys(keys)
            }
            Evict::Namespace(name) => EvictWhat::Namespace(name.as_str()),
            Evict::All => EvictWhat::All,
            Evict::UntilFree(bytes) => EvictWhat::UntilFree(bytes),
        };
        self.wherever_it_goes(|connection| connection.call("evict", &Request::Evict(what), &[], EVICTING, done))
    }

    /// Has the worker carry these blocks, whole or as they grow, to the worker at `to`, before anyone asks for them there.
    /// Does not wait. What the worker does not have is passed over, and so is all of it when there is no such worker in
    /// its cluster: whoever needs the blocks finds them without this, only later.
    pub fn forward(&self, to: &WorkerAddress, keys: &[Key]) -> Result<(), ClientError> {
        check_batch(keys.len())?;
        self.connection_now()?.tell(&Request::Forward { to: &to.to_string(), keys })
    }

    /// How the worker is.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.call("status", &Request::Status, |reply, _| match reply {
            Reply::StatusIs(json) => serde_json::from_slice(json).ok(),
            _ => None,
        })
    }

    fn start(&self, what: GetWhat, keys: &[Key], wait: Wait) -> Result<PendingGet, ClientError> {
        check_batch(keys.len())?;
        PendingGet::begin(self.shared.link.clone(), what, keys, wait.left())
    }

    fn call<T>(
        &self,
        what: &'static str,
        request: &Request<'_>,
        decode: impl Fn(Reply<'_>, Vec<u8>) -> Option<T>,
    ) -> Result<T, ClientError> {
        self.wherever_it_goes(|connection| connection.call(what, request, &[], Duration::ZERO, &decode))
    }

    /// Makes a call, and makes it again where the worker goes on in another process meanwhile: what was done there already
    /// is then found done.
    fn wherever_it_goes<T>(&self, call: impl Fn(&Arc<Connection>) -> Result<T, ClientError>) -> Result<T, ClientError> {
        loop {
            let connection = self.connection()?;
            match call(&connection) {
                Err(ClientError::Unavailable { .. }) if connection.has_moved() => {}
                answer => return answer,
            }
        }
    }

    fn connection(&self) -> Result<Arc<Connection>, ClientError> {
        self.shared.link.connection()
    }

    fn connection_now(&self) -> Result<Arc<Connection>, ClientError> {
        self.shared.link.connection_now()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("is_connected", &self.is_connected()).finish_non_exhaustive()
    }
}

fn reserve_over(
    connection: &Arc<Connection>,
    blocks: &[Reserve],
    room: Room,
) -> Result<Vec<GrowingBlock>, ClientError> {
    let slots: Vec<u64> = blocks.iter().map(|_| connection.next_slot()).collect();
    let record = |block: &Reserve| InlineRecord::new(block.key, block.parent, block.len, block.time_to_live);
    let len = |block: &Reserve| usize::try_from(block.len).map_err(|_| too_large(block.len));
    let Payload::Mapped(local) = &connection.payload else {
        let lens: Vec<usize> = blocks.iter().map(len).collect::<Result<_, _>>()?;
        let records: Vec<_> =
            blocks.iter().zip(&slots).map(|(block, slot)| CreateInlineRecord::new(*slot, record(block))).collect();
        room.wait_inline(|wait| {
            let request = Request::CreateInline { wait: micros(wait).min(MAX_WAIT_MICROS), blocks: &records };
            connection.call("reserve", &request, &[], wait, done)
        })?;
        let growing = blocks.iter().zip(slots).zip(lens);
        return Ok(growing
            .map(|((block, slot), len)| GrowingBlock::inline(connection.clone(), block.key, slot, len))
            .collect());
    };
    let extents = connection.take_room(&rooms(blocks.iter().map(|block| block.len))?, room)?;
    let placed = || blocks.iter().zip(&slots).zip(&extents);
    let records: Vec<_> = placed()
        .map(|((block, slot), extent)| CreateRecord::new(*slot, PutRecord::new(record(block), *extent)))
        .collect();
    if let Some(board) = local.board() {
        extents.iter().for_each(|extent| board.begin(extent.offset));
    }
    connection.tell(&Request::Create(&records))?;
    placed()
        .map(|((block, slot), extent)| {
            Ok(GrowingBlock::mapped(connection.clone(), block.key, *slot, len(block)?, *extent))
        })
        .collect()
}

fn ask_exists(connection: Arc<Connection>, keys: &[Key]) -> Result<PendingExists, ClientError> {
    if let Some(exists) = glance::exists(&connection, keys) {
        return Ok(Question::answered(connection, exists));
    }
    let asked = keys.len();
    Question::ask(connection, "exists", &Request::Exists(keys), move |reply| match reply {
        Reply::Found(flags) if flags.len() == asked => Some(flags.iter().map(|flag| *flag == 1).collect()),
        _ => None,
    })
}

fn ask_longest_prefix(connection: Arc<Connection>, keys: &[Key]) -> Result<PendingPrefix, ClientError> {
    if let Some(prefix) = glance::longest_prefix(&connection, keys) {
        return Ok(Question::answered(connection, prefix));
    }
    let asked = keys.len() as u64;
    Question::ask(connection, "longest prefix", &Request::LongestPrefix(keys), move |reply| match reply {
        Reply::PrefixIs { sealed, present } if sealed <= present && present <= asked => {
            Some(Prefix { sealed: sealed as usize, present: present as usize })
        }
        _ => None,
    })
}

fn done(reply: Reply<'_>, _payload: Vec<u8>) -> Option<u64> {
    match reply {
        Reply::Done { count } => Some(count),
        _ => None,
    }
}

fn check_batch(count: usize) -> Result<(), ClientError> {
    if count <= MAX_BATCH { Ok(()) } else { Err(ClientError::BatchTooLarge { count }) }
}

fn rooms(lens: impl Iterator<Item = u64>) -> Result<Vec<u64>, ClientError> {
    lens.map(|len| Extent::room_for(len).ok_or_else(|| too_large(len))).collect()
}

fn too_large(asked: u64) -> ClientError {
    ClientError::TooLarge { asked, text: "no machine has that much memory".to_owned() }
}

fn with_size(parts: &[&[u8]]) -> impl FnOnce(ClientError) -> ClientError {
    let size = parts.iter().map(|part| part.len() as u64).sum();
    move |error| match error {
        ClientError::NoRoom { .. } => ClientError::NoRoom { asked: size },
        ClientError::TooLarge { text, .. } => ClientError::TooLarge { asked: size, text },
        other => other,
    }
}
