//! What TCP sockets that carry blocks have in common, whoever opens them.

use std::os::fd::AsFd;

use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};

/// The congestion control that sends by a timer, and the one that is used in its place.
const PACED: &str = "bbr";
const UNPACED: &str = "cubic";

/// Takes a socket that is not connected yet from BBR to CUBIC, or one that listens, and with it what it accepts. Any other
/// congestion control that the system was told to use stays.
///
/// BBR sends at the rate that it has seen, by a timer. Connections that pause between bursts, as those do that carry
/// blocks, have shown it too low a rate, and all of them pay for the timer: transfers took up to twice the time
/// (`docs/perf.md`). A socket that is connected would go on by the timer, so it is too late then.
pub fn unpace(socket: impl AsFd) {
    if tcp_congestion(&socket).is_ok_and(|name| name == PACED) {
        // A system without CUBIC, or one that keeps it from us, is no error.
        let _ = set_tcp_congestion(&socket, UNPACED);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, SocketType, connect, socket};

    use super::*;

    /// A socket with this congestion control, where the system has it and lets us use it.
    fn socket_with(name: &str) -> Option<OwnedFd> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        set_tcp_congestion(&socket, name).is_ok().then_some(socket)
    }

    #[test]
    fn a_connection_is_not_paced_on_either_side() {
        let Some(dialling) = socket_with(PACED).filter(|_| socket_with(UNPACED).is_some()) else { return };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        set_tcp_congestion(&listener, PACED).unwrap();
        unpace(&listener);
        unpace(&dialling);
        let port = listener.local_addr().unwrap().port();
        connect(&dialling, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!([tcp_congestion(&dialling).unwrap(), tcp_congestion(&accepted).unwrap()], [UNPACED, UNPACED]);
    }

    #[test]
    fn what_else_was_chosen_stays() {
        let Some(socket) = socket_with("reno") else { return };
        unpace(&socket);
        assert_eq!(tcp_congestion(&socket).unwrap(), "reno");
    }
}
