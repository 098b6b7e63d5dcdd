//! Questions about many keys at once, and deletes, put to the other workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chariot_directory::owner;
use chariot_types::{Key, RunId};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Node;

/// How long a look-up may take; what is not known by then counts as absent.
const LOOK_PATIENCE: Duration = Duration::from_millis(100);

/// How long a delete may take at the others.
const DELETE_PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// Which of `keys` another worker holds, whole or growing: one message to each of their owners. Hands the answer to
    /// `then`, on a thread of the node's; as far as it is known in 100 ms.
    pub(crate) fn look_up(self: &Arc<Self>, keys: Vec<Key>, then: impl FnOnce(Vec<bool>) + Send + 'static) {
        let node = self.clone();
        self.spawn(async move { then(node.held_elsewhere(&keys).await) });
    }

    /// Deletes `keys` at all other workers that can be reached, and hands to `then` which there were.
    pub(crate) fn delete_elsewhere(self: &Arc<Self>, keys: Vec<Key>, then: impl FnOnce(Vec<bool>) + Send + 'static) {
        let node = self.clone();
        self.spawn(async move {
            let (count, keys) = (keys.len(), Arc::new(keys));
            let mut asked = JoinSet::new();
            for peer in node.fabric.peers() {
                let (fabric, keys) = (node.fabric.clone(), keys.clone());
                asked.spawn(async move { timeout(DELETE_PATIENCE, fabric.delete(peer.run, &keys)).await });
            }
            let mut deleted = vec![false; count];
            while let Some(answer) = asked.join_next().await {
                if let Ok(Ok(Ok(flags))) = answer {
                    deleted.iter_mut().zip(flags).for_each(|(all, one)| *all |= one);
                }
            }
            then(deleted);
        });
    }

    async fn held_elsewhere(&self, keys: &[Key]) -> Vec<bool> {
        let mut held = vec![false; keys.len()];
        let mut asked = JoinSet::new();
        for (owner, places) in self.by_owner(keys) {
            if owner == self.me {
                let state = self.state.lock();
                for place in places {
                    held[place] = state.directory.holders(&keys[place]).any(|holder| holder != self.me);
                }
                continue;
            }
            let theirs: Vec<Key> = places.iter().map(|place| keys[*place]).collect();
            let fabric = self.fabric.clone();
            asked.spawn(async move { (places, timeout(LOOK_PATIENCE, fabric.lookup(owner, &theirs)).await) });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok((places, Ok(Ok(holders)))) = answer {
                places.into_iter().zip(holders).for_each(|(place, holder)| {
                    held[place] = holder.is_some_and(|holder| holder != self.me);
                });
            }
        }
        held
    }

    /// The places in `keys` of what each worker owns.
    fn by_owner(&self, keys: &[Key]) -> BTreeMap<RunId, Vec<usize>> {
        let members = self.members();
        let mut places: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
        for (place, key) in keys.iter().enumerate() {
            if let Some(owner) = owner(&members, key) {
                places.entry(owner.run).or_default().push(place);
            }
        }
        places
    }
}
