//! What a storage node needs from its database.
//!
//! Two ways in: implement [`StorageBackend`] for a database that has a language or a planner of
//! its own, or just [`KvEngine`] for an ordered key-value store, and let `neo_backends::KvBackend`
//! do the rest. `neo-testkit` has the conformance suite of a backend; an engine runs it through
//! `KvBackend`, as `examples/src/log.rs` does.
//!
//! What a backend makes itself (revisions, records, pages) is made by naming all fields: one more
//! would be one more promise, which no backend should break unseen.

mod batch;
mod error;
mod kv;
mod limits;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use batch::{Durability, ObjectData, PendingObject, WriteBatch, WriteOp};
pub use error::{BackendError, BackendResult};
pub use kv::{KeyRange, KvBatch, KvEngine, KvOp, Order, Space};
pub use limits::OPERATION_OBJECTS_MAX;

use crate::id::{DataId, Oid, Partition, Tid, TxnId};
use crate::object::{At, Loaded, Record, RevisionId};
use crate::partition_table::PartitionTable;
use crate::transaction::{PackOrder, TransactionRecord, VotedRecord};

/// Facts about a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendInfo {
    /// Name of the engine, as given to `--adapter`.
    pub name: &'static str,
    /// Whether anything survives the end of the process.
    pub persistent: bool,
    /// Most bytes that one value can have.
    pub object_bytes_max: usize,
    /// Where the data is, from the coarsest: host name, then disk. Told to the primary master,
    /// which puts the copies of a partition into different places.
    pub topology: Vec<String>,
}

impl BackendInfo {
    /// Facts of an engine without limits below those of neo.
    #[must_use]
    pub const fn new(name: &'static str, persistent: bool) -> Self {
        Self {
            name,
            persistent,
            object_bytes_max: crate::object::OBJECT_BYTES_MAX,
            topology: Vec::new(),
        }
    }
}

/// A transaction that has voted and is not unlocked yet, without its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTransaction {
    /// Its name.
    pub txn: TxnId,
    /// Its final tid, once locked.
    pub tid: Option<Tid>,
    /// Its metadata and oids, on the nodes that keep metadata.
    pub record: Option<VotedRecord>,
}

/// Least and greatest ids in one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastIds {
    /// The least tid of a committed transaction or revision.
    pub first_tid: Option<Tid>,
    /// The greatest tid of a committed transaction: of its metadata.
    pub last_transaction: Option<Tid>,
    /// The greatest tid of a committed revision.
    pub last_revision: Option<Tid>,
    /// The greatest oid that has a committed revision.
    pub last_oid: Option<Oid>,
}

impl LastIds {
    /// The greatest tid of a committed transaction or revision.
    #[must_use]
    pub fn last_tid(&self) -> Option<Tid> {
        self.last_transaction.max(self.last_revision)
    }
}

/// A committed revision, for replication, iteration and export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedRevision {
    /// Which one.
    pub id: RevisionId,
    /// Its value; `None` when it is a deletion.
    pub record: Option<Record>,
    /// When it repeats an earlier revision (an undo), a value or a deletion: the tid of that
    /// revision.
    pub data_serial: Option<Tid>,
}

/// What a [`history`](StorageBackend::history) tells of a committed revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Tid of the transaction that wrote it.
    pub serial: Tid,
    /// When it repeats an earlier revision, a value or a deletion: the tid of that revision.
    pub data_serial: Option<Tid>,
    /// Bytes of its value, as stored; `None` when it is a deletion.
    pub bytes: Option<u32>,
}

/// Objects as they were at some tid: a page of [`current`](StorageBackend::current).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentPage {
    /// Of each object that has a value, its revision, in order of oid.
    pub revisions: Vec<FetchedRevision>,
    /// Where the next page begins; `None` when nothing is left.
    pub next: Option<Oid>,
}

/// What a pack removes: a page of [`obsolete`](StorageBackend::obsolete).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObsoletePage {
    /// Revisions in order of (oid, tid).
    pub revisions: Vec<RevisionId>,
    /// Where the next page begins; `None` when nothing is left.
    pub next: Option<Oid>,
}

/// How much one page of a listing may hold.
///
/// A page ends only because it reached a limit, or because nothing is left: one that reached neither
/// limit is the last. Listings that take a bare number of entries do the same: a page of fewer is
/// the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Most entries; with 0 there are none.
    pub entries: usize,
    /// The page ends with the entry that reaches this many bytes: of values, or, where
    /// transactions are listed, of metadata and 8 for each oid, more or less. So there is one entry
    /// even with 0.
    pub bytes: usize,
}

impl PageLimit {
    /// At most so many entries, of any size.
    #[must_use]
    pub const fn entries(entries: usize) -> Self {
        Self {
            entries,
            bytes: usize::MAX,
        }
    }
}

/// All that a storage node persists.
///
/// A node has one backend and is its only user. Reads may run beside each other and beside a
/// write, from any thread; a read sees all of a batch or nothing of it.
///
/// # To ensure correctness
/// 1. [`apply`](Self::apply) **must** be atomic, also across a crash: all of a batch or nothing.
/// 2. Batches take effect in the order in which `apply` was called (the future need not have been
///    polled between), and a batch is visible to every read that starts after it returned,
///    whatever its durability.
/// 3. When `apply` with [`Durability::Synced`] returns, that batch and all before it **must**
///    survive a loss of power. After a crash, a prefix of the batches remains, which holds every
///    acknowledged `Synced` batch.
/// 4. An error from `apply` means that the batch had no effect. When that can't be known (a failed
///    sync), the backend **must** refuse every later call with [`BackendError::Closed`] until it is
///    opened again.
/// 5. A batch takes effect, as a whole, although the future of its `apply` is dropped, polled or
///    not.
/// 6. Two nodes **must not** open one database at the same time: opening fails with
///    [`BackendError::InUse`].
/// 7. A full disk is a refusal ([`BackendError::Full`]), after which reads go on. It **must** hit
///    batches that [bring values](WriteBatch::brings_values): a transaction that was allowed to
///    vote must be able to lock and unlock. A backend keeps a reserve of space for the batches
///    that bring none, what a vote will take later included, and refuses new values as long as
///    the reserve is not whole. A backend that can't know its space does what it can; the node
///    tries again, and gives up after a while.
/// 8. Bytes come back as they were given. A backend **must not** recompress or interpret them.
/// 9. A read that fails says what the node is to do: with [`BackendError::Unavailable`] whoever
///    asked may ask again; with `Corrupt`, `Failed` or `Closed` the node ends. What is not there is
///    not an error.
#[async_trait]
pub trait StorageBackend: Debug + Send + Sync + 'static {
    /// Facts, without I/O.
    fn info(&self) -> BackendInfo;

    /// The value of a configuration key.
    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>>;

    /// The partition table that was stored last, if any.
    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>>;

    /// A revision of an object.
    ///
    /// `next_serial` is that of the next committed revision, deletions included. `partition` is
    /// that of `oid`.
    ///
    /// The first poll is on the node's only thread: what may wait for a disk is handed over to
    /// another one, but for what is quick.
    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded>;

    /// Revisions of several objects, in the order asked, each as [`load`](Self::load) tells it: the
    /// first, and those that follow as long as the values before have less than `bytes` together.
    /// They need not be of one moment.
    ///
    /// A backend that hands its reads over to threads does well to make one of these.
    async fn load_many(
        &self,
        objects: &[(Partition, Oid, At)],
        bytes: usize,
    ) -> BackendResult<Vec<Loaded>> {
        let (mut found, mut brought) = (Vec::with_capacity(objects.len()), 0);
        for (partition, oid, at) in objects {
            let loaded = self.load(*partition, *oid, *at).await?;
            brought += loaded.value_bytes();
            found.push(loaded);
            if brought >= bytes {
                break;
            }
        }
        Ok(found)
    }

    /// Of each object the newest revision with a serial below a tid, in the order asked; `None`
    /// when there is none. As the first entry of [`history`](Self::history); they need not be of one
    /// moment.
    ///
    /// A backend that hands its reads over to threads does well to make one of these.
    async fn newest_before(
        &self,
        objects: &[(Partition, Oid, Tid)],
    ) -> BackendResult<Vec<Option<HistoryEntry>>> {
        let mut found = Vec::with_capacity(objects.len());
        for (partition, oid, before) in objects {
            let page = self.history(*partition, *oid, *before, 1).await?;
            found.push(page.first().copied());
        }
        Ok(found)
    }

    /// The serial of the newest revision of each object, deletions included; `None` for an object
    /// that has no revision. In the order asked.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] for more than [`OPERATION_OBJECTS_MAX`] at once.
    async fn last_serials(&self, oids: &[(Partition, Oid)]) -> BackendResult<Vec<Option<Tid>>>;

    /// A committed transaction.
    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>>;

    /// Committed transactions of a partition with `min <= tid <= max`, in the order of their tids
    /// that is asked for.
    async fn transactions(
        &self,
        partition: Partition,
        min: Tid,
        max: Tid,
        order: Order,
        limit: PageLimit,
    ) -> BackendResult<Vec<TransactionRecord>>;

    /// Committed revisions of an object with a serial below `before`, newest first, deletions
    /// included. `partition` is that of `oid`.
    async fn history(
        &self,
        partition: Partition,
        oid: Oid,
        before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>>;

    /// Objects of a partition from `min` on as they were at `at`: of each the newest revision with
    /// `serial <= at`, unless it is a deletion, in order of oid.
    ///
    /// A page looks at no more than `limit.entries` objects, those that are deleted or came later
    /// included, and ends with the one whose value reaches `limit.bytes`: it may tell of none, and
    /// not be the last. The next one begins after the last object that was looked at. Without
    /// `values` they are not read, and `record` is `None`.
    async fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage>;

    /// Committed revisions of a partition with `min <= id` and `id.tid <= max`, in order of
    /// (tid, oid), without their values.
    async fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>>;

    /// As [`revisions`](Self::revisions), with their values.
    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>>;

    /// Of objects of a partition from `min` on, what a pack at `at` removes: of the newest revision
    /// with `serial <= at`, all before it, and itself when it is a deletion. In order of oid, of an
    /// object the oldest first: removed in this order, no prefix changes what is newest at `at`.
    ///
    /// A page looks at no more than `limit` revisions and one more (`limit` is 1 at least), and may
    /// tell of none and not be the last. When an object has more than that to remove, the page ends
    /// with a part of it, and the next one begins with the same object: for the caller who removed
    /// that part.
    async fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage>;

    /// Orders to pack among the committed transactions of a partition with `tid > after`, in order
    /// of tid, which names them.
    async fn pack_orders(
        &self,
        partition: Partition,
        after: Tid,
        limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>>;

    /// The tid of a transaction that is committed here, by its name; `None` when it is not, or
    /// when it is unfinished. `partition` is that of its ttid.
    async fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>>;

    /// Unfinished transactions with a name greater than `after`, in order of name.
    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>>;

    /// Objects of an unfinished transaction with an oid greater than `after`, in order of oid.
    async fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>>;

    /// Values that were written for a transaction ([`WriteOp::PutData`] with an owner) and are not
    /// claimed by a revision: what a crash leaves of transactions that did not end.
    /// In order of (name, data id), those greater than `after`.
    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>>;

    /// A data id greater than any in use.
    async fn next_data_id(&self) -> BackendResult<DataId>;

    /// Least and greatest ids of a partition.
    async fn last_ids(&self, partition: Partition) -> BackendResult<LastIds>;

    /// Bytes that the database takes, more or less: of its file, or of what it has in memory. Told
    /// to people; nothing is decided by it.
    async fn bytes(&self) -> BackendResult<u64>;

    /// Applies a batch of writes.
    ///
    /// Operations take effect in their order: a later one sees what an earlier one of the same
    /// batch did. An empty batch that is `Synced` makes everything before it durable.
    ///
    /// An `async fn` does nothing before it is polled, which is too late for rules 2 and 5. Write
    /// the signature out, hand the batch over before you return (`neo_backends::Worker::submit`
    /// does), and box only the wait for the outcome, as `neo_backends::KvBackend` does:
    ///
    /// ```text
    /// fn apply<'a, 'f>(
    ///     &'a self,
    ///     batch: WriteBatch,
    ///     durability: Durability,
    /// ) -> Pin<Box<dyn Future<Output = BackendResult<()>> + Send + 'f>>
    /// where
    ///     'a: 'f,
    ///     Self: 'f,
    /// {
    ///     let reply = self.writer.submit(move |database| database.apply(batch, durability));
    ///     Box::pin(async move { reply.await? })
    /// }
    /// ```
    ///
    /// # Errors
    /// See the rules of the trait. [`BackendError::Full`] when there is no space for new values.
    /// [`BackendError::Unsupported`] for a batch that [`WriteBatch::check`] refuses, and for a
    /// [`WriteOp::ChangeCells`] that does not fit the stored table.
    /// [`BackendError::Missing`] as [`WriteOp::PutObject`] says. The batch has no effect then, and
    /// reads go on.
    async fn apply(&self, batch: WriteBatch, durability: Durability) -> BackendResult<()>;

    /// Ends: waits for what was applied, makes it durable and frees the database for others.
    ///
    /// Calls after it fail with [`BackendError::Closed`]. Dropping a backend without closing it is
    /// as a crash of the process.
    async fn close(&self) -> BackendResult<()>;
}
