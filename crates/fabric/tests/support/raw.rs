//! What a worker of ours would never say, said to one.

use chariot_fabric::transport::Link;
use chariot_types::{RunId, WorkerAddress};
use chariot_wire::{Channel, FrameWriter, HEADER_LEN, PEER_VERSION, PeerHello, PeerMessage};
use crc_fast::CrcAlgorithm;

use super::net::{CLUSTER, Net};

/// A frame and its checksums.
pub fn frame(id: u64, message: &PeerMessage<'_>, payload: u64) -> Vec<u8> {
    let mut plain = Vec::new();
    FrameWriter::new(&mut plain).peer(id, message, payload);
    let (header, body) = plain.split_at(HEADER_LEN);
    let mut frame = [header, &checksum(header).to_le_bytes(), body].concat();
    frame.extend_from_slice(&checksum(&frame).to_le_bytes());
    frame
}

/// Bytes of a block, and the checksum that is said to be theirs.
pub fn bytes(stream: u64, offset: u64, bytes: &[u8], sum: u64) -> Vec<u8> {
    let announced = frame(stream, &PeerMessage::Bytes { offset }, bytes.len() as u64);
    [&announced, bytes, &frame(stream, &PeerMessage::Sum(sum), 0)].concat()
}

pub fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

pub fn hello(run: RunId, channel: Channel) -> Vec<u8> {
    let hello = PeerHello { version: PEER_VERSION, run, channel, cluster: CLUSTER, address: "raw:1" };
    frame(0, &PeerMessage::Hello(hello), 0)
}

/// A link to a worker, over which `said` is said.
pub async fn say(net: &Net, to: &WorkerAddress, said: &[u8]) -> Link {
    let mut link = net.transport(&"raw:1".parse().unwrap()).dial(to).await.unwrap();
    link.sender.send(said, &[]).await.unwrap();
    link
}

/// Reads until the other side ends the link, however it does.
pub async fn until_end(link: &mut Link) {
    let mut bytes = vec![0; 1 << 16];
    while link.receiver.receive(&mut bytes).await.is_ok_and(|received| received > 0) {}
}
