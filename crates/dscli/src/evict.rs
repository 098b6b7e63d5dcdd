//! `dscli evict`: makes a worker let go of blocks.

use chariot_client::{Client, Evict};
use chariot_types::NamespaceName;
use clap::Args;

use crate::keys::Keys;
use crate::options::{At, client_options};
use crate::status::bytes;
use crate::{Failure, report};

/// Make a worker let go of blocks: some, a namespace's, all, or as many as it takes
///
/// Nothing that runs breaks: who reads a block reads on, and what is not found is computed again. Blocks that are being
/// read or written stay, unless they are named. In a cluster, other workers keep what they hold; and what is on the worker's
/// disk (`dscli start --spill_directory`) stays there, and comes back from there when it is asked for.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct RunEvict {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    keys: Keys,
    /// All blocks of this namespace: `dscli status` lists them
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["keys", "names", "all", "until_free_mb"])]
    namespace: Option<NamespaceName>,
    /// All blocks, soft-pinned or not
    #[arg(long, conflicts_with_all = ["keys", "names", "until_free_mb"])]
    all: bool,
    /// Until so many megabytes (2^20 bytes) are free: those first that would go next anyway, soft-pinned ones last
    #[arg(long, value_name = "N", conflicts_with_all = ["keys", "names"],
        value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    until_free_mb: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  dscli evict --until_free_mb 4096
  dscli evict --namespace Qwen/Qwen2.5-7B-Instruct
  dscli evict --name greeting
  dscli evict --all --worker_address 10.0.0.7:31501";

impl RunEvict {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (keys, address) = (self.keys.all(), &self.at.worker_address);
        let what = match (&self.namespace, self.until_free_mb) {
            (Some(namespace), _) => Evict::Namespace(namespace),
            (None, Some(megabytes)) => Evict::UntilFree(megabytes << 20),
            (None, None) if self.all => Evict::All,
            (None, None) if self.keys.are_none() => {
                return Err(Failure::usage("`dscli evict` is not told what to evict").hint(
                    "name blocks, or add `--namespace NAMESPACE`, `--until_free_mb N` or `--all`: see `dscli evict --help`",
                ));
            }
            (None, None) => Evict::Keys(&keys),
        };
        let failed = |error| Failure::of_client(error, address);
        let options = client_options("dscli evict")?;
        let client = Client::connect(address, options).map_err(failed)?;
        let before = client.status().map_err(failed)?;
        if let Some(namespace) = &self.namespace
            && !before.namespaces.iter().any(|known| known.name == namespace.as_str())
        {
            let known: Vec<_> = before.namespaces.iter().map(|known| format!("`{}`", known.name)).collect();
            let known = if known.is_empty() { "it holds no block at all".to_owned() } else { known.join(", ") };
            return Err(Failure::text(format!("the worker has no namespace `{namespace}`"))
                .hint(format!("those that it has: {known}")));
        }
        let evicted = client.evict(what).map_err(failed)?;
        let now = client.status().map_err(failed)?;
        report::say(&format!(
            "evicted {evicted} blocks; {} of {} free",
            bytes(now.free_bytes),
            bytes(now.capacity_bytes)
        ));
        match self.until_free_mb.map(|megabytes| megabytes << 20) {
            Some(wanted) if now.free_bytes < wanted => Err(Failure::text(format!(
                "{} are not free: what is left is read, written, or granted to clients",
                bytes(wanted)
            ))
            .hint("`dscli status` tells how much; it goes when its clients are done or gone")),
            _ => Ok(()),
        }
    }
}
