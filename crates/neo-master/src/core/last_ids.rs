//! The end of VERIFYING: the greatest ids of the cluster, and cells that lack what they once had.
//!
//! Every transaction that is committed is now in its final place on every readable cell of its
//! partitions. Tids increase: so the readable cells of a partition end with the same transaction
//! and with the same revision, and one that ends before another lacks something. Its node's
//! database is an older copy of itself, put back, or its disk has lost what it had acknowledged.
//! Such a cell becomes OUT_OF_DATE, which is durable before the cluster runs.
//!
//! It is assigned anew: nothing that its node has noted of it, or could find out, is believed, and
//! all of it is compared with a cell that has everything.

use std::collections::BTreeMap;

use neo_api::{
    Cell, CellChange, CellState, NodeId, Now, Partition, PartitionTable, Reign, TableVersion, Tid,
};
use neo_proto::{CellLastIds, WireLastIds};

use super::MasterCore;
use super::effect::Out;
use super::survey::check_last_ids;

/// Partitions that are named to the operator.
const NAMED: usize = 10;

/// Where the data of a cell ends: the greatest tids of a transaction's metadata, and of a revision.
type End = (Option<Tid>, Option<Tid>);

/// Where the readable cells end, by node.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<NodeId, Vec<CellLastIds>>);

/// A cell that lacks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Behind {
    partition: Partition,
    cell: Cell,
    has: End,
    others: End,
}

impl Ends {
    /// Takes what a node said; the error says why it makes no sense.
    pub(super) fn told(&mut self, nid: NodeId, ends: &[CellLastIds]) -> Result<(), &'static str> {
        if !ends.is_sorted_by(|a, b| a.partition < b.partition) {
            return Err("its last ids are not in order");
        }
        let tids = ends.iter().flat_map(|end| [end.transaction, end.revision]);
        if tids.flatten().any(|tid| tid > Tid::MAX) {
            return Err("its last tid can't be");
        }
        self.0.insert(nid, ends.to_vec());
        Ok(())
    }

    /// Where the cell of a node ends; `None` when the node was not asked.
    fn of(&self, nid: NodeId, partition: Partition) -> Option<End> {
        let ends = self.0.get(&nid)?;
        let at = ends.binary_search_by_key(&partition, |end| end.partition);
        let end = at.ok().and_then(|at| ends.get(at));
        Some(end.map_or((None, None), |end| (end.transaction, end.revision)))
    }

    /// The readable cells that end before others, and the partitions in which none has it all.
    fn compare(&self, table: &PartitionTable) -> (Vec<Behind>, Vec<Partition>) {
        let (mut behind, mut torn) = (Vec::new(), Vec::new());
        for (partition, row) in table.iter() {
            let readable = row.iter().filter(|cell| cell.state.is_readable());
            let ends = readable.filter_map(|cell| Some((*cell, self.of(cell.nid, partition)?)));
            let ends: Vec<(Cell, End)> = ends.collect();
            let greatest = ends.iter().fold((None, None), |greatest: End, (_, end)| {
                (greatest.0.max(end.0), greatest.1.max(end.1))
            });
            if ends.iter().all(|(_, end)| *end != greatest) && !ends.is_empty() {
                torn.push(partition);
                continue;
            }
            let short = ends.into_iter().filter(|(_, end)| *end != greatest);
            behind.extend(short.map(|(cell, has)| Behind {
                partition,
                cell,
                has,
                others: greatest,
            }));
        }
        (behind, torn)
    }
}

impl MasterCore {
    pub(super) fn verification_last_ids(
        &mut self,
        now: Now,
        nid: NodeId,
        (ids, ends, committed_in): (&WireLastIds, &[CellLastIds], Reign),
        out: &mut Out,
    ) {
        let readable = self.is_readable_on(nid);
        let Some(verifying) = self.verifying() else {
            return;
        };
        if let Err(words) = check_last_ids(ids).and_then(|()| verifying.ends.told(nid, ends)) {
            self.refuse_storage(now, nid, words, out);
            return;
        }
        if readable {
            verifying.last_tid = verifying.last_tid.max(ids.last_tid.unwrap_or(Tid::ZERO));
            verifying.last_oid = verifying.last_oid.max(ids.last_oid.map(|oid| oid.0));
            self.committed_in = self.committed_in.max(committed_in);
        }
        self.verification_done(now, nid, out);
    }

    /// Outdates cells that lack something; whether there are any.
    pub(super) fn outdate_behind(&mut self, out: &mut Out) -> bool {
        let Some(ends) = self
            .verifying()
            .map(|verifying| std::mem::take(&mut verifying.ends))
        else {
            return false;
        };
        let Some(table) = &self.table else {
            return false;
        };
        let (behind, torn) = ends.compare(table.get());
        if !torn.is_empty() {
            tracing::error!(
                partitions = shown(&torn),
                "no readable cell has all that the others have: they are left as they are, and \
                 reads may miss what was committed; compare the copies of these partitions"
            );
        }
        let assigned = self.next_version(table.version());
        let changes: Vec<CellChange> = behind.iter().map(|b| b.outdated(assigned)).collect();
        tell(&behind);
        self.change_table(&changes, out);
        !changes.is_empty()
    }
}

impl Behind {
    /// As for a node that is lost; but what the node has noted of the cell does not count.
    const fn outdated(&self, assigned: TableVersion) -> CellChange {
        let state = match self.cell.state {
            CellState::Feeding => CellState::Discarded,
            _ => CellState::OutOfDate,
        };
        CellChange {
            partition: self.partition,
            cell: Cell {
                nid: self.cell.nid,
                state,
                assigned,
            },
        }
    }
}

/// Tells the operator, a node at a time.
fn tell(behind: &[Behind]) {
    let mut nodes: BTreeMap<NodeId, Vec<&Behind>> = BTreeMap::new();
    for cell in behind {
        nodes.entry(cell.cell.nid).or_default().push(cell);
    }
    for (nid, cells) in nodes {
        let partitions: Vec<Partition> = cells.iter().map(|cell| cell.partition).collect();
        let greatest = |end: fn(&Behind) -> End| {
            let ends = cells.iter().map(|cell| end(cell));
            let tids = ends.flat_map(|(transaction, revision)| [transaction, revision]);
            tids.max().flatten().unwrap_or(Tid::ZERO)
        };
        tracing::warn!(
            %nid,
            partitions = shown(&partitions),
            has = %greatest(|cell| cell.has),
            others = %greatest(|cell| cell.others),
            "a storage node lacks transactions that it had acknowledged: its database is an older \
             copy, or its disk does not keep what it must; these cells are out of date, and are \
             compared with others from their beginning"
        );
    }
}

/// Partitions as an operator reads them; of many, the first ones.
fn shown(partitions: &[Partition]) -> String {
    let mut words: Vec<String> = partitions
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    if partitions.len() > NAMED {
        words.push(format!("and {} others", partitions.len() - NAMED));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use neo_api::{NodeType, Partitioning, Ptid};

    use super::*;

    const VERSION: TableVersion = TableVersion {
        reign: Reign(1),
        ptid: Ptid(1),
    };

    fn nid(n: u32) -> NodeId {
        NodeId::new(NodeType::Storage, n).unwrap()
    }

    fn end(partition: u32, transaction: u64, revision: u64) -> CellLastIds {
        CellLastIds {
            partition: Partition(partition),
            transaction: Some(Tid(transaction)).filter(|tid| *tid != Tid::ZERO),
            revision: Some(Tid(revision)).filter(|tid| *tid != Tid::ZERO),
        }
    }

    /// Which cells are behind, as (partition, node), and which partitions are torn, of two
    /// partitions whose cells on three nodes end so.
    fn compared(
        told: &[(u32, [CellLastIds; 2])],
        states: [CellState; 3],
    ) -> (Vec<(u32, u32)>, Vec<u32>) {
        let mut table = PartitionTable::empty(Partitioning::new(2).unwrap(), 2);
        for row in &mut table.rows {
            row.extend((1..).zip(states).map(|(n, state)| Cell {
                nid: nid(n),
                state,
                assigned: VERSION,
            }));
        }
        let mut ends = Ends::default();
        for (n, told) in told {
            ends.told(nid(*n), told).unwrap();
        }
        let (behind, torn) = ends.compare(&table);
        let behind = behind.iter().map(|b| (b.partition.0, b.cell.nid.number()));
        (behind.collect(), torn.iter().map(|p| p.0).collect())
    }

    #[test]
    fn a_cell_that_ends_before_another_is_behind_in_metadata_or_in_revisions() {
        use CellState::{Feeding, OutOfDate, UpToDate};
        let all = [UpToDate, UpToDate, Feeding];
        let whole = [end(0, 10, 20), end(1, 5, 6)];
        let same = [(1, whole), (2, whole), (3, whole)];
        assert_eq!(compared(&same, all), (vec![], vec![]));
        let told = [
            (1, [end(0, 8, 20), end(1, 5, 6)]),
            (2, whole),
            (3, [end(0, 10, 20), end(1, 5, 0)]),
        ];
        assert_eq!(compared(&told, all), (vec![(0, 1), (1, 3)], vec![]));
        // Cells that are not readable are not compared, nor are those of nodes that are not there.
        let some = [UpToDate, UpToDate, OutOfDate];
        assert_eq!(compared(&told, some), (vec![(0, 1)], vec![]));
        assert_eq!(compared(&told[1..2], all), (vec![], vec![]));
        // A cell that is not mentioned has nothing.
        let told = [(1, [end(0, 0, 0), end(5, 1, 1)]), (2, whole)];
        assert_eq!(compared(&told, all), (vec![(0, 1), (1, 1)], vec![]));
    }

    #[test]
    fn where_no_cell_has_all_none_is_outdated() {
        let told = [
            (1, [end(0, 8, 20), end(1, 5, 6)]),
            (2, [end(0, 10, 15), end(1, 5, 6)]),
        ];
        let all = [CellState::UpToDate; 3];
        assert_eq!(compared(&told, all), (vec![], vec![0]));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut ends = Ends::default();
        for told in [
            [end(1, 1, 1), end(0, 1, 1)],
            [end(1, 1, 1), end(1, 1, 1)],
            [end(0, 1, 1), end(1, u64::MAX, 1)],
        ] {
            assert!(ends.told(nid(1), &told).is_err(), "{told:?}");
        }
    }
}
