//! The parts that messages are made of.

use std::fmt;

use bytes::Bytes;
use neo_api::{
    Address, Checksum, ClusterId, Compression, Epoch, NodeId, NodeState, NodeType, Oid, PackOrder,
    Partition, Reign, RevisionId, SessionId, TableVersion, Tid, TransactionMeta, TransactionRecord,
    TxnId,
};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list of oids, 8 bytes each on the wire: transactions have up to two million.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Oids(pub Vec<Oid>);

impl fmt::Debug for Oids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [first, .., last] if self.0.len() > 8 => {
                write!(f, "[{first}, ..., {last}; {}]", self.0.len())
            }
            few => f.debug_list().entries(few).finish(),
        }
    }
}

impl From<Vec<Oid>> for Oids {
    fn from(oids: Vec<Oid>) -> Self {
        Self(oids)
    }
}

impl Serialize for Oids {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|oid| oid.to_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Oids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OidsVisitor;

        impl Visitor<'_> for OidsVisitor {
            type Value = Oids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("oids, 8 bytes each")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Oids, E> {
                let (chunks, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                Ok(Oids(
                    chunks.iter().map(|chunk| Oid::from_bytes(*chunk)).collect(),
                ))
            }
        }

        // Not `deserialize_bytes`: ciborium refuses more than its scratch buffer there.
        deserializer.deserialize_byte_buf(OidsVisitor)
    }
}

/// Which cluster a node belongs to, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Random id, minted when the cluster was created.
    pub id: ClusterId,
    /// The chain of epochs, oldest first.
    pub epochs: Vec<Epoch>,
}

/// What a connecting node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identification {
    /// What it is.
    pub node_type: NodeType,
    /// Its node id, if it has one.
    pub nid: Option<NodeId>,
    /// Where it listens, if it does.
    pub address: Option<Address>,
    /// Name of the cluster that it wants.
    pub cluster: String,
    /// Id and epochs of the cluster that it remembers.
    pub identity: Option<ClusterIdentity>,
    /// To a node that is not a master: which identification at the primary it is of. From a master:
    /// the greatest reign that it has heard of, and a number of its process.
    pub session: Option<(Reign, SessionId)>,
    /// A client that will not write.
    pub read_only: bool,
    /// A storage: where its data is, coarsest first (host, disk).
    pub topology: Vec<String>,
    /// Other masters that it knows.
    pub masters: Vec<Address>,
    /// A storage on a copy of another one's database: it wants an id of its own, and a cell that is
    /// OUT_OF_DATE wherever `nid` has one.
    #[serde(default)]
    pub new_nid: bool,
    /// A storage whose database has its id: the version of the partition table there. `None`: it has
    /// had no cells yet, and any id will do.
    #[serde(default)]
    pub noted: Option<TableVersion>,
    /// A storage that has no space left.
    #[serde(default)]
    pub is_full: bool,
}

/// What the primary tells about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its id.
    pub nid: NodeId,
    /// Where it listens, if it does.
    pub address: Option<Address>,
    /// Its state; `Unknown` means: forget it.
    pub state: NodeState,
    /// Which of its identifications; `None` when it is not connected.
    pub session: Option<SessionId>,
    /// When it identified: microseconds since 1970 UTC, on the primary's clock.
    pub since_micros: Option<i64>,
    /// A storage that had no space left when it was last heard of.
    #[serde(default)]
    pub is_full: bool,
}

impl NodeInfo {
    /// What it is.
    #[must_use]
    pub const fn node_type(&self) -> NodeType {
        self.nid.node_type()
    }
}

/// What a storage node remembers, for a primary that is RECOVERING.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Version of its partition table, if it has one.
    pub version: Option<TableVersion>,
    /// The greatest reign that it took part in.
    pub reign: Reign,
    /// Cluster id and epochs.
    pub identity: Option<ClusterIdentity>,
    /// No oid at or above it was ever handed out, as far as this node knows.
    pub oid_mark: Oid,
    /// Backup mode: the tid up to which it is complete.
    pub backup_tid: Option<Tid>,
    /// A truncation that is ordered and not done.
    pub truncate_tid: Option<Tid>,
    /// An import that has not ended: what it wrote after this tid does not count.
    pub import_tid: Option<Tid>,
}

/// What a store writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreKind {
    /// A value: the message's payload.
    Value {
        /// How the payload is compressed.
        compression: Compression,
        /// Checksum of the payload.
        checksum: Checksum,
    },
    /// The value of an earlier revision of the object. The payload is empty.
    SameAs(Tid),
    /// No value: the object is deleted.
    Deletion,
}

/// Answer to a store or a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreOutcome {
    /// Done, and the object is locked for the transaction.
    Locked,
    /// Done and locked, but not compared with the newest serial: the cell is catching up.
    Unchecked,
    /// The object's newest serial is this one; nothing was stored.
    Conflict(Tid),
}

/// Answer to a relock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelockOutcome {
    /// Locked again; what was stored stands.
    Relocked,
    /// Another transaction came between: what was stored is dropped, and the object's newest
    /// serial is this one.
    Conflict(Tid),
}

/// What became of a transaction whose finish was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalTid {
    /// It is not committed, and never will be.
    NotCommitted,
    /// It is committed.
    Committed(Tid),
    /// The primary does not know: a readable cell of its metadata does.
    AskStorages,
}

/// A revision that is found, as it travels; its data is payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectAnswer {
    /// The payload is its data.
    Found {
        /// Tid of the transaction that wrote it.
        serial: Tid,
        /// Tid of the next revision. `None`: none was committed, as far as the asker could know
        /// when it asked; what it hears of the object later still counts.
        next_serial: Option<Tid>,
        /// How the payload is compressed.
        compression: Compression,
        /// Checksum of the payload.
        checksum: Checksum,
        /// The earlier revision that it repeats.
        data_serial: Option<Tid>,
    },
    /// Deleted.
    Deleted {
        /// Tid of the deletion.
        serial: Tid,
        /// Tid of the next revision.
        next_serial: Option<Tid>,
    },
    /// The object exists, but no revision is as asked.
    NotYet,
    /// No such object.
    Unknown,
    /// Not there, and it can't be told whether it ever was: a pack may have removed it.
    PackedAway,
}

/// A committed transaction as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireTransaction {
    /// Its tid.
    pub tid: Tid,
    /// Its name before; `None` when it was imported.
    pub txn: Option<TxnId>,
    /// What the application said of it.
    pub meta: TransactionMeta,
    /// Oids, in their order.
    pub oids: Oids,
    /// ZODB's mark of a pack.
    pub packed: bool,
    /// What it ordered, if it did.
    #[serde(default)]
    pub pack: Option<PackOrder>,
}

impl From<TransactionRecord> for WireTransaction {
    fn from(r: TransactionRecord) -> Self {
        Self {
            tid: r.tid,
            txn: r.txn,
            meta: r.meta,
            oids: Oids(r.oids),
            packed: r.packed,
            pack: r.pack,
        }
    }
}

impl From<WireTransaction> for TransactionRecord {
    fn from(w: WireTransaction) -> Self {
        Self {
            tid: w.tid,
            txn: w.txn,
            meta: w.meta,
            oids: w.oids.0,
            packed: w.packed,
            pack: w.pack,
        }
    }
}

/// A committed revision as it travels, among others: its data is a part of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireRevision {
    /// Which revision.
    pub id: RevisionId,
    /// Its value; `None` when it is a deletion or, in an import, when `data_serial` says it.
    pub value: Option<WireValue>,
    /// The earlier revision that it repeats; when that is a deletion, this is one too.
    pub data_serial: Option<Tid>,
}

/// A value in a payload that has several, one after the other, in the order of the revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireValue {
    /// How it is compressed.
    pub compression: Compression,
    /// Checksum of its bytes.
    pub checksum: Checksum,
    /// How many bytes of the payload it takes.
    pub bytes: u32,
}

/// Greatest ids of a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireLastIds {
    /// The least committed tid.
    pub first_tid: Option<Tid>,
    /// The greatest committed tid.
    pub last_tid: Option<Tid>,
    /// The greatest oid that has a revision.
    pub last_oid: Option<Oid>,
}

/// Greatest ids of a readable cell. On the wire: array [partition, transaction, revision].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "(Partition, Option<Tid>, Option<Tid>)",
    into = "(Partition, Option<Tid>, Option<Tid>)"
)]
pub struct CellLastIds {
    /// Of which partition.
    pub partition: Partition,
    /// The greatest tid of a transaction whose metadata is in the cell.
    pub transaction: Option<Tid>,
    /// The greatest tid of a revision in the cell.
    pub revision: Option<Tid>,
}

impl From<(Partition, Option<Tid>, Option<Tid>)> for CellLastIds {
    fn from((partition, transaction, revision): (Partition, Option<Tid>, Option<Tid>)) -> Self {
        Self {
            partition,
            transaction,
            revision,
        }
    }
}

impl From<CellLastIds> for (Partition, Option<Tid>, Option<Tid>) {
    fn from(ids: CellLastIds) -> Self {
        (ids.partition, ids.transaction, ids.revision)
    }
}

/// A cell to replicate into, with the number of its assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AssignedPartition {
    /// Which partition.
    pub partition: Partition,
    /// The table that assigned it.
    pub assigned: TableVersion,
}

/// A payload split into the values that it has.
///
/// # Errors
/// When the lengths do not add up to the payload.
pub fn split_payload(
    revisions: &[WireRevision],
    payload: &Bytes,
) -> Result<Vec<Option<Bytes>>, &'static str> {
    let mut at = 0usize;
    let parts = revisions
        .iter()
        .map(|revision| {
            let Some(value) = &revision.value else {
                return Ok(None);
            };
            let end = at
                .checked_add(value.bytes as usize)
                .filter(|end| *end <= payload.len());
            let end = end.ok_or("the payload is shorter than its values")?;
            let part = payload.slice(at..end);
            at = end;
            Ok(Some(part))
        })
        .collect::<Result<_, _>>()?;
    if at == payload.len() {
        Ok(parts)
    } else {
        Err("the payload is longer than its values")
    }
}
