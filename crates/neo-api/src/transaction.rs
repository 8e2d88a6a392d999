//! What a transaction carries beside its objects.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{Oid, Tid, TxnId};

/// Longest user, description or extension, in bytes: 1 MiB each.
pub const METADATA_BYTES_MAX: usize = 1 << 20;

/// What the application says of a transaction: raw bytes, kept as given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionMeta {
    /// Who did it.
    pub user: Bytes,
    /// What it did.
    pub description: Bytes,
    /// ZODB's extension: a pickled dictionary, or empty. Never interpreted here.
    pub extension: Bytes,
}

/// A committed transaction, without the data of its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRecord {
    /// Its final tid.
    pub tid: Tid,
    /// Its name before; `None` for a transaction that was restored (imported).
    pub txn: Option<TxnId>,
    /// What the application said of it.
    pub meta: TransactionMeta,
    /// Oids that it stored or deleted, in the order in which they came.
    pub oids: Vec<Oid>,
    /// ZODB's mark of a transaction that a pack has been through.
    pub packed: bool,
}
