//! [`Namespaces`]: whose blocks the published ones are, how much each may hold, and who is over it.

use std::cmp::Ordering;
use std::collections::HashMap;

use chariot_types::NamespaceName;
use foldhash::fast::RandomState;

use crate::Tally;
use crate::evict::Lane;

/// More names than this are told apart no more: who comes later shares a namespace with those who say none.
const MOST: usize = 1024;

/// A namespace of this pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct NamespaceId(u16);

impl NamespaceId {
    /// Its place among the names.
    pub(crate) fn number(self) -> u16 {
        self.0
    }
}

/// How a namespace is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceStats {
    /// What it is called.
    pub name: NamespaceName,
    /// Its blocks that can be found.
    pub held: Tally,
    /// Bytes it may hold when others want room; `None` for as many as others leave.
    pub quota: Option<u64>,
}

/// All namespaces, and what they hold.
#[derive(Debug)]
pub(crate) struct Namespaces {
    all: Vec<Entry>,
    by_name: HashMap<NamespaceName, NamespaceId, RandomState>,
    /// Those with a quota, each with a lane of its own.
    with_quota: Vec<NamespaceId>,
}

#[derive(Debug)]
struct Entry {
    stats: NamespaceStats,
    lane: Lane,
}

impl Default for Namespaces {
    /// One, of those who say none.
    fn default() -> Self {
        let mut namespaces = Self { all: Vec::new(), by_name: HashMap::default(), with_quota: Vec::new() };
        namespaces.id(&NamespaceName::default());
        namespaces
    }
}

impl Namespaces {
    /// The namespace called `name`, which comes into being if there is none.
    pub(crate) fn id(&mut self, name: &NamespaceName) -> NamespaceId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        if self.all.len() == MOST {
            return NamespaceId::default();
        }
        let id = NamespaceId(self.all.len() as u16);
        let stats = NamespaceStats { name: name.clone(), held: Tally::default(), quota: None };
        self.all.push(Entry { stats, lane: Lane::COMMON });
        self.by_name.insert(name.clone(), id);
        id
    }

    /// What they are called, in the order of their numbers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &NamespaceName> {
        self.all.iter().map(|entry| &entry.stats.name)
    }

    /// The namespace called `name`, if there is one.
    pub(crate) fn find(&self, name: &NamespaceName) -> Option<NamespaceId> {
        self.by_name.get(name).copied()
    }

    /// What a namespace is called.
    pub(crate) fn name(&self, id: NamespaceId) -> &NamespaceName {
        &self.all[usize::from(id.0)].stats.name
    }

    /// From now on the namespace has a quota. Blocks that it has already stay in the lane where they are.
    pub(crate) fn set_quota(&mut self, id: NamespaceId, quota: u64) {
        let entry = &mut self.all[usize::from(id.0)];
        if entry.stats.quota.replace(quota).is_none() {
            self.with_quota.push(id);
            entry.lane = Lane::own(self.with_quota.len());
        }
    }

    pub(crate) fn lane(&self, id: NamespaceId) -> Lane {
        self.all[usize::from(id.0)].lane
    }

    /// A block was published.
    pub(crate) fn came(&mut self, id: NamespaceId, bytes: u64) {
        let held = &mut self.all[usize::from(id.0)].stats.held;
        held.blocks += 1;
        held.bytes += bytes;
    }

    /// A block was withdrawn.
    pub(crate) fn went(&mut self, id: NamespaceId, bytes: u64) {
        let held = &mut self.all[usize::from(id.0)].stats.held;
        held.blocks -= 1;
        held.bytes -= bytes;
    }

    /// In which order blocks go: of those who hold more than their quota, who is furthest over it first; then of all who
    /// have none; then of those within their quota, who is nearest to it first. So nobody's flood takes what is within
    /// another's quota while anything else may go, and room that nobody wants is anybody's.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        if self.with_quota.is_empty() {
            return vec![Lane::COMMON];
        }
        let mut shares: Vec<Share> = self.with_quota.iter().map(|id| self.share(*id)).collect();
        shares.sort_by(|one, other| other.fullness(one));
        let over = shares.partition_point(|share| share.held > share.quota);
        let (over, within) = shares.split_at(over);
        let lane = |share: &Share| share.lane;
        over.iter().map(lane).chain([Lane::COMMON]).chain(within.iter().map(lane)).collect()
    }

    /// Those that hold blocks or have a quota.
    pub(crate) fn stats(&self) -> Vec<NamespaceStats> {
        let stats = self.all.iter().map(|entry| &entry.stats);
        stats.filter(|stats| stats.held.blocks > 0 || stats.quota.is_some()).cloned().collect()
    }

    fn share(&self, id: NamespaceId) -> Share {
        let Entry { stats, lane } = &self.all[usize::from(id.0)];
        Share { held: stats.held.bytes, quota: stats.quota.unwrap_or(u64::MAX), lane: *lane }
    }
}

/// What a namespace holds of its quota.
struct Share {
    held: u64,
    quota: u64,
    lane: Lane,
}

impl Share {
    /// Whether more of this quota is held than of the other.
    fn fullness(&self, other: &Self) -> Ordering {
        let of = |held: u64, quota: u64| u128::from(held) * u128::from(quota);
        // Who may hold nothing and does is fuller than all others.
        match (self.quota, other.quota) {
            (0, 0) => self.held.cmp(&other.held),
            (0, _) if self.held > 0 => Ordering::Greater,
            (_, 0) if other.held > 0 => Ordering::Less,
            _ => of(self.held, other.quota).cmp(&of(other.held, self.quota)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NamespaceName {
        text.parse().unwrap()
    }

    /// Namespaces that hold so much of such a quota; the lanes of their blocks in the order in which they go.
    fn order<const COUNT: usize>(shares: [(u64, u64); COUNT]) -> Vec<usize> {
        let mut namespaces = Namespaces::default();
        let mut lanes = Vec::new();
        for (number, (held, quota)) in shares.into_iter().enumerate() {
            let id = namespaces.id(&name(&number.to_string()));
            namespaces.set_quota(id, quota);
            namespaces.came(id, held);
            lanes.push(namespaces.lane(id));
        }
        let number = |lane: &Lane| lanes.iter().position(|own| own == lane).unwrap_or(COUNT);
        namespaces.lanes().iter().map(number).collect()
    }

    #[test]
    fn who_is_furthest_over_the_quota_goes_first_and_who_is_furthest_below_last() {
        assert_eq!(order([(10, 100), (300, 100), (99, 100), (150, 100)]), [1, 3, 4, 2, 0]);
        assert_eq!(order([(1000, 2000), (100, 90)]), [1, 2, 0], "what counts is the part of the quota");
        assert_eq!(order([(u64::MAX, u64::MAX), (u64::MAX, u64::MAX - 1)]), [1, 2, 0]);
    }

    #[test]
    fn who_may_hold_nothing_goes_before_all_others() {
        assert_eq!(order([(1 << 40, 1), (64, 0)]), [1, 0, 2]);
        assert_eq!(order([(50, 100), (0, 0)])[0], 2, "and has nothing to lose otherwise");
    }

    #[test]
    fn names_beyond_the_most_are_one() {
        let mut namespaces = Namespaces::default();
        let ids: Vec<_> = (0..2 * MOST).map(|number| namespaces.id(&name(&number.to_string()))).collect();
        assert_eq!(namespaces.all.len(), MOST);
        assert_eq!(ids[2 * MOST - 1], NamespaceId::default());
        assert_eq!(namespaces.id(&name("5")), ids[5]);
    }
}
