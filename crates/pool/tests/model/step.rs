//! [`Step`]: what a client, or time, may do next.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::turns::Namespace;

/// One step of a test. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Grant {
        owner: u8,
        min: u64,
        more: u64,
    },
    GiveBack {
        owner: u8,
        region: Index,
        from: u64,
        len: u64,
    },
    Put {
        owner: u8,
        block: Draft,
    },
    Create {
        owner: u8,
        block: Draft,
    },
    Advance {
        owner: u8,
        slot: Index,
        by: u64,
    },
    Seal {
        owner: u8,
        slot: Index,
    },
    Abandon {
        owner: u8,
        slot: Index,
    },
    Pin {
        owner: u8,
        key: u8,
        growing_as_well: bool,
    },
    Unpin {
        owner: u8,
        pin: Index,
    },
    /// Pin without a call, as a client that shares the index does.
    Read {
        key: u8,
        growing_as_well: bool,
    },
    LetGo {
        pin: Index,
    },
    Delete {
        key: u8,
    },
    Drop {
        owner: u8,
    },
    Pass {
        seconds: u64,
    },
    Expire,
    SoftPin {
        key: u8,
        seconds: Option<u64>,
    },
    SoftUnpin {
        key: u8,
    },
    EvictUntilFree {
        free: u64,
        most: u64,
    },
    EvictTo {
        owner: u8,
        bytes: u64,
        most: usize,
    },
    EvictAll {
        namespace: Option<Namespace>,
    },
    Misuse {
        owner: u8,
        garbage: [u64; 2],
    },
}

/// A block to write.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) key: u8,
    pub(crate) parent: Option<u8>,
    pub(crate) len: u64,
    pub(crate) time_to_live: Option<u64>,
    /// How much room to ask for at once, in bytes over the block's.
    pub(crate) ahead: u64,
}

pub(crate) fn steps(parents: Parents) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(parents), 1..120)
}

/// Which parents blocks name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parents {
    /// As in a chain of hashes: never a circle.
    Honest,
    /// Anything.
    Hostile,
}

fn step(parents: Parents) -> impl Strategy<Value = Step> {
    let owner = 0u8..3;
    let key = 0u8..10;
    let index = any::<Index>;
    let lens = || prop_oneof![4 => 0u64..400, 2 => 3_900u64..5_000, 1 => 0u64..20_000];
    let draft = (
        key.clone(),
        proptest::option::of(key.clone()),
        lens(),
        proptest::option::weighted(0.2, 0u64..20),
        0u64..6_000,
    )
        .prop_map(move |(key, parent, len, time_to_live, ahead)| {
            let parent = parent.filter(|&parent| parents == Parents::Hostile || parent < key);
            Draft { key, parent, len, time_to_live, ahead }
        });
    prop_oneof![
        3 => (owner.clone(), lens(), 0u64..9_000).prop_map(|(owner, min, more)| Step::Grant { owner, min, more }),
        2 => (owner.clone(), index(), any::<u64>(), any::<u64>())
            .prop_map(|(owner, region, from, len)| Step::GiveBack { owner, region, from, len }),
        16 => (owner.clone(), draft.clone()).prop_map(|(owner, block)| Step::Put { owner, block }),
        6 => (owner.clone(), draft).prop_map(|(owner, block)| Step::Create { owner, block }),
        6 => (owner.clone(), index(), 0u64..5_000).prop_map(|(owner, slot, by)| Step::Advance { owner, slot, by }),
        4 => (owner.clone(), index()).prop_map(|(owner, slot)| Step::Seal { owner, slot }),
        1 => (owner.clone(), index()).prop_map(|(owner, slot)| Step::Abandon { owner, slot }),
        8 => (owner.clone(), key.clone(), any::<bool>())
            .prop_map(|(owner, key, growing_as_well)| Step::Pin { owner, key, growing_as_well }),
        6 => (owner.clone(), index()).prop_map(|(owner, pin)| Step::Unpin { owner, pin }),
        8 => (key.clone(), any::<bool>()).prop_map(|(key, growing_as_well)| Step::Read { key, growing_as_well }),
        6 => index().prop_map(|pin| Step::LetGo { pin }),
        2 => key.clone().prop_map(|key| Step::Delete { key }),
        3 => (key.clone(), proptest::option::of(0u64..20)).prop_map(|(key, seconds)| Step::SoftPin { key, seconds }),
        1 => key.prop_map(|key| Step::SoftUnpin { key }),
        2 => (0u64..60_000, 1u64..6).prop_map(|(free, most)| Step::EvictUntilFree { free, most }),
        2 => (owner.clone(), 0u64..20_000, 1usize..6)
            .prop_map(|(owner, bytes, most)| Step::EvictTo { owner, bytes, most }),
        1 => proptest::option::of(proptest::sample::select(&Namespace::ALL[..]))
            .prop_map(|namespace| Step::EvictAll { namespace }),
        1 => owner.clone().prop_map(|owner| Step::Drop { owner }),
        2 => (0u64..10).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Expire),
        2 => (owner, any::<[u64; 2]>()).prop_map(|(owner, garbage)| Step::Misuse { owner, garbage }),
    ]
}
