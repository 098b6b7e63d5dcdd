//! [`Event`]: what those who wait are waiting for.

use chariot_types::Key;

use crate::BlockId;

/// Something that a waiting client may have waited for, in the order in which it happened.
///
/// Events say where to look, not what is there: a block may be gone again by the time its event is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A growing block appeared under `key`, or there is more of it to read.
    Readable {
        /// The block's key.
        key: Key,
        /// The block.
        block: BlockId,
    },
    /// The block is complete; also when it appeared complete.
    Sealed {
        /// The block's key.
        key: Key,
        /// The block.
        block: BlockId,
    },
    /// The block will never be complete, and is no longer found under `key`.
    Lost {
        /// The block's key.
        key: Key,
        /// The block.
        block: BlockId,
    },
    /// A block can be found under `key` from now on, growing or whole. Comes only after [`Pool::tell_of_names`].
    ///
    /// [`Pool::tell_of_names`]: crate::Pool::tell_of_names
    Published {
        /// The block's key.
        key: Key,
    },
    /// No block can be found under `key` any more. Comes only after [`Pool::tell_of_names`].
    ///
    /// [`Pool::tell_of_names`]: crate::Pool::tell_of_names
    Withdrawn {
        /// The block's key.
        key: Key,
    },
    /// Room was freed, or can be by evicting, after a grant was refused with [`NoRoom::Full`](crate::NoRoom::Full).
    /// Comes once however many were refused, and again only after another refusal.
    RoomFreed,
}
