//! The application's merge of concurrent changes.

use std::fmt::Debug;

use bytes::Bytes;

use crate::id::{Oid, Tid};

/// Two changes of one object: what somebody else committed, and what this transaction stores.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConflictingChange {
    /// The object.
    pub oid: Oid,
    /// Revision that this transaction started from; 0 for an object that it creates.
    pub base_serial: Tid,
    /// Its data; `None` when it is deleted, or when this transaction creates the object
    /// (`base_serial` is 0).
    pub base: Option<Bytes>,
    /// Revision that was committed meanwhile.
    pub committed_serial: Tid,
    /// Its data; `None` when it is deleted.
    pub committed: Option<Bytes>,
    /// What this transaction wants to store. Deletions are not merged: their conflicts are errors.
    pub new: Bytes,
}

impl ConflictingChange {
    /// A conflict.
    #[must_use]
    pub fn new(
        oid: Oid,
        base: (Tid, Option<Bytes>),
        committed: (Tid, Option<Bytes>),
        new: Bytes,
    ) -> Self {
        Self {
            oid,
            base_serial: base.0,
            base: base.1,
            committed_serial: committed.0,
            committed: committed.1,
            new,
        }
    }
}

/// Merges two changes of one object, as ZODB's `_p_resolveConflict` does.
///
/// The client calls it on the task that waits for the vote, and holds none of its own locks: other
/// commits go on meanwhile, and may conflict again. It blocks that task's thread for as long as it
/// runs; a panic of it unwinds through `vote`. A merge that is larger than an object may be makes
/// the vote fail with `TooLarge`.
///
/// # To ensure correctness
/// - The result **must not** depend on anything but the change: it may be asked for the same
///   conflict more than once.
/// - It **must** contain both changes. Where that can't be, answer `None`: the transaction then
///   fails with a conflict, and the application redoes it.
///
/// ```
/// use bytes::Bytes;
/// use neo_api::{ConflictResolver, ConflictingChange, Oid, Tid};
///
/// /// Objects are numbers, 8 bytes each, to which something is added.
/// #[derive(Debug)]
/// struct Counters;
///
/// fn number(data: &[u8]) -> Option<u64> {
///     data.try_into().ok().map(u64::from_be_bytes)
/// }
///
/// impl ConflictResolver for Counters {
///     fn resolve(&self, change: &ConflictingChange) -> Option<Bytes> {
///         let base = number(change.base.as_ref()?)?;
///         let committed = number(change.committed.as_ref()?)?;
///         let added = number(&change.new)?.checked_sub(base)?;
///         Some(committed.checked_add(added)?.to_be_bytes().to_vec().into())
///     }
/// }
///
/// let data = |n: u64| Bytes::from(n.to_be_bytes().to_vec());
/// let (base, theirs) = ((Tid(1), Some(data(10))), (Tid(2), Some(data(15))));
/// let change = ConflictingChange::new(Oid(7), base, theirs, data(12));
/// assert_eq!(Counters.resolve(&change), Some(data(17)));
/// ```
pub trait ConflictResolver: Debug + Send + Sync + 'static {
    /// The merged data, or `None` when the changes can't be merged.
    fn resolve(&self, change: &ConflictingChange) -> Option<Bytes>;
}
