//! Balancing the partition table: which cells come and which go, as a pure function.
//!
//! Nodes that take part end up with numbers of cells that are equal but for one, each partition
//! with one copy more than there are to be replicas, in as many places as there are. As few cells as
//! possible are new; a table that is balanced is left as it is. Readable cells that are to go are
//! FEEDING until they are replaced, as far as they are needed to have as many readable copies as
//! before, or as are wanted.
//!
//! # Source
//! Tweak, in NEO's administration. NEO finds which node gets which of a set of fixed lists of
//! partitions; here any balanced table will do.

mod flow;
mod layout;
#[cfg(test)]
mod tweak_test;

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Cell, CellChange, CellState, NodeId, Partition, PartitionTable, TableVersion};

use self::layout::{Layout, Present, Problem, solve};

/// What balances a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tweak {
    pub(crate) changes: Vec<CellChange>,
    /// What could not be done, in words.
    pub(crate) warnings: Vec<String>,
}

/// Balances a table over the nodes that take part, with where each of them is. Cells of other nodes
/// stay as they are. `version` is that of the table that results.
pub(crate) fn tweak(
    table: &PartitionTable,
    nodes: &BTreeMap<NodeId, Vec<String>>,
    version: TableVersion,
) -> Tweak {
    if nodes.is_empty() {
        return Tweak::default();
    }
    let nids: Vec<NodeId> = nodes.keys().copied().collect();
    let places: Vec<Vec<String>> = nodes.values().cloned().collect();
    let number = |nid: NodeId| nids.binary_search(&nid).ok();
    let present = |cell: &Cell| {
        Some(Present {
            node: number(cell.nid)?,
            is_feeding: cell.state == CellState::Feeding,
        })
    };
    let cells = table.rows.iter();
    let cells = cells.map(|row| row.iter().filter_map(present).collect());
    let Layout { rows, warnings } = solve(&Problem {
        places: &places,
        copies: nids.len().min(table.replicas as usize + 1),
        cells: cells.collect(),
    });
    let mut changes = Vec::new();
    for ((partition, row), wanted) in table.iter().zip(rows) {
        let wanted: BTreeSet<NodeId> = wanted.into_iter().map(|node| nids[node]).collect();
        let readable_min = table.replicas as usize + 1;
        let change = RowChange {
            partition,
            row,
            wanted: &wanted,
            takes_part: &|nid| nodes.contains_key(&nid),
        };
        change.list(readable_min, version, &mut changes);
    }
    Tweak { changes, warnings }
}

/// What becomes of a partition.
struct RowChange<'a> {
    partition: Partition,
    row: &'a [Cell],
    wanted: &'a BTreeSet<NodeId>,
    takes_part: &'a dyn Fn(NodeId) -> bool,
}

impl RowChange<'_> {
    fn list(&self, readable_min: usize, version: TableVersion, changes: &mut Vec<CellChange>) {
        let stays = |cell: &&Cell| !(self.takes_part)(cell.nid) || self.wanted.contains(&cell.nid);
        let readable = self.row.iter().filter(|cell| cell.state.is_readable());
        let staying = readable.filter(stays).count();
        let mut needed = readable_min.saturating_sub(staying);
        // What feeds already goes on feeding, rather than another cell.
        let mut leaving: Vec<&Cell> = self.row.iter().filter(|cell| !stays(cell)).collect();
        leaving.sort_by_key(|cell| cell.state != CellState::Feeding);
        let mut becomes: BTreeMap<NodeId, CellState> = BTreeMap::new();
        for cell in leaving {
            let state = if cell.state.is_readable() && needed > 0 {
                needed -= 1;
                CellState::Feeding
            } else {
                CellState::Discarded
            };
            becomes.insert(cell.nid, state);
        }
        for cell in self.row {
            let state = match (becomes.get(&cell.nid), cell.state) {
                (Some(state), _) => *state,
                (None, CellState::Feeding) if self.wanted.contains(&cell.nid) => {
                    CellState::UpToDate
                }
                (None, state) => state,
            };
            if state != cell.state {
                let cell = Cell { state, ..*cell };
                let partition = self.partition;
                changes.push(CellChange { partition, cell });
            }
        }
        for &nid in self.wanted {
            if self.row.iter().all(|cell| cell.nid != nid) {
                let cell = Cell {
                    nid,
                    state: CellState::OutOfDate,
                    assigned: version,
                };
                let partition = self.partition;
                changes.push(CellChange { partition, cell });
            }
        }
    }
}
