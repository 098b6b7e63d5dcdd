//! Bytes over bare sockets: asked for by a number, written from the arena, read into the arena.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use chariot_pool::Arena;
use chariot_types::{Extent, WorkerAddress};

/// Streams between the two sides.
const STREAMS: usize = 4;

pub(crate) fn serve(listener: &TcpListener, arena: &Arc<Arena>) {
    for stream in listener.incoming().flatten() {
        let arena = arena.clone();
        thread::spawn(move || serve_one(stream, &arena));
    }
}

fn serve_one(mut stream: TcpStream, arena: &Arena) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut asked = [0; 8];
    while stream.read_exact(&mut asked).is_ok() {
        let extent = Extent { offset: 0, len: u64::from_le_bytes(asked) };
        // SAFETY: nobody writes to this side's arena.
        stream.write_all(unsafe { arena.bytes(extent) }?)?;
    }
    Ok(())
}

pub(crate) struct Streams(Vec<TcpStream>);

impl Streams {
    pub(crate) fn dial(address: &WorkerAddress) -> Result<Self> {
        let dial = |_| {
            let stream = TcpStream::connect((address.host(), address.port() + 1))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        Ok(Self((0..STREAMS).map(dial).collect::<Result<_>>()?))
    }

    /// `len` bytes over one stream.
    pub(crate) fn receive(&mut self, arena: &Arena, len: usize) -> Result<()> {
        receive(&mut self.0[0], arena, Extent { offset: 0, len: len as u64 })
    }

    /// `len` bytes over each stream.
    pub(crate) fn receive_over_all(&mut self, arena: &Arena, len: usize) -> Result<()> {
        thread::scope(|scope| {
            let receiving: Vec<_> = (self.0.iter_mut().zip(0..))
                .map(|(stream, place)| {
                    scope.spawn(move || receive(stream, arena, Extent { offset: place * len as u64, len: len as u64 }))
                })
                .collect();
            receiving.into_iter().try_for_each(|receiving| receiving.join().expect("reading does not panic"))
        })
    }
}

fn receive(stream: &mut TcpStream, arena: &Arena, extent: Extent) -> Result<()> {
    stream.write_all(&extent.len.to_le_bytes())?;
    // SAFETY: each stream has a part of its own, and nothing else is received meanwhile.
    stream.read_exact(unsafe { arena.bytes_mut(extent) }?)?;
    Ok(())
}
