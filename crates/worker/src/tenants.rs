//! [`Tenants`]: the pools behind one door, and to which of them a connection belongs.
//!
//! A tenant is a worker of its own in all but its address and its process: it has an arena, an index, a socket, a part of
//! the disk and a cluster of its own. Nothing that serves one can name another.

use std::sync::Arc;

use chariot_types::Token;

use crate::node::Node;
use crate::shared::Shared;

/// The pools behind one door.
pub(crate) struct Tenants {
    pools: Vec<Pool>,
}

#[derive(Clone)]
struct Pool {
    /// Whoever shows it is let in; everyone is, where there is none.
    token: Option<Token>,
    shared: Arc<Shared>,
}

impl Tenants {
    /// A pool for everyone.
    pub(crate) fn none(shared: Arc<Shared>) -> Self {
        Self { pools: vec![Pool { token: None, shared }] }
    }

    /// A pool for each tenant, of which there is one at least.
    pub(crate) fn of(pools: impl IntoIterator<Item = (Token, Arc<Shared>)>) -> Self {
        let pools = pools.into_iter().map(|(token, shared)| Pool { token: Some(token), shared });
        Self { pools: pools.collect() }
    }

    /// The doors behind each of which there is only one of the pools.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&Arc<Shared>, Self)> {
        self.pools.iter().map(|pool| (&pool.shared, Self { pools: vec![pool.clone()] }))
    }

    /// All pools.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.pools.iter().map(|pool| &pool.shared)
    }

    /// What is the same for all of them is asked of this one, and what concerns none is counted there.
    pub(crate) fn first(&self) -> &Arc<Shared> {
        &self.pools[0].shared
    }

    /// The pool of a client that shows this token.
    pub(crate) fn of_client(&self, shown: &[u8]) -> Option<&Arc<Shared>> {
        // All are compared, so that the time tells nothing of which is near.
        let is_let_in = |pool: &&Pool| pool.token.as_ref().is_none_or(|token| token.is(shown));
        self.pools.iter().filter(is_let_in).fold(None, |_, pool| Some(&pool.shared))
    }

    /// The part of a worker of that cluster.
    pub(crate) fn of_cluster(&self, name: &str) -> Option<Arc<Node>> {
        self.pools.iter().filter_map(|pool| pool.shared.node()).find(|node| node.cluster() == name)
    }
}
