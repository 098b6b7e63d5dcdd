//! What workers see of each other when the network fails, on a network in memory and a clock that runs ahead.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chariot_fabric::transport::MemoryNetwork;
use chariot_fabric::{Asker, PATIENCE, PullEnd, Pulling};
use chariot_types::{Key, Member, RunId};
use proptest::prelude::*;
use support::block::Block;
use support::host::{Came, Heard};
use support::net::{Net, Worker};
use support::{eventually, key, pull};
use tokio::time::{Instant, sleep};

/// After a failed attempt a worker is not dialled for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn a_worker_that_falls_silent_is_found_out_in_time() {
    let (network, net) = network();
    let [one, other] = net.workers().await;
    let (growing, unanswered) = (Block::growing(key("growing"), 1000), key("unanswered"));
    growing.grow(100);
    one.host.hold(&growing);
    one.host.change(|state| state.unanswered.insert(unanswered));
    for wanted in [growing.key, unanswered] {
        other.fabric.pull(one.run(), pull(wanted)).unwrap();
    }
    other.host.until("it grows", |state| state.came.get(&growing.key) == Some(&Came::Growing(100))).await;
    // However long it was silent before.
    sleep(Duration::from_secs(100)).await;
    assert!(other.fabric.is_reached(one.run()));
    assert_eq!(other.host.change(|state| state.ends.len()), 0);

    network.cut(&one.member.address, &other.member.address);
    let cut = Instant::now();
    assert_eq!(other.host.end_of(&growing.key).await, PullEnd::Lost);
    assert_eq!(other.host.end_of(&unanswered).await, PullEnd::Gone);
    assert!(cut.elapsed() <= PATIENCE);
    assert!(!other.fabric.is_reached(one.run()));
    one.host.until("it is heard of no more", |state| state.heard.contains(&Heard::Forget(other.run()))).await;
    assert!(cut.elapsed() <= PATIENCE);
    eventually("it is let go of", || growing.pins() == 0).await;

    network.heal();
    let healed = Instant::now();
    eventually("it is reached", || other.fabric.is_reached(one.run())).await;
    assert!(healed.elapsed() <= LONGEST_PAUSE + Duration::from_secs(1));
    assert_eq!(other.host.change(|state| state.ends.len()), 2, "each is told once");
}

#[tokio::test(start_paused = true)]
async fn a_worker_behind_a_cut_is_away_between_attempts() {
    let (network, net) = network();
    let [one, other] = net.workers().await;
    network.cut(&one.member.address, &other.member.address);
    network.cut(&other.member.address, &one.member.address);
    eventually("it is away", || !other.fabric.is_reached(one.run())).await;
    assert!(other.fabric.pull(one.run(), pull(key("any"))).is_err());
    for _ in 0..20 {
        let begun = Instant::now();
        if other.fabric.pull(one.run(), pull(key("any"))).is_ok() {
            let ends = other.host.change(|state| state.ends.len());
            other.host.until("another end", |state| state.ends.len() > ends).await;
            assert!(begun.elapsed() <= PATIENCE);
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(other.host.change(|state| state.ends.iter().all(|(_, _, end)| *end == PullEnd::Gone)));
}

#[tokio::test(start_paused = true)]
async fn a_broken_data_channel_takes_nothing_else_with_it() {
    let (network, net) = network();
    let [one, other] = net.workers().await;
    let before = Block::growing(key("before"), 1000);
    before.grow(100);
    one.host.hold(&before);
    other.fabric.pull(one.run(), pull(before.key)).unwrap();
    other.host.until("it grows", |state| state.came.contains_key(&before.key)).await;
    network.corrupt(1);
    let changed = Block::whole(key("changed"), 1 << 20);
    one.host.hold(&changed);
    other.fabric.pull(one.run(), pull(changed.key)).unwrap();
    other.host.end_of(&changed.key).await;
    network.heal();
    before.seal();
    assert_eq!(other.host.end_of(&before.key).await, PullEnd::Whole);
    assert!(other.fabric.is_reached(one.run()));
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Of a block that is there, grows, is nowhere, or is not answered for.
    Pull {
        from: usize,
        to: usize,
        block: usize,
    },
    Stop(usize),
    Offer {
        from: usize,
        to: usize,
        block: usize,
    },
    Announce {
        from: usize,
        to: usize,
    },
    Grow(usize),
    Finish(usize),
    Answer,
    Cut {
        from: usize,
        to: usize,
    },
    Corrupt(u32),
    Break(u32),
    Heal,
    Leave(usize),
    Join,
    Wait(u64),
}

const WORKERS: usize = 3;

const BLOCKS: usize = 12;

fn step() -> impl Strategy<Value = Step> {
    let (worker, block) = (0..WORKERS, 0..BLOCKS);
    let ways = (worker.clone(), 1..WORKERS).prop_map(|(from, by)| (from, (from + by) % WORKERS));
    prop_oneof![
        12 => (ways.clone(), block.clone()).prop_map(|((from, to), block)| Step::Pull { from, to, block }),
        3 => any::<usize>().prop_map(Step::Stop),
        4 => (ways.clone(), block.clone()).prop_map(|((from, to), block)| Step::Offer { from, to, block }),
        2 => ways.clone().prop_map(|(from, to)| Step::Announce { from, to }),
        4 => block.clone().prop_map(Step::Grow),
        2 => block.prop_map(Step::Finish),
        1 => Just(Step::Answer),
        1 => ways.prop_map(|(from, to)| Step::Cut { from, to }),
        1 => (2u32..60).prop_map(Step::Corrupt),
        1 => (2u32..60).prop_map(Step::Break),
        3 => Just(Step::Heal),
        1 => worker.prop_map(Step::Leave),
        2 => Just(Step::Join),
        8 => (0u64..50).prop_map(Step::Wait),
        2 => (0u64..6000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever happens to the network, every pull ends, and ends once; bytes are right whenever they are readable, which
    /// whoever takes them sees to; and nothing is held when all is over.
    #[test]
    fn every_pull_ends_once_and_nothing_is_held(
        seed in any::<u64>(),
        delay in 0u64..20,
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let network = MemoryNetwork::new(seed);
            network.delay(Duration::ZERO, Duration::from_millis(delay));
            let mut world = World::new(network).await;
            for step in steps {
                world.take(step).await;
            }
            world.end().await;
        });
        prop_assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    }
}

struct World {
    network: MemoryNetwork,
    workers: [Worker; WORKERS],
    /// Every third one is whole from the start; one is nowhere, one is not answered for.
    blocks: Vec<Arc<Block>>,
    pulls: Vec<(usize, RunId, Key, Pulling)>,
    stopped: Vec<usize>,
}

impl World {
    async fn new(network: MemoryNetwork) -> Self {
        let net = Net::Memory(network.clone());
        let workers = net.workers().await;
        let lens = [0, 1, 3000, 20_000, 300_000, 700_000];
        let blocks: Vec<_> = (0..BLOCKS)
            .map(|number| {
                let (key, len) = (key(format!("block {number}")), lens[number % lens.len()]);
                if number.is_multiple_of(3) { Block::whole(key, len) } else { Block::growing(key, len) }
            })
            .collect();
        for worker in &workers {
            blocks[2..].iter().for_each(|block| worker.host.hold(block));
            worker.host.change(|state| state.unanswered.insert(blocks[1].key));
        }
        Self { network, workers, blocks, pulls: Vec::new(), stopped: Vec::new() }
    }

    async fn take(&mut self, step: Step) {
        let address = |worker: usize| self.workers[worker].member.address.clone();
        match step {
            Step::Pull { from, to, block } => {
                let (key, run) = (self.blocks[block].key, self.workers[from].run());
                if let Ok(pulling) = self.workers[to].fabric.pull(run, pull(key)) {
                    self.pulls.push((to, run, key, pulling));
                }
            }
            Step::Stop(pull) if !self.pulls.is_empty() => {
                let pull = pull % self.pulls.len();
                self.pulls[pull].3.stop();
                self.stopped.push(pull);
            }
            Step::Stop(_) => {}
            Step::Offer { from, to, block } => {
                let (block, run) = (&self.blocks[block], self.workers[to].run());
                let _ = self.workers[from].fabric.offer(run, &block.record(), block.source());
            }
            Step::Announce { from, to } => {
                let keys: Vec<Key> = self.blocks.iter().map(|block| block.key).collect();
                self.workers[from].fabric.announce(self.workers[to].run(), &keys);
            }
            Step::Grow(block) => self.blocks[block].grow_by_a_third(),
            Step::Finish(block) => self.blocks[block].seal(),
            Step::Answer => self.answer(),
            Step::Cut { from, to } => self.network.cut(&address(from), &address(to)),
            Step::Corrupt(one_in) => self.network.corrupt(one_in),
            Step::Break(one_in) => self.network.break_links(one_in),
            Step::Heal => self.network.heal(),
            Step::Leave(worker) => self.set_members(|other| other != worker),
            Step::Join => self.set_members(|_| true),
            Step::Wait(millis) => sleep(Duration::from_millis(millis)).await,
        }
    }

    fn set_members(&self, is_member: impl Fn(usize) -> bool) {
        let members: Vec<Member> = (0..WORKERS)
            .filter(|worker| is_member(*worker))
            .map(|worker| self.workers[worker].member.clone())
            .collect();
        self.workers.iter().for_each(|worker| worker.fabric.set_members(&members));
    }

    /// Answers what was not answered for: by the block, by nothing, or by never thinking of it again.
    fn answer(&self) {
        for worker in &self.workers {
            let askers: Vec<(Key, Asker)> = worker.host.change(|state| std::mem::take(&mut state.askers));
            for (number, (_, asker)) in askers.into_iter().enumerate() {
                match number % 3 {
                    0 => asker.open(&self.blocks[1].record(), self.blocks[1].source()),
                    1 => asker.miss(),
                    _ => drop(asker),
                }
            }
        }
    }

    /// All is well again, and all comes to its end.
    async fn end(self) {
        self.network.heal();
        self.blocks.iter().for_each(|block| block.seal());
        self.answer();
        for (worker, fellow) in self.workers.iter().enumerate() {
            let unstopped = self.pulls.iter().enumerate();
            let mut pulls: BTreeMap<(RunId, Key), (usize, usize)> = BTreeMap::new();
            for (pull, (_, from, key, _)) in unstopped.filter(|(_, (to, ..))| *to == worker) {
                let (least, most) = pulls.entry((*from, *key)).or_default();
                *most += 1;
                *least += usize::from(!self.stopped.contains(&pull));
            }
            for ((from, key), (least, most)) in pulls {
                let count = || {
                    self.answer();
                    let is_it = |end: &&(RunId, Key, PullEnd)| (end.0, end.1) == (from, key);
                    fellow.host.change(|state| state.ends.iter().filter(is_it).count())
                };
                eventually("a pull ends", || count() >= least).await;
                // Nothing more comes, however long it is waited for.
                sleep(Duration::from_secs(1)).await;
                assert!((least..=most).contains(&count()), "a pull ends once");
            }
        }
        eventually("all sources are let go of", || {
            self.answer();
            self.blocks.iter().all(|block| block.pins() == 0)
        })
        .await;
        // A source is let go of when it is on its way: what it sends may take a moment.
        eventually("what comes is whole or lost", || {
            let growing = |came: &Came| matches!(came, Came::Growing(_));
            self.workers.iter().all(|worker| !worker.host.change(|state| state.came.values().any(growing)))
        })
        .await;
        for worker in self.workers {
            worker.end().await;
        }
    }
}

fn network() -> (MemoryNetwork, Net) {
    let network = MemoryNetwork::new(1);
    (network.clone(), Net::Memory(network))
}
