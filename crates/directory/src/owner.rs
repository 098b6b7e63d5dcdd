//! [`owner()`]: the one worker that knows who holds a key.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998): each member's run gives the key a score, and the greatest wins. A
//! member that leaves hands over its own keys alone, and one that joins takes only what becomes its own.

use chariot_types::{Key, Member, RunId};

use crate::mix::{avalanche, word};
use crate::part::Part;

/// The owner of `key` among `members`, in whichever order they come; `None` when there are none.
///
/// All workers with the same members agree, whatever their release. It depends on the first half of the key alone.
pub fn owner<'a>(members: &'a [Member], key: &Key) -> Option<&'a Member> {
    let key = word(&Part::of(key).0);
    members.iter().max_by_key(|member| (score(member.run, key), member.run))
}

/// Whether `me` owns the key with this half among `members`.
pub(crate) fn owns(me: RunId, members: &[RunId], part: Part) -> bool {
    let key = word(&part.0);
    members.iter().max_by_key(|run| (score(**run, key), **run)) == Some(&me)
}

fn score(run: RunId, key: u64) -> u64 {
    avalanche(word(run.as_bytes()) ^ key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(runs: impl IntoIterator<Item = [u8; 16]>) -> Vec<Member> {
        let address = |at: usize| format!("node{at}:31501").parse().unwrap();
        let runs = runs.into_iter().map(RunId::from_bytes).enumerate();
        runs.map(|(at, run)| Member { run, address: address(at) }).collect()
    }

    fn keys(count: u64) -> impl Iterator<Item = Key> {
        (0..count).map(|number| Key::of_name(&number.to_le_bytes()))
    }

    fn some_runs() -> impl Strategy<Value = Vec<[u8; 16]>> {
        proptest::collection::btree_set(any::<[u8; 16]>(), 2..12).prop_map(Vec::from_iter)
    }

    /// The most and the least that one of `members` owns, as multiples of a fair share.
    fn spread(members: &[Member], keys: impl Iterator<Item = Key>) -> (f64, f64) {
        let mut owned = vec![0u32; members.len()];
        for key in keys {
            let owner = owner(members, &key).unwrap();
            owned[members.iter().position(|member| member == owner).unwrap()] += 1;
        }
        let fair = f64::from(owned.iter().sum::<u32>()) / members.len() as f64;
        (f64::from(*owned.iter().min().unwrap()) / fair, f64::from(*owned.iter().max().unwrap()) / fair)
    }

    proptest! {
        #[test]
        fn every_node_agrees_on_the_owner((runs, shuffled) in some_runs().prop_flat_map(|runs| (Just(runs.clone()), Just(runs).prop_shuffle()))) {
            let (here, there) = (members(runs), members(shuffled));
            for key in keys(200) {
                prop_assert_eq!(owner(&here, &key).unwrap().run, owner(&there, &key).unwrap().run);
                let runs: Vec<RunId> = there.iter().map(|member| member.run).collect();
                let owners = runs.iter().filter(|run| owns(**run, &runs, Part::of(&key)));
                prop_assert_eq!(owners.collect::<Vec<_>>(), vec![&owner(&here, &key).unwrap().run]);
            }
        }

        #[test]
        fn a_member_that_leaves_or_joins_moves_only_its_own_keys(runs in some_runs(), at in any::<prop::sample::Index>()) {
            let all = members(runs);
            let one = &all[at.index(all.len())];
            let others: Vec<Member> = all.iter().filter(|member| *member != one).cloned().collect();
            for key in keys(500) {
                let (with, without) = (owner(&all, &key).unwrap(), owner(&others, &key).unwrap());
                prop_assert!(with == without || with == one);
            }
        }
    }

    #[test]
    fn keys_are_spread_evenly_also_over_runs_that_look_alike() {
        for count in [2, 3, 5, 16] {
            let alike = members((0..count).map(|run| [0, 0, 0, 0, 0, 0, 0, 0, run, 0, 0, 0, 0, 0, 0, 0]));
            let random = members((0..count).map(|run| *Key::of_name(&[run]).as_bytes().first_chunk().unwrap()));
            let counted = |number: u64| {
                Key::from_bytes(std::array::from_fn(|at| if at == 9 { 7 } else { (number >> (8 * (at % 4))) as u8 }))
            };
            for members in [alike, random] {
                let (least, most) = spread(&members, keys(20_000));
                assert!(least > 0.85 && most < 1.15, "{count} members own from {least} to {most} of their share");
                let (least, most) = spread(&members, (0..20_000).map(counted));
                assert!(least > 0.85 && most < 1.15, "{count} members own from {least} to {most} of their share");
            }
        }
    }

    #[test]
    fn owners_do_not_change_between_releases() {
        let members = members([1, 2, 3].map(|run| [run; 16]));
        let owners: String =
            keys(32).map(|key| owner(&members, &key).unwrap().address.host()[4..].to_owned()).collect();
        assert_eq!(owners, OWNERS_OF_THE_FIRST_RELEASE);
        assert_eq!(owner(&[], &Key::of_name(b"any")), None);
    }

    const OWNERS_OF_THE_FIRST_RELEASE: &str = "02222211200202210102011212002000";
}
