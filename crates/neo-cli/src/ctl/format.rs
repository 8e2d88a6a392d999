//! What `neoctl` prints: pure functions from answers to text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use neo_admin::ClusterStatus;
use neo_api::{
    NodeId, NodeState, NodeType, Oid, Partition, PartitionTable, TableVersion, Tid, UnixMicros,
};
use neo_proto::{NodeInfo, PackProgress, WireLastIds};

/// A tid with the moment that it spells.
#[must_use]
pub fn tid(tid: Tid) -> String {
    format!("0x{tid} ({})", tid.to_timestamp())
}

/// `print pack`: how far the packs are.
#[must_use]
pub fn pack(progress: &PackProgress) -> String {
    let packed = match progress.whole_packed_at {
        Tid::ZERO => "None".to_owned(),
        at => tid(at),
    };
    let some = match progress.packed_at {
        at if at > progress.whole_packed_at => format!("\nsome objects up to = {}", tid(at)),
        _ => String::new(),
    };
    let order = match progress.order {
        None => "None".to_owned(),
        Some(order) => format!(
            "{}, applied by {} of {} cells",
            tid(order),
            progress.cells_done,
            progress.cells
        ),
    };
    format!("packed up to = {packed}{some}\norder = {order}")
}

/// `print ids`: greatest ids of the cluster.
#[must_use]
pub fn ids(ids: &WireLastIds, version: Option<TableVersion>) -> String {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "None".to_owned());
    let oid = |oid: Oid| format!("0x{oid}");
    format!(
        "last_oid = {}\nlast_tid = {}\nlast_ptid = {}",
        or_none(ids.last_oid.map(oid)),
        or_none(ids.last_tid.map(tid)),
        or_none(version.map(|version| version.ptid.to_string())),
    )
}

/// `print pt`: the whole table, one line a storage node.
///
/// A letter a partition, `.` where the node has no cell; above, a ruler when there are more than
/// ten.
#[must_use]
pub fn table(table: &PartitionTable, nodes: &[NodeInfo]) -> String {
    let mut text = header(table);
    let np = table.rows.len();
    let states: BTreeMap<NodeId, NodeState> = nodes.iter().map(|n| (n.nid, n.state)).collect();
    let labels: Vec<(NodeId, String)> = table
        .nodes()
        .into_iter()
        .map(|nid| {
            let state = states.get(&nid).copied().unwrap_or(NodeState::Down);
            (nid, format!("{nid} {}", state_letter(state)))
        })
        .collect();
    let width = labels.iter().map(|(_, l)| l.len()).max().unwrap_or(0);
    if np > 10 {
        let _ = write!(text, "\n{}", ruler(width, np));
    }
    for (nid, label) in labels {
        let _ = write!(text, "\n{label:<width$} ");
        for (partition, _) in table.iter() {
            let cell = table.cell(partition, nid);
            text.push(cell.map_or('.', |cell| cell.state.letter()));
        }
    }
    text
}

/// `print pt RANGES NODE`: one line a partition; each range with its last partition.
///
/// # Errors
/// When there is no such partition, or the node has no cell of any.
pub fn table_ranges(
    table: &PartitionTable,
    ranges: &[(u32, u32)],
    node: Option<NodeId>,
) -> Result<String, String> {
    let mut text = header(table);
    let np = table.rows.len() as u32;
    for (first, last) in ranges {
        if *first >= np {
            return Err(format!(
                "there is no partition {first}: they are 0 to {}",
                np.saturating_sub(1)
            ));
        }
        if first > last {
            return Err(format!(
                "no partition is from {first} on and before {}",
                last + 1
            ));
        }
    }
    let mut is_empty = true;
    let partitions = ranges.iter().flat_map(|(first, last)| {
        let end = last.saturating_add(1).min(np);
        (*first..end).map(Partition)
    });
    for partition in partitions {
        let cells = table.cells(partition).iter();
        let cells = cells.filter(|cell| node.is_none_or(|node| cell.nid == node));
        let mut cells = cells.peekable();
        if node.is_some() && cells.peek().is_none() {
            continue;
        }
        is_empty = false;
        let _ = write!(text, "\n{:03}", partition.0);
        for cell in cells {
            let _ = write!(text, " | {} - {}", cell.nid, cell.state);
        }
    }
    match node {
        Some(node) if is_empty => Err(format!("{node} has no cell of these partitions")),
        _ => Ok(text),
    }
}

/// `print cluster`: the state, and for whom or what the cluster waits.
#[must_use]
pub fn cluster(cluster: &ClusterStatus) -> String {
    let state = cluster.state.map(|state| state.to_string());
    let mut words: Vec<&str> = state.as_deref().into_iter().collect();
    if !cluster.waiting.is_empty() {
        words.push(&cluster.waiting);
    }
    words.join(": ")
}

/// `print node`: nodes by type, then by id; behind them, for whom or what the cluster waits.
///
/// Since when it is identified is in UTC; the primary master has `None` there.
#[must_use]
pub fn nodes(nodes: &[NodeInfo], of: &ClusterStatus) -> String {
    let mut text = node_lines(nodes);
    let full = nodes.iter().filter(|node| node.is_full);
    let full: Vec<String> = full.map(|node| node.nid.to_string()).collect();
    if !full.is_empty() {
        let _ = write!(text, "\n# no space left on {}", full.join(", "));
    }
    if !of.waiting.is_empty() {
        let _ = write!(text, "\n# {}", cluster(of));
    }
    text
}

fn node_lines(nodes: &[NodeInfo]) -> String {
    if nodes.is_empty() {
        return "Empty list!".to_owned();
    }
    let mut nodes: Vec<&NodeInfo> = nodes.iter().collect();
    let rank = |node_type| match node_type {
        NodeType::Master => 0,
        NodeType::Storage => 1,
        NodeType::Client => 2,
        NodeType::Admin => 3,
    };
    nodes.sort_by_key(|node| (rank(node.node_type()), node.nid));
    let rows: Vec<[String; 5]> = nodes
        .into_iter()
        .map(|node| {
            let since = node.since_micros.map(|micros| moment(UnixMicros(micros)));
            [
                node.nid.to_string(),
                node.node_type().to_string(),
                node.address
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string),
                node.state.to_string(),
                since.unwrap_or_else(|| "None".to_owned()),
            ]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            let cells: Vec<String> = cells.map(|(cell, w)| format!("{cell:<w$}")).collect();
            cells.join(" | ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

fn header(table: &PartitionTable) -> String {
    let PartitionTable {
        version, replicas, ..
    } = table;
    format!("# ptid: {}, replicas: {replicas}", version.ptid)
}

fn state_letter(state: NodeState) -> char {
    match state {
        NodeState::Unknown => 'U',
        NodeState::Down => 'D',
        NodeState::Running => 'R',
        NodeState::Pending => 'P',
    }
}

/// The number of every tenth partition, above its column.
fn ruler(width: usize, np: usize) -> String {
    let mut ruler = " ".repeat(width + 1);
    for tens in (0..np).step_by(10) {
        let _ = write!(ruler, "{tens:<10}");
    }
    ruler.trim_end().to_owned()
}

/// A moment, to the second, UTC.
fn moment(at: UnixMicros) -> String {
    // A tid is a moment too; its text ends in `.`, six digits.
    let text = Tid::from_unix(at).to_timestamp().to_string();
    text.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use neo_api::{Address, Cell, CellState, ClusterState, Partitioning, Ptid, Reign};

    use super::*;

    fn nid(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn example(np: u32) -> PartitionTable {
        let mut table = PartitionTable::empty(Partitioning::new(np).unwrap(), 1);
        table.version = TableVersion {
            reign: Reign(2),
            ptid: Ptid(9),
        };
        let assigned = table.version;
        for (n, row) in table.rows.iter_mut().enumerate() {
            let cell = |nid, state| Cell {
                nid,
                state,
                assigned,
            };
            row.push(cell(nid("S1"), CellState::UpToDate));
            if n % 2 == 1 {
                row.push(cell(nid("S2"), CellState::OutOfDate));
            } else {
                row.push(cell(nid("S10"), CellState::Feeding));
            }
        }
        table
    }

    fn node(text: &str, state: NodeState, port: Option<u16>, since: Option<i64>) -> NodeInfo {
        NodeInfo {
            nid: nid(text),
            address: port.map(|port| Address::new("127.0.0.1", port)),
            state,
            session: None,
            since_micros: since,
            is_full: false,
        }
    }

    #[test]
    fn the_progress_of_packs_is_told() {
        let none = "packed up to = None\norder = None";
        assert_eq!(pack(&PackProgress::default()), none);
        let progress = PackProgress {
            order: Some(Tid(0x03f3_e0a9_8000_0000)),
            cells_done: 3,
            cells: 8,
            packed_at: Tid(0x03f3_e0a9_0000_0000),
            whole_packed_at: Tid(0x03f3_e0a9_0000_0000),
        };
        let text = pack(&progress);
        assert!(
            text.starts_with("packed up to = 0x03f3e0a900000000 ("),
            "{text}"
        );
        assert!(text.ends_with("), applied by 3 of 8 cells"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        let some = PackProgress {
            packed_at: Tid(0x03f3_e0a9_0000_0001),
            ..progress
        };
        let text = pack(&some);
        assert!(
            text.contains("\nsome objects up to = 0x03f3e0a900000001 ("),
            "{text}"
        );
    }

    #[test]
    fn ids_are_in_hexadecimal_with_the_date() {
        let last = WireLastIds {
            first_tid: None,
            last_tid: Some(Tid(0x040d_2bd6_91f0_e299)),
            last_oid: Some(Oid(0x2a)),
        };
        assert_eq!(
            ids(&last, Some(example(1).version)),
            "last_oid = 0x000000000000002a\n\
             last_tid = 0x040d2bd691f0e299 (2026-11-21 19:34:34.204912)\n\
             last_ptid = 9"
        );
        assert_eq!(
            ids(&WireLastIds::default(), None),
            "last_oid = None\nlast_tid = None\nlast_ptid = None"
        );
    }

    #[test]
    fn a_small_table_has_a_line_for_each_storage() {
        let list = [
            node("S1", NodeState::Running, None, None),
            node("S2", NodeState::Pending, None, None),
        ];
        assert_eq!(
            table(&example(4), &list),
            "# ptid: 9, replicas: 1\n\
             S1 R  UUUU\n\
             S2 P  .O.O\n\
             S10 D F.F."
        );
    }

    #[test]
    fn a_wide_table_has_a_ruler() {
        let lines: Vec<String> = table(&example(23), &[])
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(
            &lines[..3],
            [
                "# ptid: 9, replicas: 1",
                "      0         10        20",
                "S1 D  UUUUUUUUUUUUUUUUUUUUUUU",
            ]
        );
        assert!(!table(&example(10), &[]).contains("   0"));
    }

    #[test]
    fn a_range_has_a_line_for_each_partition() {
        assert_eq!(
            table_ranges(&example(4), &[(1, 2)], None).unwrap(),
            "# ptid: 9, replicas: 1\n\
             001 | S1 - UP_TO_DATE | S2 - OUT_OF_DATE\n\
             002 | S1 - UP_TO_DATE | S10 - FEEDING"
        );
        assert_eq!(
            table_ranges(&example(4), &[(0, u32::MAX)], Some(nid("S2"))).unwrap(),
            "# ptid: 9, replicas: 1\n001 | S2 - OUT_OF_DATE\n003 | S2 - OUT_OF_DATE"
        );
        assert_eq!(
            table_ranges(&example(4), &[(3, 3), (0, 0)], Some(nid("S1"))).unwrap(),
            "# ptid: 9, replicas: 1\n003 | S1 - UP_TO_DATE\n000 | S1 - UP_TO_DATE"
        );
        for (range, node, words) in [
            ((7, 9), None, "there is no partition 7: they are 0 to 3"),
            ((3, 1), None, "no partition is from 3 on and before 2"),
            (
                (0, 3),
                Some(nid("S9")),
                "S9 has no cell of these partitions",
            ),
        ] {
            let error = table_ranges(&example(4), &[(0, 0), range], node).unwrap_err();
            assert_eq!(error, words);
        }
    }

    #[test]
    fn nodes_are_a_table() {
        let list = [
            node(
                "S1",
                NodeState::Running,
                Some(41_234),
                Some(1_795_297_530_000_000),
            ),
            node("S2", NodeState::Down, Some(1), None),
            node("C1", NodeState::Running, None, Some(1_795_297_530_999_999)),
            node("M1", NodeState::Running, Some(10_000), None),
        ];
        let mut status = ClusterStatus::default();
        status.state = Some(ClusterState::Recovering);
        assert_eq!(
            nodes(&list, &status),
            "M1 | MASTER  | 127.0.0.1:10000 | RUNNING | None\n\
             S1 | STORAGE | 127.0.0.1:41234 | RUNNING | 2026-11-21 21:45:30\n\
             S2 | STORAGE | 127.0.0.1:1     | DOWN    | None\n\
             C1 | CLIENT  |                 | RUNNING | 2026-11-21 21:45:30"
        );
        let mut list = list;
        list[1].is_full = true;
        let text = nodes(&list, &status);
        assert!(text.ends_with("\n# no space left on S2"), "{text}");
        assert_eq!(cluster(&status), "RECOVERING");
        status.waiting = "waiting for S2".to_owned();
        assert_eq!(cluster(&status), "RECOVERING: waiting for S2");
        assert_eq!(
            nodes(&[], &status),
            "Empty list!\n# RECOVERING: waiting for S2"
        );
    }
}
