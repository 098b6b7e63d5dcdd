//! What every transport does, on each of them; and what the network in memory does to those who use it.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::ErrorKind;

use chariot_fabric::PATIENCE;
use chariot_fabric::transport::{Link, MemoryNetwork, Transport};
use chariot_types::WorkerAddress;
use support::net::Net;
use support::{bytes_of, key};
use tokio::time::{Duration, Instant, timeout};

over_all_transports! {
    messages_and_bytes_arrive_in_order
    what_is_sent_without_waiting_arrives_in_order
    many_small_sends_and_one_large_arrive
    both_directions_are_used_at_once
    a_receiver_that_does_not_read_stops_the_sender
    what_was_sent_before_the_end_arrives
    the_end_of_either_half_is_the_end_of_the_link
    nobody_is_dialled_where_nobody_listens
}

async fn messages_and_bytes_arrive_in_order(net: Net) {
    let (mut one, mut other) = pair(&net).await;
    let bytes = bytes_of(&key("bytes"), 3 << 20);
    let lens = [0, 1, 100, 32 << 10, (32 << 10) + 1, 300_000, 2 << 20];
    let expected: Vec<u8> = lens.iter().flat_map(|len| [b"frames".as_slice(), &bytes[..*len]].concat()).collect();
    let sending = tokio::spawn(async move {
        for len in lens {
            one.sender.send(b"frames", &bytes[..len]).await.unwrap();
        }
        one
    });
    assert!(receive(&mut other, expected.len()).await == expected);
    sending.await.unwrap();
}

async fn what_is_sent_without_waiting_arrives_in_order(net: Net) {
    let (mut one, mut other) = pair(&net).await;
    let bytes = bytes_of(&key("without waiting"), 100_000);
    let expected = bytes.clone();
    let sending = tokio::spawn(async move {
        for piece in bytes.chunks(1000) {
            let sent = one.sender.try_send(piece);
            one.sender.send(&piece[sent..], &[]).await.unwrap();
        }
        one
    });
    assert!(receive(&mut other, expected.len()).await == expected);
    drop(other);
    let mut one = sending.await.unwrap();
    while one.sender.send(b"any", &[]).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(one.sender.try_send(b"any"), 0, "what fails counts as nothing");
}

async fn many_small_sends_and_one_large_arrive(net: Net) {
    let (mut one, mut other) = pair(&net).await;
    let large = bytes_of(&key("large"), 16 << 20);
    let small = bytes_of(&key("small"), 5000);
    let expected = [small.as_slice(), &large].concat();
    let sending = tokio::spawn(async move {
        for byte in small.chunks(1) {
            one.sender.send(byte, &[]).await.unwrap();
        }
        one.sender.send(&large, &[]).await.unwrap();
        one
    });
    assert!(receive(&mut other, expected.len()).await == expected);
    sending.await.unwrap();
}

async fn both_directions_are_used_at_once(net: Net) {
    let (one, other) = pair(&net).await;
    let exchange = |mut link: Link| {
        tokio::spawn(async move {
            let bytes = bytes_of(&key("both"), 8 << 20);
            let mut received = vec![0; bytes.len()];
            let receiving = async {
                let mut filled = 0;
                while filled < received.len() {
                    filled += link.receiver.receive(&mut received[filled..]).await.unwrap();
                }
            };
            let (sent, ()) = tokio::join!(link.sender.send(&bytes, &[]), receiving);
            sent.unwrap();
            assert!(received == bytes);
            link
        })
    };
    let (one, other) = (exchange(one), exchange(other));
    one.await.unwrap();
    other.await.unwrap();
}

async fn a_receiver_that_does_not_read_stops_the_sender(net: Net) {
    let (mut one, mut other) = pair(&net).await;
    let piece = vec![7; 64 << 10];
    let mut sent = 0;
    let error = loop {
        match one.sender.send(&piece, &[]).await {
            Ok(()) => sent += piece.len(),
            Err(error) => break error,
        }
        assert!(sent < 64 << 20, "nothing holds the sender back");
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    // What is on the way has not gone, though nobody waited for it.
    assert!(receive(&mut other, sent).await.iter().all(|byte| *byte == 7));
}

async fn what_was_sent_before_the_end_arrives(net: Net) {
    let (mut one, mut other) = pair(&net).await;
    one.sender.send(b"farewell", &[]).await.unwrap();
    drop(one);
    assert_eq!(receive(&mut other, 8).await, b"farewell");
    for _ in 0..2 {
        assert_eq!(other.receiver.receive(&mut [0; 8]).await.unwrap(), 0);
    }
}

async fn the_end_of_either_half_is_the_end_of_the_link(net: Net) {
    let (one, other) = pair(&net).await;
    let Link { sender, receiver } = one;
    drop(sender);
    sees_the_end(other).await;
    drop(receiver);

    let (one, other) = pair(&net).await;
    let Link { sender, receiver } = one;
    drop(receiver);
    sees_the_end(other).await;
    drop(sender);
}

async fn nobody_is_dialled_where_nobody_listens(net: Net) {
    let nowhere = net.place(7);
    let dialled = net.transport(&address("one:1")).dial(&nowhere).await;
    assert_eq!(dialled.err().unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_waits_until_it_is_healed() {
    let network = MemoryNetwork::new(1);
    let (mut one, mut other) = pair(&Net::Memory(network.clone())).await;
    network.cut(&address("one:1"), &address("worker7:1"));
    // The other way is open.
    other.sender.send(b"there?", &[]).await.unwrap();
    assert_eq!(receive(&mut one, 6).await, b"there?");
    let sending = tokio::spawn(async move {
        one.sender.send(b"here", &[]).await.unwrap();
        one
    });
    let early = timeout(Duration::from_secs(1), other.receiver.receive(&mut [0; 8])).await;
    assert!(early.is_err(), "nothing gets through");
    network.heal();
    assert_eq!(receive(&mut other, 4).await, b"here");
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_end_gets_through_a_cut() {
    let network = MemoryNetwork::new(1);
    let (one, mut other) = pair(&Net::Memory(network.clone())).await;
    network.cut(&address("one:1"), &address("worker7:1"));
    drop(one);
    let early = timeout(Duration::from_secs(60), other.receiver.receive(&mut [0; 8])).await;
    assert!(early.is_err());
    network.heal();
    assert_eq!(other.receiver.receive(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_sends_or_dials_through_a_cut_loses_patience() {
    let network = MemoryNetwork::new(1);
    let net = Net::Memory(network.clone());
    let (mut one, _other) = pair(&net).await;
    let there = net.place(8);
    let (_links, _) = net.listen(&there).await;
    network.cut(&address("one:1"), &address("worker7:1"));
    network.cut(&there, &address("one:1"));
    let begun = Instant::now();
    let sent = one.sender.send(b"here", &[]).await;
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(begun.elapsed(), PATIENCE);
    let dialled = network.transport(&address("one:1")).dial(&there).await;
    assert_eq!(dialled.err().unwrap().kind(), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn the_network_changes_and_breaks_as_it_is_told() {
    let network = MemoryNetwork::new(1);
    let (mut one, mut other) = pair(&Net::Memory(network.clone())).await;
    network.corrupt(1);
    one.sender.send(&[0; 64], &[]).await.unwrap();
    let changed = receive(&mut other, 64).await;
    assert_eq!(changed.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    network.heal();
    network.delay(Duration::from_secs(1), Duration::from_secs(2));
    let begun = Instant::now();
    one.sender.send(&[1; 64], &[]).await.unwrap();
    assert_eq!(receive(&mut other, 64).await, [1; 64]);
    assert!((1..=2).contains(&begun.elapsed().as_secs()));
    network.break_links(1);
    assert_eq!(one.sender.send(&[2; 64], &[]).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(other.receiver.receive(&mut [0; 8]).await.unwrap(), 0);
}

/// Two ends of a link: the first has dialled.
async fn pair(net: &Net) -> (Link, Link) {
    let there = net.place(7);
    let (mut links, accepting) = net.listen(&there).await;
    let one = net.transport(&address("one:1")).dial(&there).await.unwrap();
    let other = links.recv().await.unwrap();
    accepting.abort();
    (one, other)
}

async fn receive(link: &mut Link, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        let received = link.receiver.receive(&mut bytes[filled..]).await.unwrap();
        assert!(received > 0, "the end after {filled} of {len} bytes");
        filled += received;
    }
    bytes
}

/// Neither receives nor sends for ever.
async fn sees_the_end(mut link: Link) {
    assert!(link.receiver.receive(&mut [0; 8]).await.is_ok_and(|received| received == 0));
    let piece = [0; 1 << 10];
    while link.sender.send(&piece, &[]).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

fn address(text: &str) -> WorkerAddress {
    text.parse().unwrap()
}
