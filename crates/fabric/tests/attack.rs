//! What no worker of ours says, said to one: it harms nobody but whoever says it.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use chariot_fabric::PullEnd;
use chariot_fabric::transport::Link;
use chariot_wire::limits::MAX_CHUNK;
use chariot_wire::{Channel, InlineRecord, NO_RUN, PEER_VERSION, PeerHello, PeerMessage};
use support::block::Block;
use support::host::{Came, Heard};
use support::net::{CLUSTER, Net, Worker};
use support::raw::{self, frame, hello, say, until_end};
use support::{eventually, key, pull, run};

over_all_transports! {
    whoever_does_not_begin_with_a_proper_hello_is_turned_away
    whoever_says_what_is_no_message_is_shown_out
    whoever_says_something_out_of_place_is_shown_out
    whoever_says_what_means_nothing_is_borne_with
    half_a_message_is_not_waited_for_for_ever
    bytes_that_are_not_what_was_sent_never_become_readable
    bytes_that_do_not_continue_their_block_never_become_readable
    an_answer_with_another_block_is_no_answer
    who_leaves_in_the_middle_of_a_piece_is_told_that_it_is_lost
    a_new_control_channel_takes_the_place_of_the_last
    whoever_does_not_read_costs_no_memory_and_is_let_go_of
    whoever_does_not_read_messages_is_let_go_of
}

async fn whoever_does_not_begin_with_a_proper_hello_is_turned_away(net: Net) {
    let [one, other] = net.workers().await;
    let proper =
        PeerHello { version: PEER_VERSION, run: run(9), channel: Channel::Control, cluster: CLUSTER, address: "" };
    let said = |hello: PeerHello<'_>| frame(0, &PeerMessage::Hello(hello), 0);
    let mut changed = said(proper);
    *changed.last_mut().unwrap() ^= 1;
    let beginnings = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 1000],
        vec![255; 1000],
        frame(0, &PeerMessage::Ping, 0),
        frame(1, &PeerMessage::Pull(pull(key("any"))), 0),
        said(PeerHello { version: PEER_VERSION + 1, ..proper }),
        said(PeerHello { cluster: "others", ..proper }),
        said(PeerHello { address: &"a".repeat(5000), ..proper }),
        changed,
    ];
    for beginning in beginnings {
        until_end(&mut say(&net, &one.member.address, &beginning).await).await;
    }
    drop(say(&net, &one.member.address, &said(proper)[..20]).await);
    assert!(!one.host.change(|state| state.heard.contains(&Heard::Forget(run(9)))), "it was never heard");
    are_well(&one, &other).await;
}

async fn whoever_says_what_is_no_message_is_shown_out(net: Net) {
    let [one, other] = net.workers().await;
    let mut changed = frame(1, &PeerMessage::Pull(pull(key("any"))), 0);
    changed[30] ^= 1;
    for channel in [Channel::Control, Channel::Data(0), Channel::Data(77)] {
        for said in [vec![255; 100], vec![0; 100], changed.clone()] {
            until_end(&mut say(&net, &one.member.address, &[hello(run(9), channel), said].concat()).await).await;
        }
    }
    are_well(&one, &other).await;
}

async fn whoever_says_something_out_of_place_is_shown_out(net: Net) {
    let [one, other] = net.workers().await;
    let block = InlineRecord::new(key("any"), None, 10, None);
    let announced = [key("any")];
    let twice = [frame(1, &PeerMessage::Pull(pull(key("any"))), 0), frame(1, &PeerMessage::Pull(pull(key("any"))), 0)];
    one.host.change(|state| state.unanswered.insert(key("any")));
    let sum = frame(1, &PeerMessage::Sum(0), 0);
    for (channel, said) in [
        (Channel::Control, frame(1, &PeerMessage::Pull(pull(key("any"))), 0)),
        (Channel::Control, frame(1, &PeerMessage::Offer(block.into()), 0)),
        (Channel::Data(0), frame(1, &PeerMessage::Announce(&announced), 0)),
        (Channel::Data(0), frame(1, &PeerMessage::Lookup(&announced), 0)),
        (Channel::Data(0), frame(1, &PeerMessage::Ping, 0)),
        (Channel::Data(0), hello(run(9), Channel::Data(0))),
        (Channel::Data(0), twice.concat()),
        // More bytes than the block has, and its end before all of it.
        (Channel::Data(0), [frame(1, &PeerMessage::Offer(block.into()), 0), raw::bytes(1, 0, &[0; 100], 0)].concat()),
        (Channel::Data(0), [frame(1, &PeerMessage::Offer(block.into()), 0), frame(1, &PeerMessage::Seal, 0)].concat()),
        (Channel::Data(0), [frame(1, &PeerMessage::Offer(block.into()), 0), sum].concat()),
        (Channel::Data(0), frame(1, &PeerMessage::Bytes { offset: 0 }, MAX_CHUNK + 1)),
    ] {
        until_end(&mut say(&net, &one.member.address, &[hello(run(9), channel), said].concat()).await).await;
    }
    assert_ne!(one.host.came(&block.key), Some(Came::Whole));
    are_well(&one, &other).await;
}

async fn whoever_says_what_means_nothing_is_borne_with(net: Net) {
    let [one, other] = net.workers().await;
    let block = InlineRecord::new(key("any"), None, 10, None);
    let said = [
        hello(run(9), Channel::Data(0)),
        frame(1, &PeerMessage::Open(block.into()), 0),
        raw::bytes(2, 3, &[5; 100_000], 4),
        frame(3, &PeerMessage::Seal, 0),
        frame(4, &PeerMessage::Lose, 0),
        frame(6, &PeerMessage::Stop, 0),
        frame(7, &PeerMessage::Miss, 0),
        frame(8, &PeerMessage::Elsewhere(NO_RUN), 0),
        frame(9, &PeerMessage::Pull(pull(key("nobody's"))), 0),
    ]
    .concat();
    let mut link = say(&net, &one.member.address, &said).await;
    let expected = [frame(1, &PeerMessage::Stop, 0), frame(9, &PeerMessage::Miss, 0)].concat();
    let hello_len = hello_len(&one);
    let heard = receive(&mut link, hello_len + expected.len()).await;
    assert_eq!(heard[hello_len..], expected);
    are_well(&one, &other).await;
}

async fn half_a_message_is_not_waited_for_for_ever(net: Net) {
    let [one, other] = net.workers().await;
    let large = frame(1, &PeerMessage::Announce(&[key("any"); 1000]), 0);
    let block = InlineRecord::new(key("half"), None, 1000, None);
    let bytes = frame(1, &PeerMessage::Bytes { offset: 0 }, 1000);
    let halves = [
        hello(run(9), Channel::Control)[..30].to_vec(),
        [hello(run(8), Channel::Data(0)), large[..large.len() - 1].to_vec()].concat(),
        [hello(run(7), Channel::Data(1)), frame(1, &PeerMessage::Offer(block.into()), 0), bytes, vec![0; 999]].concat(),
    ];
    let mut links = Vec::new();
    for half in &halves {
        links.push(say(&net, &one.member.address, half).await);
    }
    for link in &mut links {
        until_end(link).await;
    }
    one.host.until("the half block is lost", |state| state.came.get(&block.key) == Some(&Came::Lost)).await;
    are_well(&one, &other).await;
}

async fn bytes_that_are_not_what_was_sent_never_become_readable(net: Net) {
    let [one, other] = net.workers().await;
    let block = InlineRecord::new(key("changed"), None, 300_000, None);
    let right = support::bytes_of(&block.key, 300_000);
    let checksum = raw::checksum(&right[..100_000]);
    let mut wrong = right[100_000..200_000].to_vec();
    let wrong_sum = raw::checksum(&wrong);
    wrong[5000] ^= 16;
    let said = [
        hello(run(9), Channel::Data(0)),
        frame(1, &PeerMessage::Offer(block.into()), 0),
        raw::bytes(1, 0, &right[..100_000], checksum),
        raw::bytes(1, 100_000, &wrong, wrong_sum),
    ];
    // Whoever takes the bytes compares them when they become readable.
    until_end(&mut say(&net, &one.member.address, &said.concat()).await).await;
    one.host.until("the block is lost", |state| state.came.get(&block.key) == Some(&Came::Lost)).await;
    assert_eq!(one.fabric.stats().corrupt, 1);
    assert_eq!(one.fabric.stats().bytes_received, 100_000);
    are_well(&one, &other).await;
}

async fn bytes_that_do_not_continue_their_block_never_become_readable(net: Net) {
    let [one, other] = net.workers().await;
    let right = support::bytes_of(&key("gap"), 1000);
    for offset in [0u64, 50, 150, 1000, u64::MAX] {
        let block = InlineRecord::new(key("gap"), None, 1000, None);
        let checksum = raw::checksum(&right[..100]);
        let bytes = |offset| raw::bytes(1, offset, &right[..100], checksum);
        let said =
            [hello(run(9), Channel::Data(0)), frame(1, &PeerMessage::Offer(block.into()), 0), bytes(0), bytes(offset)];
        until_end(&mut say(&net, &one.member.address, &said.concat()).await).await;
        one.host.until("the block is lost", |state| state.came.get(&block.key) == Some(&Came::Lost)).await;
    }
    are_well(&one, &other).await;
}

async fn an_answer_with_another_block_is_no_answer(net: Net) {
    let [one, other] = net.workers().await;
    let (mut control, mut data) = impostor(&net, &one).await;
    let (wanted, given) = (key("wanted"), InlineRecord::new(key("given"), None, 0, None));
    let _ = receive(&mut data, frame(1, &PeerMessage::Pull(pull(wanted)), 0).len()).await;
    let answer = [frame(1, &PeerMessage::Open(given.into()), 0), frame(1, &PeerMessage::Seal, 0)].concat();
    data.sender.send(&answer, &[]).await.unwrap();
    assert_eq!(one.host.end_of(&wanted).await, PullEnd::Gone);
    assert_eq!(one.host.came(&given.key), None);
    until_end(&mut data).await;
    are_well(&one, &other).await;
    control.sender.send(&frame(0, &PeerMessage::Pong, 0), &[]).await.unwrap();
}

async fn who_leaves_in_the_middle_of_a_piece_is_told_that_it_is_lost(net: Net) {
    let [one, other] = net.workers().await;
    let (_control, mut data) = impostor(&net, &one).await;
    let block = InlineRecord::new(key("wanted"), None, 1000, None);
    let bytes = frame(1, &PeerMessage::Bytes { offset: 0 }, 1000);
    let half = [frame(1, &PeerMessage::Open(block.into()), 0), bytes, vec![0; 500]].concat();
    data.sender.send(&half, &[]).await.unwrap();
    one.host.until("it begins", |state| state.came.contains_key(&block.key)).await;
    // Whoever waits for more bytes has it in hand, and is stopped in the middle.
    one.fabric.set_members(std::slice::from_ref(&other.member));
    assert_eq!(one.host.end_of(&block.key).await, PullEnd::Lost);
    assert_eq!(one.host.came(&block.key), Some(Came::Lost));
    until_end(&mut data).await;
    are_well(&one, &other).await;
}

async fn a_new_control_channel_takes_the_place_of_the_last(net: Net) {
    let [one, other] = net.workers().await;
    let announce = |name| frame(0, &PeerMessage::Announce(&[key(name)]), 0);
    let mut links = Vec::new();
    for name in ["first", "second", "third"] {
        let said = [hello(run(9), Channel::Control), announce(name)].concat();
        links.push(say(&net, &one.member.address, &said).await);
        let announced = Heard::Announced(run(9), vec![key(name)]);
        one.host.until("it is announced", |state| state.heard.contains(&announced)).await;
    }
    let last = links.pop().unwrap();
    for link in &mut links {
        until_end(link).await;
    }
    drop(last);
    let heard = one
        .host
        .seen("all is forgotten", |state| {
            let theirs = state.heard.iter().filter(|heard| match heard {
                Heard::Announced(from, _) | Heard::Forget(from) => *from == run(9),
                _ => false,
            });
            let theirs: Vec<_> = theirs.cloned().collect();
            (theirs.len() == 6).then_some(theirs)
        })
        .await;
    let expected =
        ["first", "second", "third"].map(|name| [Heard::Announced(run(9), vec![key(name)]), Heard::Forget(run(9))]);
    assert_eq!(heard, expected.concat());
    are_well(&one, &other).await;
}

async fn whoever_does_not_read_costs_no_memory_and_is_let_go_of(net: Net) {
    let [one, other] = net.workers().await;
    let endless = key("endless");
    one.host.change(|state| state.endless = Some(endless));
    let said = [hello(run(9), Channel::Data(0)), frame(1, &PeerMessage::Pull(pull(endless)), 0)].concat();
    let link = say(&net, &one.member.address, &said).await;
    eventually("it is being sent", || *one.host.endless_pins.lock() == 1).await;
    // Other connections do not suffer.
    are_well(&one, &other).await;
    eventually("it is let go of", || *one.host.endless_pins.lock() == 0).await;
    assert!(one.fabric.stats().bytes_sent < 64 << 20);
    drop(link);
}

async fn whoever_does_not_read_messages_is_let_go_of(net: Net) {
    let [one, other] = net.workers().await;
    let (control, data) = impostor(&net, &one).await;
    let keys = vec![key("announced"); 1 << 16];
    for _ in 0..48 {
        one.fabric.announce(run(9), &keys);
    }
    one.fabric.told(run(9)).await;
    eventually("it is away", || !one.fabric.is_reached(run(9))).await;
    are_well(&one, &other).await;
    drop((control, data));
}

/// A worker in name, which is asked for a block that is `wanted`: the control channel and the data channel to it.
async fn impostor(net: &Net, one: &Worker) -> (Link, Link) {
    let address = net.place(9);
    let (mut links, _) = net.listen(&address).await;
    let member = chariot_types::Member { run: run(9), address };
    let mut members = one.fabric.peers();
    members.push(member);
    one.fabric.set_members(&members);
    let hello_len = hello_len(one);
    let mut control = links.recv().await.unwrap();
    let _ = receive(&mut control, hello_len).await;
    control.sender.send(&hello(run(9), Channel::Control), &[]).await.unwrap();
    one.reaches(run(9)).await;
    one.fabric.pull(run(9), pull(key("wanted"))).unwrap();
    let mut data = links.recv().await.unwrap();
    let _ = receive(&mut data, hello_len).await;
    data.sender.send(&hello(run(9), Channel::Data(0)), &[]).await.unwrap();
    (control, data)
}

fn hello_len(of: &Worker) -> usize {
    let address = of.member.address.to_string();
    let hello = PeerHello { version: 0, run: of.run(), channel: Channel::Control, cluster: CLUSTER, address: &address };
    frame(0, &PeerMessage::Hello(hello), 0).len()
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

/// Two workers still serve each other, over the connections that they had.
async fn are_well(one: &Worker, other: &Worker) {
    for (from, to) in [(one, other), (other, one)] {
        let block = Block::whole(key(format!("well {}", from.member.address)), 300_000);
        from.host.hold(&block);
        to.fabric.pull(from.run(), pull(block.key)).unwrap();
        assert_eq!(to.host.end_of(&block.key).await, PullEnd::Whole);
        eventually("it is let go of", || block.pins() == 0).await;
        assert!(!from.host.change(|state| state.heard.contains(&Heard::Forget(to.run()))));
    }
}
