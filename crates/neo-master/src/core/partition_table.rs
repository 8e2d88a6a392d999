//! The writable partition table: creation, and the changes that a primary makes.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{
    Cell, CellChange, CellState, NodeId, Partition, PartitionTable, Partitioning, Reign,
    TableError, TableVersion,
};

use super::tweak::tweak;

/// A partition table with an index by node, so that the cost of a change is that of the cells
/// that change.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    table: PartitionTable,
    by_node: BTreeMap<NodeId, Holding>,
}

/// The cells of a node.
#[derive(Debug, Clone, Default)]
struct Holding {
    partitions: BTreeSet<Partition>,
    /// How many of them are in each state; none is 0.
    states: BTreeMap<CellState, usize>,
}

impl Holding {
    fn count(&self, state: CellState) -> usize {
        self.states.get(&state).copied().unwrap_or(0)
    }

    fn add(&mut self, partition: Partition, state: CellState) {
        self.partitions.insert(partition);
        *self.states.entry(state).or_default() += 1;
    }

    fn take(&mut self, partition: Partition, state: CellState) {
        self.partitions.remove(&partition);
        if let Some(count) = self.states.get_mut(&state) {
            *count -= 1;
            if *count == 0 {
                self.states.remove(&state);
            }
        }
    }
}

impl Table {
    /// The table of a new cluster: `min(replicas + 1, nodes)` copies of each partition, dealt out
    /// in turn, so that consecutive partitions, and so consecutive oids, hit different nodes.
    pub(crate) fn create(
        version: TableVersion,
        partitioning: Partitioning,
        replicas: u32,
        nodes: &BTreeSet<NodeId>,
    ) -> Self {
        let nodes: Vec<NodeId> = nodes.iter().copied().collect();
        let copies = nodes.len().min(replicas as usize + 1);
        let mut table = PartitionTable::empty(partitioning, replicas);
        table.version = version;
        let mut dealt = 0usize;
        for row in &mut table.rows {
            for _ in 0..copies {
                row.push(Cell {
                    nid: nodes[dealt % nodes.len()],
                    state: CellState::UpToDate,
                    assigned: version,
                });
                dealt += 1;
            }
            row.sort_by_key(|cell| cell.nid);
        }
        Self::index(table)
    }

    /// A new table, with the copies of each partition in different places.
    pub(crate) fn spread(self, places: &BTreeMap<NodeId, Vec<String>>) -> Self {
        let Self { mut table, .. } = self;
        let version = table.version;
        for CellChange { partition, cell } in tweak(&table, places, version).changes {
            let row = &mut table.rows[partition.0 as usize];
            // There is no data yet: what is to be filled is complete.
            row.retain(|other| other.nid != cell.nid);
            if cell.state == CellState::OutOfDate {
                let state = CellState::UpToDate;
                row.push(Cell { state, ..cell });
                row.sort_by_key(|cell| cell.nid);
            }
        }
        Self::index(table)
    }

    /// A table that a storage node remembers.
    pub(crate) fn load(table: PartitionTable) -> Result<Self, TableError> {
        table.check()?;
        Ok(Self::index(table))
    }

    fn index(mut table: PartitionTable) -> Self {
        let mut by_node: BTreeMap<NodeId, Holding> = BTreeMap::new();
        for (partition, row) in table.iter() {
            for cell in row {
                let holding = by_node.entry(cell.nid).or_default();
                holding.add(partition, cell.state);
            }
        }
        let last = by_node.keys().next_back().map_or(0, |nid| nid.number());
        table.last_storage = table.last_storage.max(last);
        Self { table, by_node }
    }

    pub(crate) const fn get(&self) -> &PartitionTable {
        &self.table
    }

    pub(crate) const fn version(&self) -> TableVersion {
        self.table.version
    }

    /// Makes it the table of another version, without a change of cells.
    pub(crate) const fn set_version(&mut self, version: TableVersion) {
        self.table.version = version;
    }

    /// Whether a node has a cell.
    pub(crate) fn has_node(&self, nid: NodeId) -> bool {
        self.by_node.contains_key(&nid)
    }

    /// Partitions that a node has cells of, in order.
    pub(crate) fn partitions_of(&self, nid: NodeId) -> impl Iterator<Item = Partition> {
        let holding = self.by_node.get(&nid).into_iter();
        holding.flat_map(|holding| holding.partitions.iter().copied())
    }

    /// Cells of nodes that are replaced, in these partitions: they can go where as many others are
    /// readable as are wanted.
    pub(crate) fn replaced(
        &self,
        nodes: &BTreeSet<NodeId>,
        partitions: impl Iterator<Item = Partition>,
    ) -> Vec<CellChange> {
        let mut changes = Vec::new();
        for partition in partitions {
            let row = self.table.cells(partition);
            let others = row.iter().filter(|cell| !nodes.contains(&cell.nid));
            let readable = others.filter(|cell| cell.state.is_readable()).count();
            if readable <= self.table.replicas as usize {
                continue;
            }
            let cells = row.iter().filter(|cell| nodes.contains(&cell.nid));
            changes.extend(cells.map(|cell| {
                let state = CellState::Discarded;
                let cell = Cell { state, ..*cell };
                CellChange { partition, cell }
            }));
        }
        changes
    }

    /// Every node that has a cell, in order.
    pub(crate) fn holders(&self) -> impl Iterator<Item = NodeId> {
        self.by_node.keys().copied()
    }

    /// Whether a node has a readable cell.
    pub(crate) fn is_readable_on(&self, nid: NodeId) -> bool {
        let holding = self.by_node.get(&nid);
        holding.is_some_and(|holding| holding.states.keys().any(|state| state.is_readable()))
    }

    /// Whether a node has feeding cells, and no others.
    fn is_only_feeding(&self, nid: NodeId) -> bool {
        let all_feed =
            |holding: &Holding| holding.partitions.len() == holding.count(CellState::Feeding);
        self.by_node.get(&nid).is_some_and(all_feed)
    }

    /// The newest assignment of the cells that a node is said to have completely.
    pub(crate) fn newest_readable(&self, nid: NodeId) -> Option<TableVersion> {
        let rows = self.cells_of(nid).map(|(_, row, _)| row);
        let own = rows.filter_map(|row| row.iter().find(|cell| cell.nid == nid));
        let readable = own.filter(|cell| cell.state.is_readable());
        readable.map(|cell| cell.assigned).max()
    }

    /// Whether every cell of a node was assigned to it in this reign.
    pub(crate) fn is_assigned_in(&self, nid: NodeId, reign: Reign) -> bool {
        let mut rows = self.cells_of(nid).map(|(_, row, _)| row);
        rows.all(|row| {
            row.iter()
                .all(|cell| cell.nid != nid || cell.assigned.reign == reign)
        })
    }

    /// Cells of a node, with their rows.
    fn cells_of(&self, nid: NodeId) -> impl Iterator<Item = (Partition, &[Cell], CellState)> {
        let holding = self.by_node.get(&nid).into_iter();
        let partitions = holding.flat_map(|holding| &holding.partitions);
        partitions.filter_map(move |&partition| {
            let row = self.table.cells(partition);
            let cell = row.iter().find(|cell| cell.nid == nid)?;
            Some((partition, row, cell.state))
        })
    }

    /// A partition that would have no readable cell on a node that `is_up` without the nodes in
    /// `lost`; `None` when they can be spared. Only partitions of these nodes are looked at: the
    /// others are as they were.
    pub(crate) fn bereft(
        &self,
        lost: &BTreeSet<NodeId>,
        is_up: impl Fn(NodeId) -> bool,
    ) -> Option<Partition> {
        let remains =
            |cell: &Cell| cell.state.is_readable() && is_up(cell.nid) && !lost.contains(&cell.nid);
        let mut cells = lost.iter().flat_map(|nid| self.cells_of(*nid));
        cells
            .find(|(_, row, state)| state.is_readable() && !row.iter().any(remains))
            .map(|(partition, _, _)| partition)
    }

    /// What becomes of the readable cells of nodes that are lost: out of date. A cell that was
    /// feeding its replacement goes.
    pub(crate) fn outdate(&self, lost: &BTreeSet<NodeId>) -> Vec<CellChange> {
        let mut changes = Vec::new();
        for &nid in lost {
            for (partition, row, _) in self.cells_of(nid) {
                for cell in row.iter().filter(|cell| cell.nid == nid) {
                    let state = match cell.state {
                        CellState::UpToDate => CellState::OutOfDate,
                        CellState::Feeding => CellState::Discarded,
                        _ => continue,
                    };
                    let cell = Cell { state, ..*cell };
                    changes.push(CellChange { partition, cell });
                }
            }
        }
        changes
    }

    /// What removes a node from the table. Where it leaves a feeding cell behind that it was to
    /// replace, that one stays for good.
    pub(crate) fn discard(&self, nid: NodeId) -> Vec<CellChange> {
        let mut changes = Vec::new();
        for (partition, row, state) in self.cells_of(nid) {
            let mut change = |cell: &Cell, state| {
                let cell = Cell { state, ..*cell };
                changes.push(CellChange { partition, cell });
            };
            let own = row.iter().find(|cell| cell.nid == nid);
            own.into_iter()
                .for_each(|cell| change(cell, CellState::Discarded));
            let feeds = |cell: &&Cell| cell.state == CellState::Feeding;
            if state != CellState::Feeding
                && let Some(cell) = row.iter().find(feeds)
            {
                change(cell, CellState::UpToDate);
            }
        }
        changes
    }

    /// Feeding cells of these partitions that can go: as many readable cells remain as are wanted.
    /// First those of nodes that have nothing else, so that these become free.
    pub(crate) fn surplus(&self, partitions: impl Iterator<Item = Partition>) -> Vec<CellChange> {
        let mut changes = Vec::new();
        for partition in partitions {
            let row = self.table.cells(partition);
            let readable = row.iter().filter(|cell| cell.state.is_readable()).count();
            let spare = readable.saturating_sub(self.table.replicas as usize + 1);
            let feeding = row
                .iter()
                .filter(|cell| cell.state == CellState::Feeding && spare > 0);
            let mut feeding: Vec<&Cell> = feeding.collect();
            feeding.sort_by_key(|cell| !self.is_only_feeding(cell.nid));
            changes.extend(feeding.into_iter().take(spare).map(|cell| {
                let state = CellState::Discarded;
                let cell = Cell { state, ..*cell };
                CellChange { partition, cell }
            }));
        }
        changes
    }

    /// Applies changes that this primary made.
    pub(crate) fn apply(&mut self, version: TableVersion, replicas: u32, changes: &[CellChange]) {
        assert!(
            version > self.table.version,
            "versions of the partition table increase"
        );
        for CellChange { partition, cell } in changes {
            let holding = self.by_node.entry(cell.nid).or_default();
            if let Some(before) = self.table.cell(*partition, cell.nid) {
                holding.take(*partition, before.state);
            }
            if cell.state != CellState::Discarded {
                holding.add(*partition, cell.state);
            }
            if holding.partitions.is_empty() {
                self.by_node.remove(&cell.nid);
            }
        }
        self.table
            .apply(version, replicas, changes)
            .expect("changes are made of cells of the table");
    }
}

#[cfg(test)]
mod tests {
    use neo_api::{NodeType, Ptid};
    use proptest::prelude::*;

    use super::*;

    fn nids(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<NodeId> {
        let nid = |n| NodeId::new(NodeType::Storage, n).unwrap();
        numbers.into_iter().map(nid).collect()
    }

    fn version(ptid: u64) -> TableVersion {
        TableVersion {
            reign: Reign(1),
            ptid: Ptid(ptid),
        }
    }

    fn create(np: u32, replicas: u32, nodes: u32) -> Table {
        let partitioning = Partitioning::new(np).unwrap();
        Table::create(version(1), partitioning, replicas, &nids(1..=nodes))
    }

    fn letters(table: &Table) -> Vec<String> {
        let row = |row: &Vec<Cell>| {
            let cell = |cell: &Cell| format!("{}{}", cell.nid.number(), cell.state.letter());
            row.iter().map(cell).collect()
        };
        table.get().rows.iter().map(row).collect()
    }

    #[test]
    fn a_new_table_is_dealt_out_in_turn() {
        assert_eq!(letters(&create(4, 0, 3)), ["1U", "2U", "3U", "1U"]);
        assert_eq!(letters(&create(3, 1, 3)), ["1U2U", "1U3U", "2U3U"]);
        assert_eq!(letters(&create(2, 9, 2)), ["1U2U", "1U2U"]);
        // A node that gets nothing is not in the table.
        assert!(!create(1, 0, 2).has_node(*nids([2]).first().unwrap()));
    }

    #[test]
    fn lost_nodes_are_outdated_unless_a_partition_would_be_bereft() {
        let mut table = create(3, 1, 3);
        let (one, two) = (nids([1]), nids([1, 2]));
        assert_eq!(table.bereft(&one, |_| true), None);
        assert_eq!(table.bereft(&two, |_| true), Some(Partition(0)));
        let three = *nids([3]).first().unwrap();
        assert_eq!(table.bereft(&one, |nid| nid != three), Some(Partition(1)));
        let changes = table.outdate(&one);
        table.apply(version(2), 1, &changes);
        assert_eq!(letters(&table), ["1O2U", "1O3U", "2U3U"]);
        assert_eq!(table.outdate(&one), []);
        assert!(!table.is_readable_on(*one.first().unwrap()));
    }

    #[test]
    fn a_node_that_is_dropped_leaves_its_feeding_cells_for_good() {
        let mut table = create(1, 1, 2);
        let two = *nids([2]).first().unwrap();
        let mut feeding = table.get().rows[0][0];
        feeding.state = CellState::Feeding;
        let partition = Partition(0);
        table.apply(
            version(2),
            1,
            &[CellChange {
                partition,
                cell: feeding,
            }],
        );
        let changes = table.discard(two);
        table.apply(version(3), 1, &changes);
        assert_eq!(letters(&table), ["1U"]);
        assert!(!table.has_node(two));
    }

    proptest! {
        #[test]
        fn a_new_table_is_balanced(np in 1u32..200, replicas in 0u32..6, nodes in 1u32..12) {
            let table = create(np, replicas, nodes);
            prop_assert_eq!(table.get().check(), Ok(()));
            prop_assert!(table.get().is_operational(|_| true));
            let copies = nodes.min(replicas + 1) as usize;
            prop_assert!(table.get().rows.iter().all(|row| row.len() == copies));
            let cells = |nid: &NodeId| table.cells_of(*nid).count();
            let counts: Vec<usize> = nids(1..=nodes).iter().map(cells).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }

        #[test]
        fn the_index_and_the_whole_agree(
            np in 1u32..20, replicas in 0u32..3, nodes in 1u32..6,
            losses in proptest::collection::vec(1u32..6, 0..6),
        ) {
            let mut table = create(np, replicas, nodes);
            for (ptid, n) in (2..).zip(losses) {
                let lost = nids([n]);
                let whole = table.get().is_operational(|nid| !lost.contains(&nid));
                prop_assert_eq!(table.bereft(&lost, |_| true).is_none(), whole);
                if whole {
                    let changes = table.outdate(&lost);
                    table.apply(version(ptid), replicas, &changes);
                }
                prop_assert!(table.get().is_operational(|_| true));
                let readable: BTreeSet<NodeId> =
                    nids(1..=nodes).into_iter().filter(|n| table.is_readable_on(*n)).collect();
                prop_assert_eq!(readable, table.get().readable_nodes());
            }
        }
    }
}
