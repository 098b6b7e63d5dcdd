//! [`Gate`]: a network between a worker and etcd that can be cut and can fall silent.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A network between a worker and etcd. It ends when it is dropped.
pub(crate) struct Gate {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Cut,
    Silent,
}

impl Gate {
    /// To etcd at `target`.
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, told) = watch::channel(State::Open);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(carry(stream, target.clone(), told.clone()));
            }
        });
        Self { address, state, task }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends all connections, and those to come at once.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Carries nothing any more, and says so to nobody.
    pub(crate) fn fall_silent(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Carries connections to come; those that were cut or fell silent stay so.
    pub(crate) fn open(&self) {
        self.state.send_replace(State::Open);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut near: TcpStream, target: String, mut told: watch::Receiver<State>) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    let state = tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far), if *told.borrow() == State::Open => return,
        state = told.wait_for(|state| *state != State::Open) => *state.unwrap(),
    };
    if state == State::Silent {
        std::future::pending().await
    }
}
