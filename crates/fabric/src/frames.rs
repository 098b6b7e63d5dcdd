//! Frames between workers: those of `chariot-wire`, with a checksum behind the header and another behind the body, which is
//! of all that came before it.
//!
//! So nothing that another worker says is believed before it is known to be what was said: a stream's number that was
//! changed on the way would put good bytes into the wrong block, and a length would have whatever follows taken for a part
//! of the same frame, for as long as that is. The bytes behind a frame have a checksum of their own.

use chariot_wire::{FrameWriter, HEADER_LEN, Header, PeerMessage};

use crate::FabricError;
use crate::checksum::checksum;

/// Bytes of a checksum.
const CHECK_LEN: usize = 8;

/// Bytes of a header with its checksum.
const HEAD_LEN: usize = HEADER_LEN + CHECK_LEN;

/// Appends a frame, behind which `payload` bytes are to be sent.
pub(crate) fn append(frames: &mut Vec<u8>, id: u64, message: &PeerMessage<'_>, payload: u64) {
    let start = frames.len();
    FrameWriter::new(frames).peer(id, message, payload);
    let head = checksum(&frames[start..start + HEADER_LEN]);
    frames.splice(start + HEADER_LEN..start + HEADER_LEN, head.to_le_bytes());
    let check = checksum(&frames[start..]);
    frames.extend_from_slice(&check.to_le_bytes());
}

/// The header of the frame at the start of `held`, if it is there, after it was checked.
pub(crate) fn header(held: &[u8]) -> Result<Option<Header>, FabricError> {
    let Some(head) = held.first_chunk::<HEAD_LEN>() else { return Ok(None) };
    checked(head)?;
    Ok(head.first_chunk::<HEADER_LEN>().map(Header::decode).transpose()?)
}

/// How many bytes a frame has, without those that follow it.
pub(crate) fn len(header: &Header) -> usize {
    HEAD_LEN + header.body + CHECK_LEN
}

/// The body of a `frame` of just its [length](len), after it was checked.
pub(crate) fn body(frame: &[u8]) -> Result<&[u8], FabricError> {
    Ok(&checked(frame)?[HEAD_LEN..])
}

/// What is in front of the checksum at the end, if that is right.
fn checked(bytes: &[u8]) -> Result<&[u8], FabricError> {
    let (said, check) = bytes.split_last_chunk::<CHECK_LEN>().expect("longer than a checksum");
    let (sent, found) = (u64::from_le_bytes(*check), checksum(said));
    if sent != found {
        return Err(FabricError::Corrupt { len: said.len() as u64, sent, found });
    }
    Ok(said)
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
            // Before there is more of it than its header.
            let is_of_head = bit / 8 < HEAD_LEN;
            let found = super::header(&frame[..HEAD_LEN]);
            assert_eq!(matches!(found, Err(FabricError::Corrupt { .. })), is_of_head, "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
