//! The short way: an ordered key-value engine.

use std::fmt::Debug;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::batch::Durability;
use super::error::BackendResult;

/// A key space of its own; engines with named trees or tables use one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Space {
    /// Configuration and the partition table.
    Config = 0,
    /// Revisions by (partition, oid, tid).
    Objects = 1,
    /// Revisions by (partition, tid, oid).
    History = 2,
    /// Transactions by (partition, tid).
    Transactions = 3,
    /// Values by data id.
    Data = 4,
    /// Unfinished transactions by name.
    Unfinished = 5,
    /// Objects of unfinished transactions by (name, oid).
    Pending = 6,
    /// Loose values by (name, data id).
    Loose = 7,
    /// Values that are kept once for all that are equal, by checksum.
    Shared = 8,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 9] = [
        Self::Config,
        Self::Objects,
        Self::History,
        Self::Transactions,
        Self::Data,
        Self::Unfinished,
        Self::Pending,
        Self::Loose,
        Self::Shared,
    ];

    /// A name for a tree or table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Objects => "objects",
            Self::History => "history",
            Self::Transactions => "transactions",
            Self::Data => "data",
            Self::Unfinished => "unfinished",
            Self::Pending => "pending",
            Self::Loose => "loose",
            Self::Shared => "shared",
        }
    }
}

/// Bounds of a scan, in the order of bytes.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Direction of a scan or listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Order {
    /// From the least.
    Ascending,
    /// From the greatest.
    Descending,
}

/// One write of a [`KvBatch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvOp {
    /// Sets a key.
    Put(Space, #[serde(with = "serde_bytes")] Vec<u8>, Bytes),
    /// Removes a key, if it is there.
    Delete(Space, #[serde(with = "serde_bytes")] Vec<u8>),
}

/// Writes that take effect together or not at all; a later one of the same key wins.
///
/// For engines that keep a log, it can be serialized: with the names of spaces and writes, which do
/// not change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvBatch {
    /// In order.
    pub ops: Vec<KvOp>,
}

/// An ordered key-value store with atomic, durable batches: all that `KvBackend` needs.
///
/// Calls are synchronous; they run on threads of a `neo_backends::Worker`, so an engine may block;
/// with `KvBackend::local`, reads run on the threads of those who ask as well.
/// Keys are 1 to 64 bytes; values at most 18 bytes longer than an object, which has at most
/// [`OBJECT_BYTES_MAX`](crate::OBJECT_BYTES_MAX), 64 MiB. There is nothing to close: `KvBackend`
/// ends with an empty `Synced` batch and drops the engine, which frees the database.
///
/// # To ensure correctness
/// - `apply` **must** be atomic, to readers and across a crash.
/// - One thread at a time calls `apply`; others call `get` and `scan` meanwhile, and each call
///   **must** see a state between two batches.
/// - After `apply` with [`Durability::Synced`], that batch and all before it **must** survive a
///   loss of power; after a crash a prefix of the batches **must** remain.
/// - An error of `apply` means that it had no effect. When that can't be known (a failed sync),
///   every later call **must** fail with [`BackendError::Closed`](super::BackendError::Closed).
/// - Two nodes **must not** have one database open at the same time: what opens an engine takes a
///   lock, or fails with [`BackendError::InUse`](super::BackendError::InUse).
pub trait KvEngine: Debug + Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// As rule 9 of [`StorageBackend`](super::StorageBackend) has it.
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>>;

    /// At most `limit` keys of a range with their values, in the order asked.
    ///
    /// The lower bound is never above the upper one, but a range may be empty. `limit` may be 0,
    /// for nothing, and `usize::MAX`, for all.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>>;

    /// Bytes that the database takes, more or less.
    ///
    /// Reads all of it, unless an engine knows better.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn bytes(&self) -> BackendResult<u64> {
        const PAGE: usize = 1_000;
        let mut bytes = 0;
        for space in Space::ALL {
            let mut from = Bound::Unbounded;
            loop {
                let range = (from, Bound::Unbounded);
                let page = self.scan(space, range, Order::Ascending, PAGE)?;
                let pairs = page.iter().map(|(key, value)| key.len() + value.len());
                bytes += pairs.sum::<usize>() as u64;
                match page.last() {
                    Some((last, _)) if page.len() == PAGE => from = Bound::Excluded(last.to_vec()),
                    _ => break,
                }
            }
        }
        Ok(bytes)
    }

    /// Applies a batch. An empty one that is `Synced` makes everything before it durable.
    ///
    /// # Errors
    /// [`BackendError::Full`](super::BackendError::Full) or `Unavailable` when nothing was written,
    /// and it may work later; after `Failed` or `Corrupt` the node ends.
    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()>;
}

/// A shared engine: whoever built it can look at it while a backend uses it.
impl<E: KvEngine + ?Sized> KvEngine for Arc<E> {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        (**self).get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        (**self).scan(space, range, order, limit)
    }

    fn bytes(&self) -> BackendResult<u64> {
        (**self).bytes()
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        (**self).apply(batch, durability)
    }
}
