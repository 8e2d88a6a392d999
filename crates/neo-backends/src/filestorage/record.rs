//! What a file holds, as it is read and written.

use bytes::Bytes;
use neo_api::{Oid, Tid, TransactionMeta};

use super::format::Status;

/// A transaction of the file, without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its tid, greater than that of the transaction before.
    pub tid: Tid,
    /// Whether a pack has been through it.
    pub status: Status,
    /// User, description and extension, as stored.
    pub meta: TransactionMeta,
    /// Position of its first byte.
    pub offset: u64,
    /// Bytes that it takes in the file: the next one begins at `offset + length`.
    pub length: u64,
}

/// A record: what a transaction did to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The object.
    pub oid: Oid,
    /// Its new state.
    pub data: Data,
}

/// The state that a record gives its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A new state.
    Data(Bytes),
    /// The state of an earlier revision, as an undo writes it.
    BackPointer {
        /// Tid of the revision that the record points to, ZODB's `data_txn`. That revision may
        /// itself point back further.
        data_tid: Tid,
        /// The state, from the end of the chain of back pointers.
        data: Bytes,
    },
    /// None: the object is deleted, or its creation undone.
    Deleted {
        /// Tid of the earlier deletion that the record repeats, if it points to one.
        data_tid: Option<Tid>,
    },
}

/// The state to give an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewData<'a> {
    /// A new state, of at least one byte.
    Data(&'a [u8]),
    /// The state of an earlier revision, that must be in the file.
    BackPointer {
        /// Tid of that revision.
        data_tid: Tid,
    },
    /// None: the object is deleted, or its creation undone.
    Deleted,
}

impl<'a> From<&'a Data> for NewData<'a> {
    /// What writes the same record into a copy of the file.
    fn from(data: &'a Data) -> Self {
        match *data {
            Data::Data(ref data) => Self::Data(data),
            Data::BackPointer { data_tid, .. }
            | Data::Deleted {
                data_tid: Some(data_tid),
            } => Self::BackPointer { data_tid },
            Data::Deleted { data_tid: None } => Self::Deleted,
        }
    }
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With a whole transaction, or it has none.
    Clean,
    /// With a part of a transaction, whose writer was interrupted. ZODB ignores it, and cuts it
    /// off when it next writes; so do this reader and [`Writer::append`](super::Writer::append).
    Incomplete {
        /// Where that transaction begins.
        offset: u64,
    },
}
