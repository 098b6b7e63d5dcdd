//! Frames between workers: those of `chariot-wire`, and behind each the checksum of its header and body.
//!
//! So nothing that another worker says is believed before it is known to be what was said: a stream's number that was
//! changed on the way would put good bytes into the wrong block. The bytes behind a frame have a checksum of their own.

use chariot_wire::{FrameWriter, HEADER_LEN, Header, PeerMessage};

use crate::FabricError;
use crate::checksum::checksum;

/// Bytes of the checksum behind each frame.
const CHECK_LEN: usize = 8;

/// Appends a frame, behind which `payload` bytes are to be sent.
pub(crate) fn append(frames: &mut Vec<u8>, id: u64, message: &PeerMessage<'_>, payload: u64) {
    let start = frames.len();
    FrameWriter::new(frames).peer(id, message, payload);
    let check = checksum(&frames[start..]);
    frames.extend_from_slice(&check.to_le_bytes());
}

/// The header of the frame at the start of `held`, if it is there. It is not checked yet.
pub(crate) fn header(held: &[u8]) -> Result<Option<Header>, FabricError> {
    Ok(held.first_chunk::<HEADER_LEN>().map(Header::decode).transpose()?)
}

/// How many bytes a frame has, without those that follow it.
pub(crate) fn len(header: &Header) -> usize {
    HEADER_LEN + header.body + CHECK_LEN
}

/// The body of a `frame` of just its [length](len), after it was checked.
pub(crate) fn body(frame: &[u8]) -> Result<&[u8], FabricError> {
    let (said, check) = frame.split_last_chunk::<CHECK_LEN>().expect("a frame is longer than its checksum");
    let (sent, found) = (u64::from_le_bytes(*check), checksum(said));
    if sent != found {
        return Err(FabricError::Corrupt { len: said.len() as u64, sent, found });
    }
    Ok(&said[HEADER_LEN..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_changed_anywhere_is_found_out() {
        let mut frame = Vec::new();
        append(&mut frame, 7, &PeerMessage::Bytes { offset: 1 }, 3);
        let header = header(&frame).unwrap().unwrap();
        assert_eq!(frame.len(), len(&header));
        let message = PeerMessage::decode(&header, body(&frame).unwrap()).unwrap();
        assert_eq!(message, PeerMessage::Bytes { offset: 1 });
        for bit in 0..frame.len() * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(body(&frame), Err(FabricError::Corrupt { .. })), "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
