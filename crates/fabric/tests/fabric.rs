//! What workers of a cluster see of each other through the fabric, on every network.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use chariot_fabric::{Away, PullEnd};
use chariot_types::{Key, Member};
use support::block::Block;
use support::host::{Came, Heard, TestHost};
use support::net::{self, Net, Worker, acquaint};
use support::{eventually, key, pull, run};

over_all_transports! {
    a_block_of_any_size_comes_whole
    many_blocks_come_over_all_data_channels
    a_growing_block_is_followed_as_it_grows
    a_block_that_is_lost_where_it_comes_from_is_lost
    what_another_or_nobody_has_is_said
    a_question_that_is_forgotten_is_answered_by_a_miss
    a_block_is_offered_and_taken
    a_block_that_is_declined_is_let_go_of
    a_pull_that_was_stopped_ends_without_a_word
    a_worker_that_goes_takes_what_was_under_way_with_it
    who_pulls_and_goes_holds_nothing
    a_member_that_is_not_there_is_away_until_it_is
    another_run_at_the_address_is_another_worker
    a_worker_of_another_cluster_is_turned_away
    announcements_arrive_in_order
    questions_about_keys_are_answered
    a_large_block_holds_up_no_small_one
    an_end_leaves_no_task
}

async fn a_block_of_any_size_comes_whole(net: Net) {
    let [one, other] = net.workers().await;
    let lens = [0, 1, 100, 16 << 10, (16 << 10) + 1, 256 << 10, (256 << 10) + 1, (1 << 20) + 3];
    for len in lens {
        let block = Block::whole(key(format!("{len} bytes")), len);
        one.host.hold(&block);
        other.fabric.pull(one.run(), pull(block.key)).unwrap();
        assert_eq!(other.host.end_of(&block.key).await, PullEnd::Whole);
        assert_eq!(other.host.came(&block.key), Some(Came::Whole));
        eventually("it is let go of", || block.pins() == 0).await;
    }
    assert_eq!(other.fabric.stats().blocks_received, lens.len() as u64);
    assert_eq!(other.fabric.stats().bytes_received, lens.iter().sum::<usize>() as u64);
    assert_eq!(one.fabric.stats().bytes_sent, lens.iter().sum::<usize>() as u64);
    assert_eq!((one.fabric.stats().streams, other.fabric.stats().streams), (0, 0));
}

async fn many_blocks_come_over_all_data_channels(net: Net) {
    let [one, other] = net.workers().await;
    let blocks: Vec<_> = (0..64).map(|number| Block::whole(key(format!("block {number}")), 1 << 20)).collect();
    blocks.iter().for_each(|block| one.host.hold(block));
    for block in &blocks {
        other.fabric.pull(one.run(), pull(block.key)).unwrap();
    }
    for block in &blocks {
        assert_eq!(other.host.end_of(&block.key).await, PullEnd::Whole);
    }
    // One of them is the control channel.
    assert_eq!(one.accepted(), 5);
}

async fn a_growing_block_is_followed_as_it_grows(net: Net) {
    let [one, other] = net.workers().await;
    let block = Block::growing(key("growing"), 1 << 20);
    one.host.hold(&block);
    other.fabric.pull(one.run(), pull(block.key)).unwrap();
    for readable in [1, 2, 1000, 300_000, 1 << 20] {
        block.grow(readable);
        let came = |host: &TestHost| host.came(&block.key) == Some(Came::Growing(readable));
        other.host.until("it grows", |state| state.came.get(&block.key) == Some(&Came::Growing(readable))).await;
        assert!(came(&other.host));
    }
    assert_eq!(block.pins(), 1);
    block.seal();
    assert_eq!(other.host.end_of(&block.key).await, PullEnd::Whole);
    eventually("it is let go of", || block.pins() == 0).await;
}

async fn a_block_that_is_lost_where_it_comes_from_is_lost(net: Net) {
    let [one, other] = net.workers().await;
    let block = Block::growing(key("lost"), 1 << 20);
    block.grow(1000);
    one.host.hold(&block);
    other.fabric.pull(one.run(), pull(block.key)).unwrap();
    other.host.until("it grows", |state| state.came.get(&block.key) == Some(&Came::Growing(1000))).await;
    block.lose();
    assert_eq!(other.host.end_of(&block.key).await, PullEnd::Lost);
    assert_eq!(other.host.came(&block.key), Some(Came::Lost));
    eventually("it is let go of", || block.pins() == 0).await;
}

async fn what_another_or_nobody_has_is_said(net: Net) {
    let [one, other] = net.workers().await;
    one.host.change(|state| state.elsewhere.insert(key("elsewhere"), run(9)));
    for (name, end) in [("elsewhere", PullEnd::Elsewhere(run(9))), ("nowhere", PullEnd::Miss)] {
        other.fabric.pull(one.run(), pull(key(name))).unwrap();
        assert_eq!(other.host.end_of(&key(name)).await, end);
    }
}

async fn a_question_that_is_forgotten_is_answered_by_a_miss(net: Net) {
    let [one, other] = net.workers().await;
    let wanted = key("wanted");
    one.host.change(|state| state.unanswered.insert(wanted));
    other.fabric.pull(one.run(), pull(wanted)).unwrap();
    let asker = one.host.seen("a question", |state| state.askers.first().map(|(_, asker)| asker.clone())).await;
    assert_eq!(asker.run(), other.run());
    one.host.change(|state| state.askers.clear());
    drop(asker);
    assert_eq!(other.host.end_of(&wanted).await, PullEnd::Miss);
}

async fn a_block_is_offered_and_taken(net: Net) {
    let [one, other] = net.workers().await;
    let block = Block::growing(key("offered"), 1 << 20);
    block.grow(1 << 19);
    one.fabric.offer(other.run(), &block.record(), block.source()).unwrap();
    other.host.until("it comes", |state| state.came.get(&block.key) == Some(&Came::Growing(1 << 19))).await;
    block.seal();
    other.host.until("it is whole", |state| state.came.get(&block.key) == Some(&Came::Whole)).await;
    eventually("it is let go of", || block.pins() == 0).await;
    assert!(other.host.change(|state| state.ends.is_empty()), "nobody has pulled it");
}

async fn a_block_that_is_declined_is_let_go_of(net: Net) {
    let [one, other] = net.workers().await;
    let block = Block::growing(key("declined"), 1 << 20);
    block.grow(1 << 19);
    one.host.hold(&block);
    other.host.change(|state| state.declined.insert(block.key));
    one.fabric.offer(other.run(), &block.record(), block.source()).unwrap();
    eventually("the offer is let go of", || block.pins() == 0).await;
    other.fabric.pull(one.run(), pull(block.key)).unwrap();
    assert_eq!(other.host.end_of(&block.key).await, PullEnd::Declined);
    eventually("the pull is let go of", || block.pins() == 0).await;
    assert_eq!(other.host.came(&block.key), None);
}

async fn a_pull_that_was_stopped_ends_without_a_word(net: Net) {
    let [one, other] = net.workers().await;
    let block = Block::whole(key("late"), 1 << 20);
    one.host.change(|state| state.unanswered.insert(block.key));
    let pulling = other.fabric.pull(one.run(), pull(block.key)).unwrap();
    let asker = one.host.seen("a question", |state| state.askers.first().map(|(_, asker)| asker.clone())).await;
    pulling.stop();
    asker.open(&block.record(), block.source());
    eventually("it is let go of", || block.pins() == 0).await;
    pulls_well(&one, &other).await;
    assert_eq!(other.host.came(&block.key), None);
    assert!(other.host.change(|state| state.ends.iter().all(|(_, key, _)| *key != block.key)));
    eventually("nothing is left", || one.fabric.stats().streams == 0).await;
}

async fn a_worker_that_goes_takes_what_was_under_way_with_it(net: Net) {
    let [one, other] = net.workers().await;
    let blocks: Vec<_> = (0..8).map(|number| Block::growing(key(format!("half {number}")), 1 << 20)).collect();
    for block in &blocks {
        block.grow(1 << 19);
        one.host.hold(block);
        other.fabric.pull(one.run(), pull(block.key)).unwrap();
        other.host.until("half comes", |state| state.came.get(&block.key) == Some(&Came::Growing(1 << 19))).await;
    }
    let unanswered = key("unanswered");
    one.host.change(|state| state.unanswered.insert(unanswered));
    other.fabric.pull(one.run(), pull(unanswered)).unwrap();
    one.host.until("a question", |state| !state.askers.is_empty()).await;
    one.end().await;
    for block in &blocks {
        assert_eq!(other.host.end_of(&block.key).await, PullEnd::Lost);
        assert_eq!(other.host.came(&block.key), Some(Came::Lost));
        assert_eq!(block.pins(), 0);
    }
    assert_eq!(other.host.end_of(&unanswered).await, PullEnd::Gone);
    assert_eq!(other.host.change(|state| state.ends.len()), blocks.len() + 1, "each is told once");
    assert_eq!(other.fabric.stats().streams, 0);
}

async fn who_pulls_and_goes_holds_nothing(net: Net) {
    let [one, other] = net.workers().await;
    let (whole, growing) = (Block::whole(key("whole"), 1 << 20), Block::growing(key("growing"), 1 << 20));
    for block in [&whole, &growing] {
        one.host.hold(block);
        other.fabric.pull(one.run(), pull(block.key)).unwrap();
    }
    one.fabric.offer(other.run(), &growing.record(), growing.source()).unwrap();
    other.host.until("all are under way", |state| state.came.len() == 2).await;
    other.fabric.set_members(&[]);
    eventually("what it pulled is let go of", || growing.pins() == 1 && whole.pins() == 0).await;
    other.end().await;
    eventually("what it was offered is let go of", || growing.pins() == 0).await;
    eventually("it is heard of no more", || one.host.change(|state| state.heard.contains(&Heard::Forget(run(2)))))
        .await;
}

async fn a_member_that_is_not_there_is_away_until_it_is(net: Net) {
    let one = net.worker(1).await;
    let absent = Member { run: run(2), address: net.place(2) };
    let wanted = key("wanted");
    assert_eq!(one.fabric.pull(absent.run, pull(wanted)).err(), Some(Away), "no member");
    one.fabric.set_members(&[one.member.clone(), absent.clone()]);
    if one.fabric.pull(absent.run, pull(wanted)).is_ok() {
        assert_eq!(one.host.end_of(&wanted).await, PullEnd::Gone);
    }
    eventually("it is away", || one.fabric.pull(absent.run, pull(wanted)).is_err()).await;
    assert!(!one.fabric.is_reached(absent.run));

    let present = net.worker_at(2, absent.address, net::CLUSTER).await;
    one.reaches(present.run()).await;
    assert!(one.fabric.is_reached(present.run()));
    pulls_well(&present, &one).await;
}

async fn another_run_at_the_address_is_another_worker(net: Net) {
    let [one, other] = [net.worker(1).await, net.worker(2).await];
    let before = Member { run: run(3), address: other.member.address.clone() };
    one.fabric.set_members(std::slice::from_ref(&before));
    let wanted = key("wanted");
    if one.fabric.pull(before.run, pull(wanted)).is_ok() {
        assert_eq!(one.host.end_of(&wanted).await, PullEnd::Gone);
    }
    eventually("it is away", || one.fabric.pull(before.run, pull(wanted)).is_err()).await;
    acquaint(&[&one, &other]).await;
    assert_eq!(one.fabric.pull(before.run, pull(wanted)).err(), Some(Away));
    pulls_well(&other, &one).await;
}

async fn a_worker_of_another_cluster_is_turned_away(net: Net) {
    let [one, other] = [net.worker(1).await, net.worker_at(2, net.place(2), "others").await];
    one.fabric.set_members(std::slice::from_ref(&other.member));
    let wanted = key("wanted");
    if one.fabric.pull(other.run(), pull(wanted)).is_ok() {
        assert_eq!(one.host.end_of(&wanted).await, PullEnd::Gone);
    }
    eventually("it is away", || one.fabric.pull(other.run(), pull(wanted)).is_err()).await;
    assert!(!one.fabric.is_reached(other.run()));
    assert!(other.host.change(|state| state.heard.is_empty()));
}

async fn announcements_arrive_in_order(net: Net) {
    let [one, other] = net.workers().await;
    let keys: Vec<Key> = (0..100_000u32).map(|number| key(number.to_le_bytes())).collect();
    one.fabric.announce(other.run(), &keys);
    one.fabric.withdraw(other.run(), &keys[..10]);
    one.fabric.announce(other.run(), &keys[..1]);
    let heard = other
        .host
        .seen("all announcements", |state| {
            let last = Heard::Announced(one.run(), keys[..1].to_vec());
            state.heard.contains(&last).then(|| state.heard.clone())
        })
        .await;
    let mut announced = Vec::new();
    for heard in heard {
        match heard {
            Heard::Announced(from, some) if from == one.run() => announced.extend(some),
            Heard::Withdrawn(from, some) => {
                assert_eq!((from, some.as_slice(), announced.len()), (one.run(), &keys[..10], keys.len()));
            }
            Heard::Reached(_) => {}
            other => panic!("heard {other:?}"),
        }
    }
    assert_eq!(announced, [&keys, &keys[..1]].concat());
}

async fn questions_about_keys_are_answered(net: Net) {
    let [one, other] = net.workers().await;
    let keys: Vec<Key> = (0..70_000u32).map(|number| key(number.to_le_bytes())).collect();
    other.host.change(|state| state.holders = keys.iter().step_by(3).map(|key| (*key, run(9))).collect());
    let holders = one.fabric.lookup(other.run(), &keys).await.unwrap();
    let expected = |index: usize| index.is_multiple_of(3).then_some(run(9));
    assert_eq!(holders, (0..keys.len()).map(expected).collect::<Vec<_>>());
    assert_eq!(one.fabric.lookup(other.run(), &[]).await, Ok(Vec::new()));

    let block = Block::whole(key("to delete"), 10);
    other.host.hold(&block);
    assert_eq!(one.fabric.delete(other.run(), &[key("absent"), block.key]).await, Ok(vec![false, true]));
    assert_eq!(one.fabric.delete(run(9), &[block.key]).await, Err(Away));
}

async fn a_large_block_holds_up_no_small_one(net: Net) {
    let [one, other] = net.workers().await;
    net.take_time();
    let endless = key("endless");
    one.host.change(|state| state.endless = Some(endless));
    for _ in 0..8 {
        other.fabric.pull(one.run(), pull(endless)).unwrap();
    }
    eventually("there is much to send", || other.fabric.stats().bytes_received > 16 << 20).await;
    for number in 0..8 {
        let block = Block::whole(key(format!("small {number}")), 1000);
        one.host.hold(&block);
        other.fabric.pull(one.run(), pull(block.key)).unwrap();
        assert_eq!(other.host.end_of(&block.key).await, PullEnd::Whole);
    }
    one.end().await;
    other.end().await;
}

async fn an_end_leaves_no_task(net: Net) {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let [one, other] = net.workers().await;
    let absent = Member { run: run(3), address: net.place(3) };
    one.fabric.set_members(&[other.member.clone(), absent]);
    let block = Block::growing(key("growing"), 1 << 20);
    block.grow(1000);
    one.host.hold(&block);
    other.fabric.pull(one.run(), pull(block.key)).unwrap();
    other.host.until("it grows", |state| state.came.contains_key(&block.key)).await;
    let (fabric, member) = (other.fabric.clone(), one.member.clone());
    other.end().await;
    one.end().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    eventually("all tasks are gone", || tasks() == before).await;
    fabric.set_members(std::slice::from_ref(&member));
    assert_eq!(fabric.pull(member.run, pull(block.key)).err(), Some(Away), "what has ended begins nothing");
    assert_eq!(tasks(), before);
    assert_eq!(block.pins(), 0);
}

/// One worker pulls a block from another, and gets it.
async fn pulls_well(from: &Worker, to: &Worker) {
    let name = format!("well {}", to.host.change(|state| state.ends.len()));
    for attempt in 0..10 {
        let block = Block::whole(key(format!("{name}, attempt {attempt}")), 300_000);
        from.host.hold(&block);
        eventually("it can be asked", || to.fabric.pull(from.run(), pull(block.key)).is_ok()).await;
        match to.host.end_of(&block.key).await {
            PullEnd::Whole => return,
            // On a machine that is busy, connections are lost and made again.
            end => assert_eq!(end, PullEnd::Gone),
        }
    }
    panic!("connections are lost again and again");
}
