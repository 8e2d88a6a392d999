//! What is in the databases of a world, read through the backends.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use bytes::Bytes;
use neo_api::{
    CellState, DataId, FetchedRevision, NodeId, Oid, Order, PackOrder, PageLimit, Partition,
    PartitionTable, RevisionId, StorageBackend, Tid, TransactionRecord, TxnId,
    UnfinishedTransaction,
};

use super::name::Name;
use super::world::{World, run_ready};
use crate::oracle::Oracle;

/// One partition on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellCopy {
    /// Transactions whose metadata live here.
    pub transactions: BTreeMap<Tid, TransactionRecord>,
    /// Revisions, with their data.
    pub revisions: BTreeMap<RevisionId, FetchedRevision>,
}

/// All that one storage node has.
#[derive(Debug, Clone)]
pub struct NodeCopy {
    /// Whose.
    pub name: Name,
    /// Its id.
    pub nid: Option<NodeId>,
    /// Whether it serves.
    pub serving: bool,
    /// By partition.
    pub cells: BTreeMap<Partition, CellCopy>,
    /// Transactions that voted and did not end.
    pub unfinished: Vec<UnfinishedTransaction>,
    /// Values that belong to no revision.
    pub loose: Vec<(TxnId, DataId)>,
    /// Its stored partition table.
    pub table: Option<PartitionTable>,
}

impl NodeCopy {
    /// Reads all of a backend.
    ///
    /// # Panics
    /// When the backend fails.
    #[must_use]
    pub fn read(name: Name, backend: &dyn StorageBackend, partitions: u32) -> Self {
        let all = PageLimit::entries(usize::MAX);
        let most = Tid(u64::MAX);
        let first = RevisionId::from((Tid::ZERO, Oid::ZERO));
        run_ready(async {
            let mut cells = BTreeMap::new();
            for partition in (0..partitions).map(Partition) {
                let transactions = backend
                    .transactions(partition, Tid::ZERO, most, Order::Ascending, all)
                    .await?;
                let revisions = backend.fetch(partition, first, most, all).await?;
                let cell = CellCopy {
                    transactions: transactions.into_iter().map(|t| (t.tid, t)).collect(),
                    revisions: revisions.into_iter().map(|r| (r.id, r)).collect(),
                };
                cells.insert(partition, cell);
            }
            Ok::<_, neo_api::BackendError>(Self {
                name,
                nid: None,
                serving: false,
                cells,
                unfinished: backend.unfinished(None, usize::MAX).await?,
                loose: backend.loose_data(None, usize::MAX).await?,
                table: backend.partition_table().await?,
            })
        })
        .expect("a simulated disk can be read")
    }
}

/// What is in all databases of a world at one moment.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The table that the primary goes by, or the newest that a storage node has.
    pub table: PartitionTable,
    /// Every storage node's.
    pub nodes: Vec<NodeCopy>,
    /// Of each object on a readable copy: its revisions with their values; `None`: a deletion.
    objects: BTreeMap<Oid, BTreeMap<Tid, Option<Bytes>>>,
    /// What transactions that are on readable copies ordered.
    pub orders: Vec<PackOrder>,
    /// Revisions of committed transactions that are not on the readable copy, and that an order
    /// concerns; they count among the revisions of their objects.
    pub packed: BTreeSet<RevisionId>,
}

impl Facts {
    /// Reads the disks of a world; `None` when there is no partition table yet.
    #[must_use]
    pub fn read(world: &World) -> Option<Self> {
        let storages = world
            .names()
            .filter(|name| matches!(name, Name::Storage(_)));
        let partitions = world.partitions();
        let nodes: Vec<NodeCopy> = storages
            .map(|name| NodeCopy {
                nid: world.nid(name),
                serving: world.is_serving(name),
                ..NodeCopy::read(name, world.disk(name).backend(), partitions)
            })
            .collect();
        let stored = nodes.iter().filter_map(|node| node.table.as_ref());
        let newest = stored.max_by_key(|table| table.version);
        let table = world.partition_table().or(newest)?.clone();
        let mut facts = Self {
            table,
            nodes,
            objects: BTreeMap::new(),
            orders: Vec::new(),
            packed: BTreeSet::new(),
        };
        facts.label_emptied(&world.oracle().borrow());
        facts.objects = facts.by_object();
        facts.remember(&world.oracle().borrow());
        Some(facts)
    }

    /// Gives transactions back what packs took with their metadata: by what they are known here.
    fn label_emptied(&mut self, oracle: &Oracle) {
        let cells = self
            .nodes
            .iter_mut()
            .flat_map(|node| node.cells.values_mut());
        let records = cells.flat_map(|cell| cell.transactions.values_mut());
        for record in records.filter(|record| record.is_emptied()) {
            let number = record.txn.and_then(|name| oracle.by_name(name));
            record.meta.description = number.map(Oracle::label).unwrap_or_default();
        }
    }

    fn by_object(&self) -> BTreeMap<Oid, BTreeMap<Tid, Option<Bytes>>> {
        let mut objects: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for partition in self.table.partitioning().iter() {
            let Some((_, cell)) = self.readable(partition).next() else {
                continue;
            };
            for (id, revision) in &cell.revisions {
                let value = revision.record.as_ref().map(|record| record.data.clone());
                objects.entry(id.oid).or_default().insert(id.tid, value);
            }
        }
        objects
    }

    /// Adds what packs may have removed, as clients stored it.
    fn remember(&mut self, oracle: &Oracle) {
        let mut orders = Vec::new();
        for partition in self.table.partitioning().iter() {
            let copy = self.readable(partition).next();
            let records = copy
                .into_iter()
                .flat_map(|(_, cell)| cell.transactions.values());
            orders.extend(records.filter_map(|record| record.pack.clone()));
        }
        let mut gone = Vec::new();
        for (tid, label) in self.transactions() {
            let seen = Oracle::number(label).and_then(|n| oracle.transactions().get(&n));
            for (oid, stored) in seen.into_iter().flat_map(|seen| &seen.stores) {
                let is_there = self
                    .objects
                    .get(oid)
                    .is_some_and(|all| all.contains_key(&tid));
                let is_ordered = |order: &PackOrder| order.at >= tid && order.concerns(*oid);
                if !is_there && self.has_readable(*oid) && orders.iter().any(is_ordered) {
                    gone.push((RevisionId { tid, oid: *oid }, stored.value.clone()));
                }
            }
        }
        self.orders = orders;
        for (id, value) in gone {
            self.packed.insert(id);
            self.objects
                .entry(id.oid)
                .or_default()
                .insert(id.tid, value);
        }
    }

    /// The revisions of an object on a readable copy, and those that were there before a pack, with
    /// their values; `None`: a deletion.
    pub fn revisions(
        &self,
        oid: Oid,
        tids: impl RangeBounds<Tid>,
    ) -> impl DoubleEndedIterator<Item = (Tid, &Option<Bytes>)> {
        let revisions = self.objects.get(&oid).map(|all| all.range(tids));
        revisions
            .into_iter()
            .flatten()
            .map(|(tid, value)| (*tid, value))
    }

    /// Whether a pack that was ordered removes a revision.
    #[must_use]
    pub fn is_obsolete(&self, RevisionId { tid, oid }: RevisionId) -> bool {
        self.orders.iter().any(|order| {
            if order.at < tid || !order.concerns(oid) {
                return false;
            }
            let mut rest = self.revisions(oid, tid..=order.at);
            let is_deletion = rest.next().is_some_and(|(_, value)| value.is_none());
            let is_replaced = rest.next().is_some();
            is_deletion || is_replaced
        })
    }

    /// Whether there is a readable copy of the partition of an object.
    #[must_use]
    pub fn has_readable(&self, oid: Oid) -> bool {
        let partition = self.table.partitioning().of_oid(oid);
        self.readable(partition).next().is_some()
    }

    /// The newest value of an object.
    #[must_use]
    pub fn newest(&self, oid: Oid) -> Option<&Bytes> {
        self.revisions(oid, ..).next_back()?.1.as_ref()
    }

    /// The tid and the label of each transaction on a readable copy, in order.
    #[must_use]
    pub fn transactions(&self) -> BTreeMap<Tid, &Bytes> {
        let mut transactions = BTreeMap::new();
        for partition in self.table.partitioning().iter() {
            let cells = self.readable(partition).next();
            let records = cells.into_iter().flat_map(|(_, cell)| &cell.transactions);
            transactions.extend(records.map(|(tid, record)| (*tid, &record.meta.description)));
        }
        transactions
    }

    /// The readable copies of a partition: those of nodes that serve, or of all when none does.
    pub fn readable(&self, partition: Partition) -> impl Iterator<Item = (Name, &CellCopy)> {
        let nobody_serves = !self.nodes.iter().any(|node| node.serving);
        self.table.cells(partition).iter().filter_map(move |cell| {
            let is_readable = matches!(cell.state, CellState::UpToDate | CellState::Feeding);
            let node = self.nodes.iter().find(|node| node.nid == Some(cell.nid))?;
            let counts = is_readable && (node.serving || nobody_serves);
            counts.then(|| (node.name, &node.cells[&partition]))
        })
    }
}
