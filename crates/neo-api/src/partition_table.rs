//! The partition table: which storage nodes hold which partitions, and in what state.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, Oid, Partition, Partitioning, Ptid, Reign, Tid};
use crate::state::CellState;

/// Version of a partition table: tables are ordered by reign, then by ptid.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "(Reign, Ptid)", into = "(Reign, Ptid)")]
pub struct TableVersion {
    /// Reign of the primary that last verified or changed it.
    pub reign: Reign,
    /// Number of the change.
    pub ptid: Ptid,
}

impl From<(Reign, Ptid)> for TableVersion {
    fn from((reign, ptid): (Reign, Ptid)) -> Self {
        Self { reign, ptid }
    }
}

impl From<TableVersion> for (Reign, Ptid) {
    fn from(version: TableVersion) -> Self {
        (version.reign, version.ptid)
    }
}

impl fmt::Display for TableVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.reign, self.ptid)
    }
}

/// One partition on one storage node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "WireCell", into = "WireCell")]
pub struct Cell {
    /// The storage node.
    pub nid: NodeId,
    /// In what state.
    pub state: CellState,
    /// Version of the table that assigned the partition to the node: messages about an earlier
    /// assignment are dropped.
    pub assigned: TableVersion,
}

/// A cell as it travels: without the names of its fields, since there are thousands.
type WireCell = (NodeId, CellState, TableVersion);

impl From<WireCell> for Cell {
    fn from((nid, state, assigned): WireCell) -> Self {
        Self {
            nid,
            state,
            assigned,
        }
    }
}

impl From<Cell> for WireCell {
    fn from(cell: Cell) -> Self {
        (cell.nid, cell.state, cell.assigned)
    }
}

/// A change of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CellChange {
    /// Whose cell.
    pub partition: Partition,
    /// The cell, as it becomes; `Discarded` removes it.
    pub cell: Cell,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTable {
    /// Which table it is.
    pub version: TableVersion,
    /// Wanted copies beside the first.
    pub replicas: u32,
    /// The greatest number of a storage node that ever had a cell: none of these ids is given
    /// again, since an old database with it may come back.
    #[serde(default)]
    pub last_storage: u32,
    /// One row a partition; cells in order of node id.
    pub rows: Vec<Vec<Cell>>,
}

/// A table or a change that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// No row, or more than 65535.
    #[error("a partition table has 1 to 65535 partitions, not {0}")]
    Rows(usize),
    /// A change of a row that does not exist.
    #[error("partition {0} is not in the table")]
    NoSuchPartition(Partition),
    /// A cell of a node that stores nothing.
    #[error("{0} is no storage node")]
    NotAStorage(NodeId),
    /// A row that names a node twice, or is not in order of node id.
    #[error("the row of partition {0} is not in order")]
    Order(Partition),
}

impl PartitionTable {
    /// A table of `np` rows without cells.
    #[must_use]
    pub fn empty(partitioning: Partitioning, replicas: u32) -> Self {
        Self {
            version: TableVersion::default(),
            replicas,
            last_storage: 0,
            rows: vec![Vec::new(); partitioning.count() as usize],
        }
    }

    /// Checks a table that came from a peer or a disk.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn check(&self) -> Result<(), TableError> {
        if u32::try_from(self.rows.len())
            .ok()
            .and_then(Partitioning::new)
            .is_none()
        {
            return Err(TableError::Rows(self.rows.len()));
        }
        for (partition, row) in self.iter() {
            for cell in row {
                check_storage(cell.nid)?;
            }
            let in_order = row.windows(2).all(|pair| pair[0].nid < pair[1].nid);
            if !in_order || row.iter().any(|cell| cell.state == CellState::Discarded) {
                return Err(TableError::Order(partition));
            }
        }
        Ok(())
    }

    /// How objects and transactions map to its rows.
    ///
    /// # Panics
    /// When the table has no row or too many; [`PartitionTable::check`] tells.
    #[must_use]
    pub fn partitioning(&self) -> Partitioning {
        u32::try_from(self.rows.len())
            .ok()
            .and_then(Partitioning::new)
            .expect("the table was checked to have 1 to 65535 rows")
    }

    /// Rows with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Partition, &[Cell])> {
        (0u32..)
            .zip(&self.rows)
            .map(|(n, row)| (Partition(n), row.as_slice()))
    }

    /// The cells of a partition; none for a partition that does not exist.
    #[must_use]
    pub fn cells(&self, partition: Partition) -> &[Cell] {
        self.rows
            .get(partition.0 as usize)
            .map_or(&[], Vec::as_slice)
    }

    /// The cell of a partition on a node.
    #[must_use]
    pub fn cell(&self, partition: Partition, nid: NodeId) -> Option<&Cell> {
        self.cells(partition).iter().find(|cell| cell.nid == nid)
    }

    /// The readable cells of a partition.
    pub fn readable(&self, partition: Partition) -> impl Iterator<Item = &Cell> {
        self.cells(partition)
            .iter()
            .filter(|cell| cell.state.is_readable())
    }

    /// The writable cells of a partition.
    pub fn writable(&self, partition: Partition) -> impl Iterator<Item = &Cell> {
        self.cells(partition)
            .iter()
            .filter(|cell| cell.state.is_writable())
    }

    /// The readable cells of an object.
    pub fn readable_of_oid(&self, oid: Oid) -> impl Iterator<Item = &Cell> {
        self.readable(self.partitioning().of_oid(oid))
    }

    /// The readable cells of a transaction's metadata.
    pub fn readable_of_tid(&self, tid: Tid) -> impl Iterator<Item = &Cell> {
        self.readable(self.partitioning().of_tid(tid))
    }

    /// Every node that has a cell.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.rows.iter().flatten().map(|cell| cell.nid).collect()
    }

    /// Every node that has a readable cell.
    #[must_use]
    pub fn readable_nodes(&self) -> BTreeSet<NodeId> {
        let readable = self
            .rows
            .iter()
            .flatten()
            .filter(|cell| cell.state.is_readable());
        readable.map(|cell| cell.nid).collect()
    }

    /// Whether every partition has a readable cell on a node that `is_up`.
    pub fn is_operational(&self, mut is_up: impl FnMut(NodeId) -> bool) -> bool {
        self.rows.iter().all(|row| {
            row.iter()
                .any(|cell| cell.state.is_readable() && is_up(cell.nid))
        })
    }

    /// Applies changes that lead to `version`.
    ///
    /// # Errors
    /// When a change names a partition or node that can't be; nothing is changed then.
    pub fn apply(
        &mut self,
        version: TableVersion,
        replicas: u32,
        changes: &[CellChange],
    ) -> Result<(), TableError> {
        for change in changes {
            check_storage(change.cell.nid)?;
            if change.partition.0 as usize >= self.rows.len() {
                return Err(TableError::NoSuchPartition(change.partition));
            }
        }
        for CellChange { partition, cell } in changes {
            let row = &mut self.rows[partition.0 as usize];
            if cell.state != CellState::Discarded {
                self.last_storage = self.last_storage.max(cell.nid.number());
            }
            match (row.binary_search_by_key(&cell.nid, |c| c.nid), cell.state) {
                (Ok(at), CellState::Discarded) => {
                    row.remove(at);
                }
                (Err(_), CellState::Discarded) => {}
                (Ok(at), _) => row[at] = *cell,
                (Err(at), _) => row.insert(at, *cell),
            }
        }
        self.version = version;
        self.replicas = replicas;
        Ok(())
    }
}

fn check_storage(nid: NodeId) -> Result<(), TableError> {
    if nid.node_type() == crate::state::NodeType::Storage {
        Ok(())
    } else {
        Err(TableError::NotAStorage(nid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NodeType;

    fn nid(n: u32) -> NodeId {
        NodeId::new(NodeType::Storage, n).unwrap()
    }

    fn change(partition: u32, n: u32, state: CellState) -> CellChange {
        let assigned = TableVersion::default();
        CellChange {
            partition: Partition(partition),
            cell: Cell {
                nid: nid(n),
                state,
                assigned,
            },
        }
    }

    #[test]
    fn operational_means_a_readable_cell_of_a_running_node_in_each_row() {
        let mut table = PartitionTable::empty(Partitioning::new(2).unwrap(), 1);
        assert!(!table.is_operational(|_| true));
        let version = TableVersion {
            reign: Reign(1),
            ptid: Ptid(1),
        };
        let changes = [
            change(0, 2, CellState::UpToDate),
            change(0, 1, CellState::OutOfDate),
            change(1, 1, CellState::Feeding),
        ];
        table.apply(version, 1, &changes).unwrap();
        table.check().unwrap();
        assert!(table.is_operational(|_| true));
        assert!(!table.is_operational(|n| n == nid(1)));
        assert_eq!(table.readable_nodes(), [nid(1), nid(2)].into());
        table
            .apply(version, 1, &[change(1, 1, CellState::Discarded)])
            .unwrap();
        assert!(table.cells(Partition(1)).is_empty());
    }

    #[test]
    fn the_greatest_storage_that_had_a_cell_is_not_forgotten() {
        let mut table = PartitionTable::empty(Partitioning::new(1).unwrap(), 0);
        assert_eq!(table.last_storage, 0);
        for (n, state, last) in [
            (2, CellState::OutOfDate, 2),
            (1, CellState::UpToDate, 2),
            (2, CellState::Discarded, 2),
            (9, CellState::Discarded, 2),
        ] {
            let version = table.version;
            table.apply(version, 0, &[change(0, n, state)]).unwrap();
            assert_eq!(table.last_storage, last);
        }
    }

    #[test]
    fn a_change_that_makes_no_sense_changes_nothing() {
        let mut table = PartitionTable::empty(Partitioning::new(1).unwrap(), 0);
        let before = table.clone();
        let version = TableVersion {
            reign: Reign(9),
            ptid: Ptid(9),
        };
        let changes = [
            change(0, 1, CellState::UpToDate),
            change(1, 1, CellState::UpToDate),
        ];
        let error = table.apply(version, 3, &changes).unwrap_err();
        assert_eq!(error, TableError::NoSuchPartition(Partition(1)));
        assert_eq!(table, before);
    }

    #[test]
    fn a_table_from_outside_is_checked() {
        let mut table = PartitionTable::empty(Partitioning::new(1).unwrap(), 0);
        let cell = change(0, 1, CellState::UpToDate).cell;
        table.rows[0] = vec![cell, cell];
        assert_eq!(table.check(), Err(TableError::Order(Partition(0))));
        table.rows.clear();
        assert_eq!(table.check(), Err(TableError::Rows(0)));
    }
}
