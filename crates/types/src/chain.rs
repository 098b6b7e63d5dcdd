//! [`Namespace`] and [`KeyChain`]: keys of KV-cache blocks, computed from content alone.
//!
//! A block's key is a hash of its namespace, its parent's key, the token ids it holds and whatever else its bytes
//! depend on (LoRA, multimodal inputs, a cache salt). Two engines that never met compute the same key for the same
//! block, and different bytes never share a key: a namespace binds the model, data type, layout, KV-cache group and
//! shard, and the chain binds every token before.

use crate::Key;

/// What every key of one kind of KV-cache block has in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Namespace(Key);

impl Namespace {
    /// The namespace that `description` stands for: every fact on which the bytes of a block depend besides its
    /// tokens, in a canonical form that the caller chooses (the connector uses sorted JSON).
    pub fn new(description: &[u8]) -> Self {
        let hash =
            blake3::Hasher::new_derive_key("chariot 2026 namespace of KV-cache blocks").update(description).finalize();
        Self(Key::from_bytes(*hash.as_bytes()))
    }

    /// A chain that starts before the first token.
    pub fn chain(self) -> KeyChain {
        KeyChain { namespace: self, tip: None }
    }

    /// The key of the block that holds `tokens` and follows `parent`.
    ///
    /// `extra` is what else the block's bytes depend on, empty for plain text. The encoding is unambiguous: lengths
    /// precede what they count.
    pub fn block_key(self, parent: Option<Key>, tokens: &[u32], extra: &[u8]) -> Key {
        let mut hasher = blake3::Hasher::new_derive_key("chariot 2026 key of a KV-cache block");
        hasher.update(self.0.as_bytes());
        match parent {
            None => hasher.update(&[0]),
            Some(parent) => hasher.update(&[1]).update(parent.as_bytes()),
        };
        hasher.update(&(tokens.len() as u64).to_le_bytes());
        for run in tokens.chunks(64) {
            let mut bytes = [0u8; 256];
            for (four, token) in bytes.chunks_exact_mut(4).zip(run) {
                four.copy_from_slice(&token.to_le_bytes());
            }
            hasher.update(&bytes[..run.len() * 4]);
        }
        hasher.update(&(extra.len() as u64).to_le_bytes()).update(extra);
        Key::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// The keys of one sequence's blocks, computed block after block.
#[derive(Clone, Copy, Debug)]
pub struct KeyChain {
    namespace: Namespace,
    tip: Option<Key>,
}

impl KeyChain {
    /// The chain that goes on after the block called `tip`.
    pub fn resume(namespace: Namespace, tip: Option<Key>) -> Self {
        Self { namespace, tip }
    }

    /// The last full block's key; `None` before the first.
    pub fn tip(&self) -> Option<Key> {
        self.tip
    }

    /// The key of the next, full block; the chain moves on to it.
    pub fn push(&mut self, tokens: &[u32], extra: &[u8]) -> Key {
        let key = self.namespace.block_key(self.tip, tokens, extra);
        self.tip = Some(key);
        key
    }

    /// The key of the next block while it is only partly filled with `tokens`; the chain stays where it is, because
    /// a block that fills up later gets another key.
    pub fn partial(&self, tokens: &[u32], extra: &[u8]) -> Key {
        self.namespace.block_key(self.tip, tokens, extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_that_differ_in_anything_have_different_keys(
            left in (any::<bool>(), proptest::collection::vec(0u32..4, 0..4), proptest::collection::vec(0u8..3, 0..3)),
            right in (any::<bool>(), proptest::collection::vec(0u32..4, 0..4), proptest::collection::vec(0u8..3, 0..3)),
        ) {
            let namespace = Namespace::new(b"model");
            let parent = Some(Key::of_name(b"parent"));
            let key = |(child, tokens, extra): &(bool, Vec<u32>, Vec<u8>)| {
                namespace.block_key(child.then_some(parent).flatten(), tokens, extra)
            };
            prop_assert_eq!(key(&left) == key(&right), left == right);
        }

        #[test]
        fn a_chain_cut_anywhere_goes_on_to_the_same_keys(tokens in proptest::collection::vec(any::<u32>(), 0..400), cut in 0usize..25) {
            let namespace = Namespace::new(b"model");
            let whole: Vec<Key> = { let mut chain = namespace.chain(); tokens.chunks_exact(16).map(|block| chain.push(block, b"")).collect() };
            let cut = cut.min(whole.len());
            let mut rest = KeyChain::resume(namespace, cut.checked_sub(1).map(|last| whole[last]));
            let tail: Vec<Key> = tokens[cut * 16..].chunks_exact(16).map(|block| rest.push(block, b"")).collect();
            prop_assert_eq!(&whole[cut..], &tail[..]);
        }
    }

    #[test]
    fn another_namespace_gives_other_keys() {
        assert_ne!(Namespace::new(b"a").chain().push(&[1], b""), Namespace::new(b"b").chain().push(&[1], b""));
    }

    #[test]
    fn keys_do_not_change_between_releases() {
        // Workers of two releases share a cluster: a change here must come with another context string.
        let key = Namespace::new(b"model").block_key(None, &[1, 2, 3], b"salt");
        assert_eq!(key.to_string(), KEY_OF_THE_FIRST_RELEASE);
    }

    const KEY_OF_THE_FIRST_RELEASE: &str = "e696de6eba3e80a58687e7340d981681761c909be594bf618e5fc671b5afa63a";
}
