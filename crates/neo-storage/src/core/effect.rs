//! The vocabulary between the core and its shell: writes and reads of the backend.

use neo_api::{
    At, BackendResult, Durability, LastIds, Loaded, NodeId, Oid, PageLimit, Partition,
    PartitionTable, PendingObject, RevisionId, StorageBackend, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction, WriteBatch,
};
use neo_api::{DataId, FetchedRevision};

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
    /// A committed transaction.
    Transaction {
        /// Its partition.
        partition: Partition,
        /// Its tid.
        tid: Tid,
    },
    /// Committed transactions of a partition, in order; the page has at most so many entries and
    /// ends with the one that reaches so many bytes.
    Transactions {
        /// Of which partition.
        partition: Partition,
        /// From here.
        min: Tid,
        /// To here.
        max: Tid,
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
    /// Greatest ids of some partitions together.
    LastIds {
        /// Which.
        partitions: Vec<Partition>,
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
    /// Of [`Query::Load`].
    Load(Loaded),
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
    /// Of [`Query::LastIds`].
    LastIds(LastIds),
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
/// No oid at or above it was handed out.
pub(crate) const OID_MARK: &str = "oid_mark";
/// What an import wrote after this tid does not count.
pub(crate) const IMPORT_TID: &str = "import_tid";

/// The configuration keys that a storage node uses.
pub const CONFIG_KEYS: &[&str] = &[
    CLUSTER, CLUSTER_ID, EPOCHS, NID, REIGN, OID_MARK, IMPORT_TID,
];

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
}

/// Reads what a query asks for. The shell and the simulator both use it.
///
/// # Errors
/// As the backend says.
pub async fn execute_query(
    backend: &dyn StorageBackend,
    query: Query,
) -> BackendResult<QueryResult> {
    Ok(match query {
        Query::Start => {
            let mut config = Vec::with_capacity(CONFIG_KEYS.len());
            for key in CONFIG_KEYS {
                config.push(backend.config(key).await?);
            }
            QueryResult::Start(Box::new(StartState {
                config,
                table: backend.partition_table().await?,
                next_data_id: backend.next_data_id().await?,
                object_bytes_max: backend.info().object_bytes_max,
            }))
        }
        Query::LastSerial {
            partition,
            oid,
            same_as,
        } => {
            let repeatable = match same_as {
                None => false,
                Some(tid) => matches!(
                    backend.load(partition, oid, At::Exact(tid)).await?,
                    Loaded::Found(_)
                ),
            };
            let serials = backend.last_serials(&[(partition, oid)]).await?;
            let last = serials.into_iter().next().flatten();
            QueryResult::LastSerial { last, repeatable }
        }
        Query::Load { partition, oid, at } => {
            QueryResult::Load(backend.load(partition, oid, at).await?)
        }
        Query::Transaction { partition, tid } => {
            let found = backend.transaction(partition, tid).await?;
            QueryResult::Transaction(found.map(Box::new))
        }
        Query::Transactions {
            partition,
            min,
            max,
            limit,
        } => transactions(backend, partition, min, max, limit).await?,
        Query::Fetch {
            partition,
            min,
            max,
            limit,
        } => {
            let page = backend.fetch(partition, min, max, limit).await?;
            let sizes = page.iter().filter_map(|r| r.record.as_ref());
            let bytes: usize = sizes.map(|record| record.data.len()).sum();
            let complete = page.len() < limit.entries && bytes < limit.bytes;
            QueryResult::Fetch { page, complete }
        }
        Query::Revisions {
            partition,
            min,
            max,
            limit,
        } => QueryResult::Revisions(backend.revisions(partition, min, max, limit).await?),
        Query::FinalTid { partition, txn } => {
            // In this order: a transaction that is moved between the two looks is not missed.
            let locked = unfinished_one(backend, txn).await?;
            let locked = locked.into_iter().find_map(|unfinished| unfinished.tid);
            QueryResult::FinalTid(match locked {
                None => backend.final_tid(partition, txn).await?,
                tid => tid,
            })
        }
        Query::Unfinished { after, limit } => {
            QueryResult::Unfinished(backend.unfinished(after, limit).await?)
        }
        Query::UnfinishedOne { txn } => {
            QueryResult::Unfinished(unfinished_one(backend, txn).await?)
        }
        Query::UnfinishedObjects { txn, after, limit } => {
            QueryResult::UnfinishedObjects(backend.unfinished_objects(txn, after, limit).await?)
        }
        Query::LooseData { after, limit } => {
            QueryResult::LooseData(backend.loose_data(after, limit).await?)
        }
        Query::LastIds { partitions } => {
            let mut all = LastIds::default();
            for partition in partitions {
                let ids = backend.last_ids(partition).await?;
                all.first_tid = [all.first_tid, ids.first_tid].into_iter().flatten().min();
                all.last_tid = all.last_tid.max(ids.last_tid);
                all.last_oid = all.last_oid.max(ids.last_oid);
            }
            QueryResult::LastIds(all)
        }
    })
}

/// A page of transactions, read a few at a time: each may have millions of oids.
async fn transactions(
    backend: &dyn StorageBackend,
    partition: Partition,
    mut min: Tid,
    max: Tid,
    limit: PageLimit,
) -> BackendResult<QueryResult> {
    const FEW: usize = 32;
    let (mut page, mut bytes) = (Vec::new(), 0);
    loop {
        let ask = FEW.min(limit.entries.max(1) - page.len());
        let few = backend
            .transactions(partition, min, max, PageLimit::entries(ask))
            .await?;
        let complete = few.len() < ask;
        bytes += few.iter().map(weight).sum::<usize>();
        page.extend(few);
        let next = page.last().and_then(|last| last.tid.checked_next());
        let full = page.len() >= limit.entries.max(1) || bytes >= limit.bytes;
        match next {
            Some(next) if !complete && !full && next <= max => min = next,
            _ => {
                let complete = complete || page.last().is_some_and(|last| last.tid >= max);
                return Ok(QueryResult::Transactions { page, complete });
            }
        }
    }
}

fn weight(record: &TransactionRecord) -> usize {
    let meta = &record.meta;
    64 + record.oids.len() * 8 + meta.user.len() + meta.description.len() + meta.extension.len()
}

async fn unfinished_one(
    backend: &dyn StorageBackend,
    txn: TxnId,
) -> BackendResult<Vec<UnfinishedTransaction>> {
    let before = match txn.ttid.0.checked_sub(1) {
        Some(ttid) => Some((txn.reign, Tid(ttid)).into()),
        None => {
            let reign = txn.reign.0.checked_sub(1);
            reign.map(|reign| (neo_api::Reign(reign), Tid(u64::MAX)).into())
        }
    };
    let mut page = backend.unfinished(before, 1).await?;
    page.retain(|unfinished| unfinished.txn == txn);
    Ok(page)
}
