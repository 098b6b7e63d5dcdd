//! What a client and a worker, or two workers, say to each other, free of I/O.
//!
//! # The conversation
//!
//! A client connects over TCP and says [`Request::Hello`], with the token of its tenant where the worker has such. The worker's
//! [`Reply::Welcome`] names the worker, this
//! run of it, and the path of its Unix socket. A client that can connect to that path, and is welcomed there by the
//! same run, goes on there: with that welcome come four file descriptors, the arena, the worker's index, the board on
//! which writers tell readers how far blocks have grown, and the client's own pins, and payload bytes never cross the
//! socket again. What such a client finds and pins through the index, and follows on the board, it does not ask for
//! (`docs/design/shared-index.md`). Any other client stays on TCP, where payload bytes follow the frames that announce
//! them.
//!
//! After that the client asks and the worker answers; frames are [`Header`], body, payload:
//!
//! ```text
//! client                                              worker
//!   Grant { min, want }                        ->
//!                                              <-     Granted { extent }             room given ahead of need
//!   (copies bytes into the extent)
//!   Put [ { key, parent, extent, len } ]       ->                                    one way: nobody waits
//!   Create [ { slot, key, extent, len } ]      ->                                    one way: a growing block
//!   Advance [ { slot, readable } ] ... Seal    ->                                    one way
//!   Flush                                      ->
//!                                              <-     Flushed                        all of the above is findable
//!   LongestPrefix [ key ... ]                  ->
//!                                              <-     PrefixIs { sealed, present }
//!   Get { what, wait } [ key ... ]             ->
//!                                              <-     Blocks [ { state, block, extent, len, readable } ... ]
//!   (reads the bytes where they lie)
//!   Release [ block ... ]                      ->                                    one way; of none: look at my pins
//!   Forward { to } [ key ... ]                 ->                                    one way: carry these to that worker
//!   Namespace { name }                         ->                                    one way: whose what I put is
//!   SoftPin, SoftUnpin, Evict                  ->
//!                                              <-     Done { count }                 what goes last, and what goes now
//! ```
//!
//! A request with the id 0 is one way. Replies carry the id of their request and come in any order: a `Get` that waits
//! holds up nothing. One-way requests are carried out in the order sent, before any later request. A worker that is
//! told what breaks these rules answers [`Reply::Refused`] and, when the connection's state is in doubt, closes it;
//! what the connection held is then taken back.
//!
//! Workers of a cluster use the same frames and port; what they say is told in `peer.rs`.
//!
//! All numbers are little-endian. Nothing is decoded before its size has been checked against [`limits`].

mod error;
mod frame;
pub mod limits;
mod peer;
mod record;
mod reply;
mod request;
mod status;

pub use error::WireError;
pub use frame::{FrameWriter, HEADER_LEN, Header};
pub use peer::{Channel, NO_RUN, PEER_VERSION, PeerBlock, PeerHello, PeerMessage, Pull, Reach};
pub use record::{
    BlockRecord, BlockState, CreateInlineRecord, CreateRecord, ExtentRecord, InlineRecord, Progress, PutRecord,
    SlotReadable, micros, time_to_live,
};
pub use reply::{Refusal, Reply, Welcome};
pub use request::{EvictWhat, GetWhat, Hello, Request};
pub use status::{ClusterStatus, EtcdStatus, MemberStatus, NamespaceStatus, SessionStatus, SpillStatus, Status};

/// Version of this protocol; both sides must speak the same one.
pub const PROTOCOL_VERSION: u32 = 5;
