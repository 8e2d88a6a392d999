//! The vocabulary between the core and its shell: writes and reads of the backend.

use neo_api::{
    Address, At, BackendResult, Durability, LastIds, Loaded, NodeId, Oid, Order, PageLimit,
    Partition, PartitionTable, PendingObject, RevisionId, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction, WriteBatch,
};
use neo_api::{CurrentPage, DataId, FetchedRevision, HistoryEntry, ObsoletePage, PackOrder};
use neo_proto::UndoRevision;

/// Names a job; later jobs have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Work for the shell.
#[derive(Debug)]
pub enum Job {
    /// Write a batch. Batches take effect in the order of the jobs; one that fails has no effect,
    /// and does not keep later ones from theirs.
    Persist {
        /// Names it.
        token: Token,
        /// What to write.
        batch: WriteBatch,
        /// What must be true when it is done.
        durability: Durability,
    },
    /// Read something, beside other reads and writes.
    Read {
        /// Names it.
        token: Token,
        /// What to read.
        query: Query,
    },
}

/// A job that is done.
#[derive(Debug)]
pub enum Done {
    /// A [`Job::Persist`].
    Persisted {
        /// Which.
        token: Token,
        /// How it went.
        result: BackendResult<()>,
    },
    /// A [`Job::Read`].
    Read {
        /// Which.
        token: Token,
        /// What was found.
        result: BackendResult<QueryResult>,
    },
}

/// Something to read from the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// All that a node reads when it starts.
    Start,
    /// The serial of the newest revision of an object.
    LastSerial {
        /// Its partition.
        partition: Partition,
        /// The object.
        oid: Oid,
        /// Also whether this revision of it has a value that can be repeated.
        same_as: Option<Tid>,
    },
    /// A revision of an object.
    Load {
        /// Its partition.
        partition: Partition,
        /// The object.
        oid: Oid,
        /// Which revision.
        at: At,
    },
    /// Revisions of several objects, one at least.
    LoadMany {
        /// Each with its partition.
        objects: Vec<(Partition, Oid, At)>,
        /// Ends with the one whose value reaches so many.
        bytes: usize,
    },
    /// Revisions of an object, newest first.
    History {
        /// Its partition.
        partition: Partition,
        /// The object.
        oid: Oid,
        /// Serials below this one.
        before: Tid,
        /// Size of the page.
        limit: usize,
    },
    /// Objects as they were.
    Current {
        /// Of which partition.
        partition: Partition,
        /// From here.
        min: Oid,
        /// At this tid.
        at: Tid,
        /// With their values.
        values: bool,
        /// Size of the page.
        limit: PageLimit,
    },
    /// How much space the database takes.
    Bytes {
        /// Partitions that share it.
        partitions: usize,
    },
    /// What it takes to undo a transaction.
    Undo {
        /// Of which partition.
        partition: Partition,
        /// The transaction.
        undone: Tid,
        /// As objects are before this tid.
        before: Tid,
        /// The objects.
        oids: Vec<Oid>,
    },
    /// A committed transaction.
    Transaction {
        /// Its partition.
        partition: Partition,
        /// Its tid.
        tid: Tid,
    },
    /// Committed transactions of a partition; the page has at most so many entries and ends with
    /// the one that reaches so many bytes.
    Transactions {
        /// Of which partition.
        partition: Partition,
        /// From here.
        min: Tid,
        /// To here.
        max: Tid,
        /// From which end.
        order: Order,
        /// Size of the page.
        limit: PageLimit,
    },
    /// Revisions of a partition with their values, in order of (tid, oid).
    Fetch {
        /// Of which partition.
        partition: Partition,
        /// From here.
        min: RevisionId,
        /// To here.
        max: Tid,
        /// Size of the page.
        limit: PageLimit,
    },
    /// The names of revisions of a partition, in order of (tid, oid).
    Revisions {
        /// Of which partition.
        partition: Partition,
        /// From here.
        min: RevisionId,
        /// To here.
        max: Tid,
        /// Size of the page.
        limit: usize,
    },
    /// The tid of a transaction that is locked or committed.
    FinalTid {
        /// Partition of its ttid.
        partition: Partition,
        /// Its name.
        txn: TxnId,
    },
    /// Unfinished transactions, in order of name.
    Unfinished {
        /// After this one.
        after: Option<TxnId>,
        /// Size of the page.
        limit: usize,
    },
    /// One unfinished transaction.
    UnfinishedOne {
        /// Its name.
        txn: TxnId,
    },
    /// Objects of an unfinished transaction, in order.
    UnfinishedObjects {
        /// Its name.
        txn: TxnId,
        /// After this one.
        after: Option<Oid>,
        /// Size of the page.
        limit: usize,
    },
    /// Values that no revision has claimed.
    LooseData {
        /// After this one.
        after: Option<(TxnId, DataId)>,
        /// Size of the page.
        limit: usize,
    },
    /// Least and greatest ids of some partitions, each on its own.
    LastIds {
        /// Which.
        partitions: Vec<Partition>,
    },
    /// The serials of the newest revisions of objects.
    LastSerials {
        /// Which, at most [`OPERATION_OBJECTS_MAX`](neo_api::OPERATION_OBJECTS_MAX).
        oids: Vec<(Partition, Oid)>,
    },
    /// How far some partitions go, each on its own, and what is unfinished.
    Extent {
        /// Which.
        partitions: Vec<Partition>,
    },
    /// How far some partitions were replicated: values of `progress_key`.
    Progress {
        /// Which.
        partitions: Vec<Partition>,
    },
    /// How far some partitions are packed.
    PackStates {
        /// Which.
        partitions: Vec<Partition>,
    },
    /// What a pack removes.
    Obsolete {
        /// Of which partition.
        partition: Partition,
        /// From this object on.
        min: Oid,
        /// What is newest at this tid stays.
        at: Tid,
        /// Revisions that are looked at.
        limit: usize,
    },
    /// Which revisions are left by a pack, applied or not.
    Remaining {
        /// Of which partition.
        partition: Partition,
        /// What is newest at this tid is left; without it, all that is there.
        at: Option<Tid>,
        /// The revisions; at most [`OPERATION_OBJECTS_MAX`](neo_api::OPERATION_OBJECTS_MAX).
        ids: Vec<RevisionId>,
    },
    /// Orders to pack, by id.
    PackOrders {
        /// Of which partitions.
        partitions: Vec<Partition>,
        /// Above this id.
        after: Tid,
        /// Up to this one.
        max: Tid,
    },
}

/// What a [`Query`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryResult {
    /// Of [`Query::Start`].
    Start(Box<StartState>),
    /// Of [`Query::LastSerial`].
    LastSerial {
        /// The newest serial, if the object has a revision.
        last: Option<Tid>,
        /// Whether the revision to repeat is there, with a value.
        repeatable: bool,
    },
    /// Of [`Query::Load`]; `None`: it is not there, and a pack may have removed it.
    Load(Option<Loaded>),
    /// Of [`Query::LoadMany`]: the first of them, in the order asked.
    LoadMany(Vec<Option<Loaded>>),
    /// Of [`Query::History`].
    History {
        /// Newest first.
        entries: Vec<HistoryEntry>,
        /// Whether nothing is left.
        complete: bool,
    },
    /// Of [`Query::Current`]; `None`: a pack may have removed some of it.
    Current(Option<CurrentPage>),
    /// Of [`Query::Bytes`]: the share of one partition.
    Bytes(u64),
    /// Of [`Query::Undo`], in the order asked. `None`: a pack may have removed some of it.
    Undo(Option<Vec<Option<UndoRevision>>>),
    /// Of [`Query::Transaction`].
    Transaction(Option<Box<TransactionRecord>>),
    /// Of [`Query::Transactions`].
    Transactions {
        /// The page.
        page: Vec<TransactionRecord>,
        /// Whether nothing is left.
        complete: bool,
    },
    /// Of [`Query::Fetch`].
    Fetch {
        /// The page.
        page: Vec<FetchedRevision>,
        /// Whether nothing is left.
        complete: bool,
    },
    /// Of [`Query::Revisions`].
    Revisions(Vec<RevisionId>),
    /// Of [`Query::FinalTid`].
    FinalTid(Option<Tid>),
    /// Of [`Query::Unfinished`] and [`Query::UnfinishedOne`].
    Unfinished(Vec<UnfinishedTransaction>),
    /// Of [`Query::UnfinishedObjects`].
    UnfinishedObjects(Vec<PendingObject>),
    /// Of [`Query::LooseData`].
    LooseData(Vec<(TxnId, DataId)>),
    /// Of [`Query::LastIds`], in the order asked.
    LastIds(Vec<(Partition, LastIds)>),
    /// Of [`Query::LastSerials`], in the order asked.
    LastSerials(Vec<Option<Tid>>),
    /// Of [`Query::Extent`].
    Extent(Extent),
    /// Of [`Query::Progress`], in the order asked.
    Progress(Vec<Option<bytes::Bytes>>),
    /// Of [`Query::PackStates`], in the order asked.
    PackStates(Vec<PackedValues>),
    /// Of [`Query::Obsolete`].
    Obsolete(ObsoletePage),
    /// Of [`Query::Remaining`], in the order asked.
    Remaining(Vec<bool>),
    /// Of [`Query::PackOrders`].
    PackOrders {
        /// By id.
        orders: Vec<(Tid, PackOrder)>,
        /// These are all up to this id.
        complete: Tid,
    },
}

/// Of [`Query::Extent`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    /// The greatest tid in each partition, in the order asked.
    pub greatest: Vec<Option<Tid>>,
    /// The least ttid of a transaction that has voted and is not unlocked.
    pub unfinished: Option<Tid>,
}

/// What a node reads when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartState {
    /// Values of [`CONFIG_KEYS`], in their order.
    pub config: Vec<Option<bytes::Bytes>>,
    /// The stored partition table.
    pub table: Option<PartitionTable>,
    /// First unused data id.
    pub next_data_id: DataId,
    /// Most bytes of one value.
    pub object_bytes_max: usize,
}

/// Name of the cluster.
pub(crate) const CLUSTER: &str = "cluster";
/// Random id of the cluster.
pub(crate) const CLUSTER_ID: &str = "cluster_id";
/// Chain of epochs.
pub(crate) const EPOCHS: &str = "epochs";
/// The node's id.
pub(crate) const NID: &str = "nid";
/// The greatest reign that the node took part in.
pub(crate) const REIGN: &str = "reign";
/// The latest reign in which something was committed that is here.
pub(crate) const COMMITTED_IN: &str = "committed_in";
/// No oid at or above it was handed out.
pub(crate) const OID_MARK: &str = "oid_mark";
/// What an import wrote after this tid does not count.
pub(crate) const IMPORT_TID: &str = "import_tid";

/// The configuration keys that a storage node uses.
pub const CONFIG_KEYS: &[&str] = &[
    CLUSTER,
    CLUSTER_ID,
    EPOCHS,
    NID,
    REIGN,
    OID_MARK,
    IMPORT_TID,
    COMMITTED_IN,
];

/// What is written of how far a cell is packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedValues {
    /// Of the cell as a whole.
    pub state: Option<bytes::Bytes>,
    /// Of the objects that are packed further.
    pub objects: Option<bytes::Bytes>,
}

/// The configuration key of how far a partition was replicated.
pub(crate) fn progress_key(partition: Partition) -> String {
    format!("replicated/{partition}")
}

/// Out of the application, or the process around the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageCommand {
    /// End cleanly.
    Stop,
}

/// To the application, or the process around the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageEvent {
    /// The primary master accepted the node under this id.
    Identified {
        /// The node's id.
        nid: NodeId,
    },
    /// The node serves clients.
    Operating,
    /// The node does not serve clients any more.
    NotOperating,
    /// These masters are known.
    Masters(Vec<Address>),
}
