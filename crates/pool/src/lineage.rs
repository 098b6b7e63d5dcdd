//! [`Lineage`]: how many published blocks name a key as their parent.
//!
//! Counted by key, not by block: a child may come before its parent, and a parent may go (deleted, expired) and come
//! back while its children stay.

use std::collections::HashMap;

use chariot_types::Key;
use foldhash::fast::RandomState;

/// How many published blocks name a key as their parent; keys without any are not kept.
#[derive(Default, Debug)]
pub(crate) struct Lineage {
    children: HashMap<Key, u64, RandomState>,
}

/// What became of a parent that a child went away from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parent {
    HasOthers,
    Childless,
}

impl Lineage {
    pub(crate) fn child_came(&mut self, parent: Key) {
        *self.children.entry(parent).or_default() += 1;
    }

    pub(crate) fn child_went(&mut self, parent: &Key) -> Parent {
        match self.children.get_mut(parent) {
            Some(count) if *count > 1 => {
                *count -= 1;
                Parent::HasOthers
            }
            _ => {
                self.children.remove(parent);
                Parent::Childless
            }
        }
    }

    pub(crate) fn has_children(&self, key: &Key) -> bool {
        self.children.contains_key(key)
    }
}
