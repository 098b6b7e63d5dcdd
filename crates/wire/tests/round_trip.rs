//! Every message reads back as it was written, and no bytes make a decoder panic.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::time::Duration;

use chariot_types::{Extent, Key, RunId};
use chariot_wire::{
    BlockRecord, BlockState, Channel, CreateInlineRecord, CreateRecord, EvictWhat, FrameWriter, GetWhat, HEADER_LEN,
    Header, Hello, InlineRecord, PROTOCOL_VERSION, PeerBlock, PeerHello, PeerMessage, Progress, Pull, PutRecord, Reach,
    Refusal, Reply, Request, SlotReadable, Welcome,
};
use proptest::prelude::*;
use zerocopy::little_endian::U64;

fn key() -> impl Strategy<Value = Key> {
    any::<[u8; 32]>().prop_map(Key::from_bytes)
}

fn inline_record() -> impl Strategy<Value = InlineRecord> {
    (key(), proptest::option::of(key()), any::<u64>(), proptest::option::of(1u64..1 << 40))
        .prop_map(|(key, parent, len, ttl)| InlineRecord::new(key, parent, len, ttl.map(Duration::from_micros)))
}

fn read_back(bytes: &[u8]) -> (Header, &[u8]) {
    let header = Header::decode(bytes[..HEADER_LEN].try_into().unwrap()).unwrap();
    assert_eq!(bytes.len(), HEADER_LEN + header.body);
    (header, &bytes[HEADER_LEN..])
}

fn assert_request_round_trips(request: &Request<'_>, id: u64) {
    let mut bytes = Vec::new();
    FrameWriter::new(&mut bytes).request(id, request, 7);
    let (header, body) = read_back(&bytes);
    assert_eq!((header.request, header.payload), (id, 7));
    assert_eq!(Request::decode(header.kind, body).as_ref(), Ok(request));
}

fn assert_reply_round_trips(reply: &Reply<'_>, id: u64) {
    let mut bytes = Vec::new();
    FrameWriter::new(&mut bytes).reply(id, reply, 0);
    let (header, body) = read_back(&bytes);
    assert_eq!(header.request, id);
    assert_eq!(Reply::decode(header.kind, body).as_ref(), Ok(reply));
}

proptest! {
    #[test]
    fn requests_read_back_as_written(
        id in any::<u64>(),
        keys in proptest::collection::vec(key(), 0..9),
        blocks in proptest::collection::vec(inline_record(), 0..9),
        numbers in proptest::collection::vec(any::<u64>(), 3..9),
        wait in 0u64..3_600_000_000,
        name in proptest::collection::vec(any::<u8>(), 0..256),
        token in proptest::collection::vec(any::<u8>(), 0..256),
    ) {
        let extent = Extent { offset: numbers[0], len: numbers[1] };
        let puts: Vec<_> = blocks.iter().map(|block| PutRecord::new(*block, extent)).collect();
        let creates: Vec<_> = puts.iter().map(|put| CreateRecord::new(numbers[2], *put)).collect();
        let inline: Vec<_> = blocks.iter().map(|block| CreateInlineRecord::new(numbers[2], *block)).collect();
        let slots: Vec<_> = numbers.iter().map(|number| SlotReadable::new(*number, numbers[0])).collect();
        let words: Vec<_> = numbers.iter().copied().map(U64::new).collect();
        for request in [
            Request::Hello(Hello { version: PROTOCOL_VERSION, pid: numbers[1] as u32, name: &name, token: &token }),
            Request::Hello(Hello { version: PROTOCOL_VERSION + 1, pid: numbers[1] as u32, name: &name, token: b"" }),
            Request::Exists(&keys),
            Request::LongestPrefix(&keys),
            Request::Get { what: GetWhat::Sealed, wait, keys: &keys },
            Request::Get { what: GetWhat::Readable, wait, keys: &keys },
            Request::Watch { block: numbers[0], beyond: numbers[1], wait },
            Request::Release(&words),
            Request::Cancel { request: numbers[0] },
            Request::Grant { min: numbers[0], want: numbers[1], wait },
            Request::GiveBack(extent),
            Request::Put(&puts),
            Request::Create(&creates),
            Request::Advance(&slots),
            Request::Seal(&words),
            Request::Abandon(&words),
            Request::Flush,
            Request::Delete(&keys),
            Request::PutInline { wait, blocks: &blocks },
            Request::CreateInline { wait, blocks: &inline },
            Request::Status,
            Request::Forward { to: "node-3:31501", keys: &keys },
            Request::Namespace("models/ä"),
            Request::SoftPin { time: numbers[0], keys: &keys },
            Request::SoftUnpin(&keys),
            Request::Evict(EvictWhat::Keys(&keys)),
            Request::Evict(EvictWhat::Namespace("models/ä")),
            Request::Evict(EvictWhat::All),
            Request::Evict(EvictWhat::UntilFree(numbers[0])),
        ] {
            assert_request_round_trips(&request, id);
        }
    }

    #[test]
    fn replies_read_back_as_written(
        id in any::<u64>(),
        numbers in any::<[u64; 4]>(),
        run in any::<[u8; 16]>(),
        path in proptest::collection::vec(any::<u8>(), 0..100),
        text in ".*",
    ) {
        let extent = Extent { offset: numbers[0], len: numbers[1] };
        let blocks = [
            BlockRecord::miss(),
            BlockRecord::new(BlockState::Growing { readable: numbers[3] }, numbers[2], extent, numbers[3]),
            BlockRecord::new(BlockState::Sealed, numbers[2], extent, numbers[3]),
        ];
        let welcome =
            Welcome { version: 3, pid: numbers[1] as u32, run, arena: numbers[2], local_path: &path };
        for reply in [
            Reply::Welcome(welcome),
            Reply::Found(&path),
            Reply::PrefixIs { sealed: numbers[0], present: numbers[1] },
            Reply::Blocks(&blocks),
            Reply::Progress(Progress::Readable(numbers[0])),
            Reply::Progress(Progress::Sealed),
            Reply::Progress(Progress::Lost),
            Reply::Progress(Progress::TimedOut),
            Reply::Granted(extent),
            Reply::Done { count: numbers[0] },
            Reply::StatusIs(&path),
            Reply::Refused { refusal: Refusal::Draining, text: &text },
        ] {
            assert_reply_round_trips(&reply, id);
        }
        assert_eq!(blocks.map(|block| block.state()), [
            BlockState::Miss, BlockState::Growing { readable: numbers[3] }, BlockState::Sealed,
        ]);
    }

    #[test]
    fn what_peers_say_reads_back_as_it_was_written(
        id in any::<u64>(),
        keys in proptest::collection::vec(key(), 0..9),
        runs in proptest::collection::vec(any::<[u8; 16]>().prop_map(RunId::from_bytes), 1..9),
        block in inline_record(),
        numbers in any::<[u64; 2]>(),
        wait in 0u64..3_600_000_000,
        lane in 0u8..255,
        cluster in "[a-z]{0,40}",
        but in proptest::option::of(any::<[u8; 16]>().prop_filter("not none", |run| *run != [0; 16])),
    ) {
        let hello = PeerHello {
            version: numbers[0] as u32, run: runs[0], channel: Channel::Data(lane), cluster: &cluster, address: "a:1",
        };
        let pull = Pull { key: block.key, reach: Reach::Owner, but: but.map(RunId::from_bytes), wait };
        for message in [
            PeerMessage::Hello(hello),
            PeerMessage::Hello(PeerHello { channel: Channel::Control, ..hello }),
            PeerMessage::Announce(&keys),
            PeerMessage::Withdraw(&keys),
            PeerMessage::Lookup(&keys),
            PeerMessage::Holders(&runs),
            PeerMessage::Delete(&keys),
            PeerMessage::Deleted(&[0, 1, 1]),
            PeerMessage::Ping,
            PeerMessage::Pong,
            PeerMessage::Pull(pull),
            PeerMessage::Pull(Pull { reach: Reach::Holder, ..pull }),
            PeerMessage::Elsewhere(runs[0]),
            PeerMessage::Miss,
            PeerMessage::Open(PeerBlock { block, namespace: &cluster }),
            PeerMessage::Offer(block.into()),
            PeerMessage::Bytes { offset: numbers[0] },
            PeerMessage::Sum(numbers[1]),
            PeerMessage::Seal,
            PeerMessage::Lose,
            PeerMessage::Stop,
        ] {
            let mut bytes = Vec::new();
            FrameWriter::new(&mut bytes).peer(id, &message, 0);
            let (header, body) = read_back(&bytes);
            assert_eq!(header.request, id);
            assert!(PeerMessage::is_kind(header.kind));
            assert_eq!(PeerMessage::decode(&header, body), Ok(message));
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(kind in 0u16..150, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Request::decode(kind, &body);
        let _ = Reply::decode(kind, &body);
        let _ = PeerMessage::decode(&Header { kind, request: 0, body: body.len(), payload: 0 }, &body);
    }
}

#[test]
fn a_wait_of_more_than_an_hour_is_refused() {
    let mut bytes = Vec::new();
    let request = Request::Get { what: GetWhat::Sealed, wait: u64::MAX, keys: &[] };
    FrameWriter::new(&mut bytes).request(1, &request, 0);
    let (header, body) = read_back(&bytes);
    assert!(Request::decode(header.kind, body).is_err());
}

#[test]
fn only_bytes_of_blocks_follow_what_peers_say_and_never_too_many() {
    let refused = |message: PeerMessage<'_>, payload| {
        let mut bytes = Vec::new();
        FrameWriter::new(&mut bytes).peer(1, &message, payload);
        let (header, body) = read_back(&bytes);
        PeerMessage::decode(&header, body).is_err()
    };
    assert!(refused(PeerMessage::Seal, 1));
    assert!(refused(PeerMessage::Bytes { offset: 0 }, (1 << 20) + 1));
    assert!(!refused(PeerMessage::Bytes { offset: 0 }, 1 << 20));
}
