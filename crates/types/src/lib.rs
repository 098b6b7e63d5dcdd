//! The vocabulary that every other crate shares: what names a block, where it lies, where a worker is.
//!
//! Nothing here does I/O, allocates an arena or knows a protocol.

mod address;
mod causes;
mod chain;
mod extent;
mod key;
mod member;
mod namespace_name;
mod tenant;

pub use address::{AddressError, WorkerAddress};
pub use causes::WithCauses;
pub use chain::{KeyChain, Namespace};
pub use extent::{Carved, Extent};
pub use key::{Key, KeyError};
pub use member::{Member, RunId, RunIdError};
pub use namespace_name::{NamespaceName, NamespaceNameError};
pub use tenant::{TenantName, TenantNameError, Token, TokenError};
