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

/// Most objects that a pack of some of them names.
pub const PACK_OIDS_MAX: usize = 100_000;

/// An order to pack: of each object that it concerns, revisions that were replaced up to some tid
/// go.
///
/// Of an object, let `r` be its newest revision at or below `at`: all before `r` go, and `r` as
/// well when it is a deletion. It is the order of the transaction with which it was committed, whose
/// tid is above `at` and names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackOrder {
    /// What is newest at this tid stays.
    pub at: Tid,
    /// The objects, in order; at most [`PACK_OIDS_MAX`]. `None`: all.
    pub oids: Option<Vec<Oid>>,
}

impl PackOrder {
    /// Whether it concerns an object.
    #[must_use]
    pub fn concerns(&self, oid: Oid) -> bool {
        self.oids
            .as_ref()
            .is_none_or(|oids| oids.binary_search(&oid).is_ok())
    }

    /// Whether it names no more objects than it may, in order and each once.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.oids.as_ref().is_none_or(|oids| {
            oids.len() <= PACK_OIDS_MAX && oids.is_sorted_by(|one, next| one < next)
        })
    }
}

/// What a node that keeps a transaction's metadata writes of it when it votes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VotedRecord {
    /// What the application says of it.
    pub meta: TransactionMeta,
    /// Oids that it stores or deletes, in the order in which they came.
    pub oids: Vec<Oid>,
    /// ZODB's mark of a transaction that a pack has been through, where it is restored from.
    pub packed: bool,
    /// What it orders, if it does.
    pub pack: Option<PackOrder>,
}

impl VotedRecord {
    /// About how many bytes it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        weight(&self.meta, &self.oids, self.pack.as_ref())
    }
}

impl From<(TransactionMeta, Vec<Oid>)> for VotedRecord {
    fn from((meta, oids): (TransactionMeta, Vec<Oid>)) -> Self {
        Self {
            meta,
            oids,
            packed: false,
            pack: None,
        }
    }
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
    /// What it ordered, if it did.
    pub pack: Option<PackOrder>,
}

impl TransactionRecord {
    /// About how many bytes it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        weight(&self.meta, &self.oids, self.pack.as_ref())
    }

    /// Whether only its name is left: packs removed all that it wrote. The name stays for a while,
    /// for a client that has not heard that the transaction is committed.
    #[must_use]
    pub const fn is_emptied(&self) -> bool {
        self.packed && self.oids.is_empty() && self.txn.is_some()
    }
}

fn weight(meta: &TransactionMeta, oids: &[Oid], pack: Option<&PackOrder>) -> usize {
    let pack = pack.map_or(0, |order| 16 + 8 * order.oids.as_ref().map_or(0, Vec::len));
    oids.len() * 8 + meta.user.len() + meta.description.len() + meta.extension.len() + pack
}
