//! The partition table as this node uses it: which partitions it may read and write now.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{
    Cell, CellState, NodeId, Oid, Partition, PartitionTable, Partitioning, TableVersion, Tid,
};

/// The node's cells.
///
/// Invariant: a partition is readable here only while the durable table says so; one that a newer
/// table takes away stops being readable before that table is durable. The same holds of writable
/// ones, and of those that are complete.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    nid: Option<NodeId>,
    table: Option<PartitionTable>,
    /// Readable partitions, each with the number of the period since which it is.
    readable: BTreeMap<Partition, u64>,
    periods: u64,
    writable: BTreeSet<Partition>,
    /// Out of date by the table, but nothing is missing any more: they compare serials.
    complete: BTreeSet<Partition>,
}

impl Cells {
    /// The table that was stored last.
    pub(crate) fn table(&self) -> Option<&PartitionTable> {
        self.table.as_ref()
    }

    pub(crate) fn version(&self) -> Option<TableVersion> {
        self.table.as_ref().map(|table| table.version)
    }

    pub(crate) fn partitioning(&self) -> Option<Partitioning> {
        self.table.as_ref().map(PartitionTable::partitioning)
    }

    /// Takes a table that is durable; tells whether a partition is readable that was not before.
    pub(crate) fn set(&mut self, nid: Option<NodeId>, table: PartitionTable) -> bool {
        let before = self.periods;
        self.nid = nid;
        self.narrow(&table);
        if let Some(nid) = nid {
            for (partition, _) in table.iter() {
                let Some(cell) = table.cell(partition, nid) else {
                    continue;
                };
                if cell.state.is_writable() {
                    self.writable.insert(partition);
                }
                if cell.state.is_readable() {
                    self.complete.remove(&partition);
                    if !self.readable.contains_key(&partition) {
                        self.periods += 1;
                        self.readable.insert(partition, self.periods);
                    }
                }
            }
        }
        self.table = Some(table);
        self.periods > before
    }

    /// Stops reading and writing what a table that is about to be durable takes away. Names the
    /// partitions that can't be written any more.
    pub(crate) fn narrow(&mut self, table: &PartitionTable) -> Vec<Partition> {
        let nid = self.nid;
        let becomes = |partition| nid.and_then(|nid| table.cell(partition, nid));
        let is = |partition: Partition, state: fn(CellState) -> bool| {
            becomes(partition).is_some_and(|cell| state(cell.state))
        };
        self.readable
            .retain(|partition, _| is(*partition, CellState::is_readable));
        let before = self.table.as_ref();
        self.complete.retain(|partition| {
            let before = before.zip(nid).and_then(|(t, nid)| t.cell(*partition, nid));
            becomes(*partition).map(|cell| cell.assigned) == before.map(|cell| cell.assigned)
        });
        let is_gone = |partition: &Partition| !is(*partition, CellState::is_writable);
        self.writable.extract_if(.., is_gone).collect()
    }

    /// The node's cells that are out of date.
    pub(crate) fn outdated(&self) -> impl Iterator<Item = (Partition, TableVersion)> {
        self.own()
            .filter(|(_, cell)| cell.state == CellState::OutOfDate)
            .map(|(partition, cell)| (partition, cell.assigned))
    }

    /// The node's cells.
    pub(crate) fn own(&self) -> impl Iterator<Item = (Partition, &Cell)> {
        let own = self.table.as_ref().zip(self.nid);
        own.into_iter().flat_map(|(table, nid)| {
            let cells = table.iter();
            cells.filter_map(move |(partition, _)| Some((partition, table.cell(partition, nid)?)))
        })
    }

    /// Whether the node has a cell of a partition that takes changes.
    pub(crate) fn is_writable(&self, partition: Partition) -> bool {
        self.writable.contains(&partition)
    }

    /// The partition of an object, if it is writable.
    pub(crate) fn writable_of_oid(&self, oid: Oid) -> Option<Partition> {
        let partition = self.partitioning()?.of_oid(oid);
        self.is_writable(partition).then_some(partition)
    }

    /// The partition of a transaction, if it is writable.
    pub(crate) fn writable_of_tid(&self, tid: Tid) -> Option<Partition> {
        let partition = self.partitioning()?.of_tid(tid);
        self.is_writable(partition).then_some(partition)
    }

    /// Whether the newest serial of an object of this partition is known here.
    pub(crate) fn is_checked(&self, partition: Partition) -> bool {
        self.readable.contains_key(&partition) || self.complete.contains(&partition)
    }

    /// All partitions whose newest serials are known here, in order.
    pub(crate) fn all_checked(&self) -> Vec<Partition> {
        let all: BTreeSet<_> = self.readable.keys().chain(&self.complete).collect();
        all.into_iter().copied().collect()
    }

    /// Nothing is missing any more in a cell that is out of date.
    pub(crate) fn complete(&mut self, partition: Partition) {
        self.complete.insert(partition);
    }

    /// The service ended: what was complete may lack what comes next.
    pub(crate) fn forget_complete(&mut self) {
        self.complete.clear();
    }

    /// The period since which a partition is readable, if it is.
    pub(crate) fn readable(&self, partition: Partition) -> Option<u64> {
        self.readable.get(&partition).copied()
    }

    /// The partition of an object, if it is readable.
    pub(crate) fn readable_of_oid(&self, oid: Oid) -> Option<Partition> {
        let partition = self.partitioning()?.of_oid(oid);
        self.readable(partition).map(|_| partition)
    }

    /// All readable partitions, in order.
    pub(crate) fn all_readable(&self) -> Vec<Partition> {
        self.readable.keys().copied().collect()
    }

    /// All partitions that this node has a cell of, in order.
    pub(crate) fn assigned(&self) -> Vec<Partition> {
        self.own().map(|(partition, _)| partition).collect()
    }
}
