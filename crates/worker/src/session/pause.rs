//! Going on in another process: a session that stays between two requests there, and goes on with the rest here.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use chariot_wire::{Refusal, Reply};
use rustix::net::Shutdown;

use super::inbound::Inbound;
use super::{Session, Stream};
use crate::handover::{Course, PausedSession};
use crate::shared::Shared;

impl Session {
    /// Says where this session is, and stays there until the worker serves again or is gone.
    pub(super) async fn stay_between_requests(&mut self) -> Course {
        let mut courses = self.shared.course.subscribe();
        loop {
            let course = *courses.borrow_and_update();
            if !matches!(course, Course::Pausing(_)) {
                return course;
            }
            if let Some(paused) = self.paused() {
                let pausing = self.shared.pausing.lock().clone();
                // Who does not wait for it any more goes on without.
                let _ = pausing.map(|pausing| pausing.send(paused));
            }
            if courses.wait_for(|now| *now != course).await.is_err() {
                return Course::Gone;
            }
        }
    }

    fn paused(&self) -> Option<PausedSession> {
        let Stream::Unix(stream) = &self.stream else { return None };
        let facts = self.shared.state().sessions.get(&self.owner).cloned()?;
        let socket = stream.as_fd().try_clone_to_owned().ok()?;
        Some(PausedSession { owner: self.owner, facts, socket, received: self.inbound.received().to_vec() })
    }

    /// Goes on with the session of a client that another process has served: does what the client says until it has
    /// heard that it is to connect again, and keeps what it holds until it has let go of all of it. It hears nothing else.
    pub(crate) async fn go_on(shared: Arc<Shared>, paused: PausedSession) {
        let PausedSession { owner, facts, socket, received } = paused;
        let socket = UnixStream::from(socket);
        let stream = socket.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(socket));
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // What it holds stays held: nobody can tell any more when it lets go.
                tracing::error!(%error, session = owner.0, "cannot go on with a client");
                return;
            }
        };
        let mut session = Self::new(shared, owner, Stream::Unix(stream), Inbound::of(received));
        session.shared.change(|state| state.sessions.insert(owner, facts));
        let text = "the worker goes on in another process";
        let farewell = Reply::Refused { refusal: Refusal::Moved, text };
        session.outbound.say_last(0, &farewell, &session.stream).await;
        if let Stream::Unix(stream) = &session.stream {
            let _ = rustix::net::shutdown(stream, Shutdown::Write);
        }
        session.outbound.fall_silent();
        let end = session.run().await;
        end.log(Some(owner), &session.shared);
    }
}
