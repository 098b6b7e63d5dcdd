//! How to connect, and how long to wait.

use std::time::{Duration, Instant};

use crate::ClientError;

use chariot_types::{NamespaceName, Token};

/// How a client reaches its worker.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How long connecting, with the handshake, may take.
    pub timeout: Duration,
    /// How long a call that does not wait for anything may take; a worker that is slower is given up.
    pub request_timeout: Duration,
    /// Which way to the worker.
    pub transport: Transport,
    /// What the client calls itself, for `dscli status`.
    pub name: String,
    /// Whose the blocks are that it puts.
    pub namespace: NamespaceName,
    /// By what it shows whose it is, where the worker has tenants.
    pub token: Option<Token>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(2),
            transport: Transport::Auto,
            name: String::new(),
            namespace: NamespaceName::default(),
            token: None,
        }
    }
}

/// Which way to the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transport {
    /// Through shared memory when the worker is on this host, else over TCP.
    #[default]
    Auto,
    /// Over TCP always.
    Tcp,
}

/// What a put does when the pool is full of blocks that cannot be evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// Fails at once with [`ClientError::NoRoom`].
    Now,
    /// Waits for room until then.
    Until(Instant),
}

/// What a get does about blocks that are not there yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// They are misses.
    No,
    /// Waits for them until then.
    Until(Instant),
}

impl Wait {
    pub(crate) fn left(self) -> Duration {
        match self {
            Self::No => Duration::ZERO,
            Self::Until(deadline) => deadline.saturating_duration_since(Instant::now()),
        }
    }
}

/// For so long a request over TCP waits at the worker, which listens to nothing else of this client meanwhile.
const HELD_UP: Duration = Duration::from_millis(10);

/// Before it asks again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

impl Room {
    /// Asks over TCP, a little at a time: what this client says meanwhile may be what makes the room.
    pub(crate) fn wait_inline<T>(self, ask: impl Fn(Duration) -> Result<T, ClientError>) -> Result<T, ClientError> {
        let [mut pause, longest] = PAUSES;
        loop {
            let left = self.left();
            match ask(left.min(HELD_UP)) {
                Err(ClientError::NoRoom { .. }) if left > HELD_UP => std::thread::sleep(pause.min(self.left())),
                answer => return answer,
            }
            pause = (pause * 2).min(longest);
        }
    }

    pub(crate) fn left(self) -> Duration {
        match self {
            Self::Now => Duration::ZERO,
            Self::Until(deadline) => deadline.saturating_duration_since(Instant::now()),
        }
    }
}
