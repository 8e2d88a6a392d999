//! The databases after a clean stop: whether those of a partition have the same.

use std::collections::{BTreeMap, VecDeque};
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

/// The transactions of one copy of a partition, in order.
#[derive(Debug)]
pub(super) struct Transactions {
    backend: Arc<dyn StorageBackend>,
    partition: Partition,
    next: Option<Tid>,
    page: VecDeque<TransactionRecord>,
}

impl Transactions {
    fn new(backend: &Arc<dyn StorageBackend>, partition: Partition) -> Self {
        Self {
            backend: Arc::clone(backend),
            partition,
            next: Some(Tid::ZERO),
            page: VecDeque::new(),
        }
    }

    /// The next one, which stays.
    pub(super) async fn peek(&mut self) -> BackendResult<Option<&TransactionRecord>> {
        if let (true, Some(min)) = (self.page.is_empty(), self.next) {
            let page = self
                .backend
                .transactions(self.partition, min, Tid::MAX, Order::Ascending, PAGE)
                .await?;
            self.next = page.last().and_then(|last| last.tid.checked_next());
            self.page = page.into();
        }
        Ok(self.page.front())
    }

    pub(super) async fn next(&mut self) -> BackendResult<Option<TransactionRecord>> {
        self.peek().await?;
        Ok(self.page.pop_front())
    }
}

/// The revisions of one copy of a partition, in order of tid, then of oid.
#[derive(Debug)]
pub(super) struct Revisions {
    backend: Arc<dyn StorageBackend>,
    partition: Partition,
    next: Option<RevisionId>,
    page: VecDeque<FetchedRevision>,
}

impl Revisions {
    fn new(backend: &Arc<dyn StorageBackend>, partition: Partition) -> Self {
        let first = RevisionId {
            tid: Tid::ZERO,
            oid: Oid::ZERO,
        };
        Self {
            backend: Arc::clone(backend),
            partition,
            next: Some(first),
            page: VecDeque::new(),
        }
    }

    /// The next one, which stays.
    pub(super) async fn peek(&mut self) -> BackendResult<Option<&FetchedRevision>> {
        if let (true, Some(min)) = (self.page.is_empty(), self.next) {
            let page = self
                .backend
                .fetch(self.partition, min, Tid::MAX, PAGE)
                .await?;
            self.next = page.last().map(|last| RevisionId {
                oid: Oid(last.id.oid.0 + 1),
                ..last.id
            });
            self.page = page.into();
        }
        Ok(self.page.front())
    }

    pub(super) async fn next(&mut self) -> BackendResult<Option<FetchedRevision>> {
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
                compared += same(ledger, partition, (*first, one), (*second, other)).await?;
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

type Copy<'a> = (NodeId, &'a Arc<dyn StorageBackend>);

/// Compares two copies of a partition, up to the first difference in each list.
async fn same(
    ledger: &Ledger,
    partition: Partition,
    (first, one): Copy<'_>,
    (second, other): Copy<'_>,
) -> BackendResult<u64> {
    let mut compared = 0;
    let mut lists = (
        Transactions::new(one, partition),
        Transactions::new(other, partition),
    );
    loop {
        let (a, b) = (lists.0.next().await?, lists.1.next().await?);
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
    let mut lists = (
        Revisions::new(one, partition),
        Revisions::new(other, partition),
    );
    loop {
        let (a, b) = (lists.0.next().await?, lists.1.next().await?);
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
