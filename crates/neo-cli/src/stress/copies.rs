//! The databases after a clean stop: whether those of a partition have the same.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use neo_api::{
    BackendResult, FetchedRevision, NodeId, Oid, Order, PageLimit, Partition, PartitionTable,
    RevisionId, StorageBackend, Tid, TransactionRecord,
};

use super::ledger::Ledger;

/// Entries of a page, and bytes.
const PAGE: PageLimit = PageLimit {
    entries: 1_000,
    bytes: 4 << 20,
};

/// The databases of all storage nodes, and the partition table that says what is where.
#[derive(Debug)]
pub(super) struct Copies {
    pub(super) table: PartitionTable,
    pub(super) backends: BTreeMap<NodeId, Arc<dyn StorageBackend>>,
}

/// What a copy of a partition has in a list that is read page by page.
pub(super) trait Listed: fmt::Debug + PartialEq + Sized {
    /// Where a page may begin.
    type From: Copy + fmt::Debug;

    /// Before everything.
    const FIRST: Self::From;

    /// Just behind this one; `None` when nothing can be there.
    fn behind(&self) -> Option<Self::From>;

    async fn page(
        backend: &dyn StorageBackend,
        partition: Partition,
        from: Self::From,
    ) -> BackendResult<Vec<Self>>;
}

impl Listed for TransactionRecord {
    type From = Tid;

    const FIRST: Tid = Tid::ZERO;

    fn behind(&self) -> Option<Tid> {
        self.tid.checked_next()
    }

    async fn page(
        backend: &dyn StorageBackend,
        partition: Partition,
        from: Tid,
    ) -> BackendResult<Vec<Self>> {
        backend
            .transactions(partition, from, Tid::MAX, Order::Ascending, PAGE)
            .await
    }
}

impl Listed for FetchedRevision {
    type From = RevisionId;

    const FIRST: RevisionId = RevisionId {
        tid: Tid::ZERO,
        oid: Oid::ZERO,
    };

    fn behind(&self) -> Option<RevisionId> {
        Some(RevisionId {
            oid: Oid(self.id.oid.0 + 1),
            ..self.id
        })
    }

    async fn page(
        backend: &dyn StorageBackend,
        partition: Partition,
        from: RevisionId,
    ) -> BackendResult<Vec<Self>> {
        backend.fetch(partition, from, Tid::MAX, PAGE).await
    }
}

/// A list of one copy of a partition.
#[derive(Debug)]
pub(super) struct List<T: Listed> {
    backend: Arc<dyn StorageBackend>,
    partition: Partition,
    next: Option<T::From>,
    page: VecDeque<T>,
}

/// The transactions, in order.
pub(super) type Transactions = List<TransactionRecord>;

/// The revisions, in order of tid, then of oid.
pub(super) type Revisions = List<FetchedRevision>;

impl<T: Listed> List<T> {
    fn new(backend: &Arc<dyn StorageBackend>, partition: Partition) -> Self {
        Self {
            backend: Arc::clone(backend),
            partition,
            next: Some(T::FIRST),
            page: VecDeque::new(),
        }
    }

    /// The next one, which stays.
    pub(super) async fn peek(&mut self) -> BackendResult<Option<&T>> {
        if let (true, Some(from)) = (self.page.is_empty(), self.next) {
            let page = T::page(&*self.backend, self.partition, from).await?;
            self.next = page.last().and_then(T::behind);
            self.page = page.into();
        }
        Ok(self.page.front())
    }

    pub(super) async fn next(&mut self) -> BackendResult<Option<T>> {
        self.peek().await?;
        Ok(self.page.pop_front())
    }
}

impl Copies {
    /// The readable copies of a partition.
    fn readable(&self, partition: Partition) -> Vec<(NodeId, &Arc<dyn StorageBackend>)> {
        let cells = self.table.readable(partition);
        cells
            .filter_map(|cell| Some((cell.nid, self.backends.get(&cell.nid)?)))
            .collect()
    }

    /// One readable copy of each partition.
    pub(super) fn one_of_each(&self) -> Vec<(Transactions, Revisions)> {
        let partitions = self.table.partitioning().iter();
        let chosen = partitions.filter_map(|partition| {
            let readable = self.readable(partition);
            let (_, backend) = readable.first()?;
            Some((
                Transactions::new(backend, partition),
                Revisions::new(backend, partition),
            ))
        });
        chosen.collect()
    }

    /// Compares all readable copies of each partition, and looks for what ended transactions left.
    /// Returns how many transactions and revisions were compared.
    pub(super) async fn compare(&self, ledger: &Ledger) -> BackendResult<u64> {
        let mut compared = 0;
        for partition in self.table.partitioning().iter() {
            let readable = self.readable(partition);
            let Some(((first, one), others)) = readable.split_first() else {
                ledger.anomaly(format!(
                    "nobody has a readable copy of partition {partition}"
                ));
                continue;
            };
            for (second, other) in others {
                let (one, other) = ((*first, *one), (*second, *other));
                compared += same::<TransactionRecord>(ledger, partition, one, other).await?;
                compared += same::<FetchedRevision>(ledger, partition, one, other).await?;
            }
        }
        // A node that was expelled, and has not caught up, cleans up when it will.
        let serving = self.table.readable_nodes();
        for (nid, backend) in self
            .backends
            .iter()
            .filter(|(nid, _)| serving.contains(nid))
        {
            for unfinished in backend.unfinished(None, 3).await? {
                ledger.anomaly(format!("{nid} still has the unfinished {}", unfinished.txn));
            }
            for (txn, id) in backend.loose_data(None, 3).await? {
                ledger.anomaly(format!("{nid} still has the value {id:?} of {txn}"));
            }
        }
        Ok(compared)
    }
}

/// Compares a list of two copies of a partition, up to the first difference.
async fn same<T: Listed>(
    ledger: &Ledger,
    partition: Partition,
    (first, one): (NodeId, &Arc<dyn StorageBackend>),
    (second, other): (NodeId, &Arc<dyn StorageBackend>),
) -> BackendResult<u64> {
    let mut compared = 0;
    let mut one = List::<T>::new(one, partition);
    let mut other = List::<T>::new(other, partition);
    loop {
        let (a, b) = (one.next().await?, other.next().await?);
        if a != b {
            ledger.anomaly(format!(
                "partition {partition}: where {first} has {a:?}, {second} has {b:?}"
            ));
            break;
        }
        if a.is_none() {
            break;
        }
        compared += 1;
    }
    Ok(compared)
}
