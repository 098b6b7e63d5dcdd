//! [`RawPair`]: the same bytes in one request and one response over a TCP connection, the least that a pull can cost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Place;
use super::blocks::Shape;

/// A connection whose other end sends as many bytes as it is asked for.
pub(super) struct RawPair {
    socket: TcpStream,
    server: Option<JoinHandle<()>>,
    into: Vec<u8>,
}

impl RawPair {
    /// From `holder` to `asker`, for at most `most` bytes at a time, over what a listener accepts that was prepared like this.
    pub(super) fn connect(
        holder: &Place,
        asker: &Place,
        most: usize,
        prepare: impl FnOnce(&TcpListener),
    ) -> Result<Self> {
        let listener = holder.enter(|| Ok(TcpListener::bind((holder.worker.host(), 0))?))?;
        prepare(&listener);
        let address = listener.local_addr()?;
        let socket = asker.enter(|| Ok(TcpStream::connect(address)?)).context("no connection between the nodes")?;
        let (theirs, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        theirs.set_nodelay(true)?;
        let server = std::thread::spawn(move || serve(theirs, &vec![7; most]));
        Ok(Self { socket, server: Some(server), into: vec![0; most] })
    }

    /// GB/s of calls of this shape, each block for itself.
    pub(super) fn rate(&mut self, shape: Shape) -> Result<f64> {
        let begin = Instant::now();
        for _ in 0..shape.calls * shape.count {
            self.socket.write_all(&(shape.len as u64).to_le_bytes())?;
            self.socket.read_exact(&mut self.into[..shape.len])?;
        }
        Ok(shape.bytes() as f64 / begin.elapsed().as_secs_f64() / 1e9)
    }
}

fn serve(mut socket: TcpStream, bytes: &[u8]) {
    let mut word = [0; 8];
    while socket.read_exact(&mut word).is_ok() {
        let len = u64::from_le_bytes(word) as usize;
        if socket.write_all(&bytes[..len]).is_err() {
            return;
        }
    }
}

impl Drop for RawPair {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}
