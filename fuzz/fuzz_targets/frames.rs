//! A stream of bytes as a client, a worker or its peer might send it, cut into frames and decoded as each would.
//!
//! Nothing may panic, and a request that decodes is encoded to the same bytes again: there is one way to say a thing.

#![no_main]

use chariot_wire::{FrameWriter, HEADER_LEN, Header, PeerMessage, Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
        let Ok(header) = Header::decode(head) else { return };
        let Some((body, behind)) = behind.split_at_checked(header.body) else { return };
        if let Ok(request) = Request::decode(header.kind, body) {
            let mut again = Vec::new();
            FrameWriter::new(&mut again).request(header.request, &request, header.payload);
            assert_eq!(again, [head.as_slice(), body].concat());
        }
        if let Ok(message) = PeerMessage::decode(&header, body) {
            let mut again = Vec::new();
            FrameWriter::new(&mut again).peer(header.request, &message, header.payload);
            assert_eq!(again, [head.as_slice(), body].concat());
        }
        if let Ok(Reply::Blocks(blocks)) = Reply::decode(header.kind, body) {
            for block in blocks {
                let _ = (block.state(), block.extent().end(), block.len());
            }
        }
        rest = behind.get(usize::try_from(header.payload).unwrap_or(usize::MAX)..).unwrap_or_default();
    }
});
