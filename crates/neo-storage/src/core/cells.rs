//! The partition table as this node uses it: which partitions it may read and write now.

use std::collections::BTreeMap;

use neo_api::{NodeId, Oid, Partition, PartitionTable, Partitioning, TableVersion, Tid};

/// The node's cells.
///
/// Invariant: a partition is readable here only while the durable table says so; one that a newer
/// table takes away stops being readable before that table is durable.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    nid: Option<NodeId>,
    table: Option<PartitionTable>,
    /// Readable partitions, each with the number of the period since which it is.
    readable: BTreeMap<Partition, u64>,
    periods: u64,
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
                let cell = table.cell(partition, nid);
                if cell.is_some_and(|cell| cell.state.is_readable())
                    && !self.readable.contains_key(&partition)
                {
                    self.periods += 1;
                    self.readable.insert(partition, self.periods);
                }
            }
        }
        self.table = Some(table);
        self.periods > before
    }

    /// Stops reading what a table that is about to be durable takes away.
    pub(crate) fn narrow(&mut self, table: &PartitionTable) {
        let nid = self.nid;
        self.readable.retain(|partition, _| {
            let cell = nid.and_then(|nid| table.cell(*partition, nid));
            cell.is_some_and(|cell| cell.state.is_readable())
        });
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

    /// The partition of a transaction, if it is readable.
    pub(crate) fn readable_of_tid(&self, tid: Tid) -> Option<Partition> {
        let partition = self.partitioning()?.of_tid(tid);
        self.readable(partition).map(|_| partition)
    }

    /// All readable partitions, in order.
    pub(crate) fn all_readable(&self) -> Vec<Partition> {
        self.readable.keys().copied().collect()
    }

    /// All partitions that this node has a cell of, in order.
    pub(crate) fn assigned(&self) -> Vec<Partition> {
        let (Some(nid), Some(table)) = (self.nid, &self.table) else {
            return Vec::new();
        };
        let own = table.iter().filter(|(p, _)| table.cell(*p, nid).is_some());
        own.map(|(partition, _)| partition).collect()
    }
}
