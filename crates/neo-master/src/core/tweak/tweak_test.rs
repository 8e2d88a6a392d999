use neo_api::{NodeType, Partitioning, Ptid, Reign};
use proptest::prelude::*;

use super::*;
use crate::core::partition_table::Table;

fn nid(n: u32) -> NodeId {
    NodeId::new(NodeType::Storage, n).unwrap()
}

fn version(ptid: u64) -> TableVersion {
    TableVersion {
        reign: Reign(1),
        ptid: Ptid(ptid),
    }
}

fn nodes(numbers: impl IntoIterator<Item = u32>) -> BTreeMap<NodeId, Vec<String>> {
    numbers.into_iter().map(|n| (nid(n), Vec::new())).collect()
}

/// Nodes from 1 on, each in a place: `a/1 a/2 b`.
fn placed(places: &str) -> BTreeMap<NodeId, Vec<String>> {
    let places = places.split_whitespace();
    let place = |text: &str| text.split('/').map(str::to_owned).collect();
    (1..).map(nid).zip(places.map(place)).collect()
}

fn created(np: u32, replicas: u32, n: u32) -> Table {
    let set = (1..=n).map(nid).collect();
    Table::create(version(1), Partitioning::new(np).unwrap(), replicas, &set)
}

/// A table from rows like `1U 2O`.
fn written(replicas: u32, rows: &[&str]) -> Table {
    let mut table = PartitionTable::empty(
        Partitioning::new(rows.len().try_into().unwrap()).unwrap(),
        replicas,
    );
    table.version = version(1);
    for (row, text) in table.rows.iter_mut().zip(rows) {
        for cell in text.split_whitespace() {
            let (n, letter) = cell.split_at(cell.len() - 1);
            row.push(Cell {
                nid: nid(n.parse().unwrap()),
                state: match letter {
                    "U" => CellState::UpToDate,
                    "O" => CellState::OutOfDate,
                    "F" => CellState::Feeding,
                    _ => CellState::Corrupted,
                },
                assigned: version(1),
            });
        }
    }
    Table::load(table).unwrap()
}

fn letters(table: &Table) -> Vec<String> {
    let cell = |cell: &Cell| format!("{}{}", cell.nid.number(), cell.state.letter());
    let rows = table.get().rows.iter();
    rows.map(|row| row.iter().map(cell).collect::<Vec<_>>().join(" "))
        .collect()
}

fn next(table: &Table) -> TableVersion {
    version(table.version().ptid.0 + 1)
}

fn apply(table: &mut Table, changes: &[CellChange]) {
    let (version, replicas) = (next(table), table.get().replicas);
    table.apply(version, replicas, changes);
}

/// Balances; how many cells are new.
fn balance(table: &mut Table, nodes: &BTreeMap<NodeId, Vec<String>>) -> usize {
    let Tweak { changes, .. } = tweak(table.get(), nodes, next(table));
    let is_new = |change: &&CellChange| {
        let before = table.get().cell(change.partition, change.cell.nid);
        before.is_none()
    };
    let new = changes.iter().filter(is_new).count();
    apply(table, &changes);
    table.get().check().unwrap();
    new
}

/// Completes a cell, and lets go what is not needed any more.
fn complete(table: &mut Table, partition: Partition, nid: NodeId) {
    let mut cell = *table.get().cell(partition, nid).unwrap();
    cell.state = CellState::UpToDate;
    apply(table, &[CellChange { partition, cell }]);
    let surplus = table.surplus([partition].into_iter());
    apply(table, &surplus);
}

fn out_of_date(table: &Table) -> Vec<(Partition, NodeId)> {
    let cells = table.get().iter().flat_map(|(partition, row)| {
        let cells = row.iter().filter(|c| c.state == CellState::OutOfDate);
        cells.map(move |cell| (partition, cell.nid))
    });
    cells.collect()
}

fn complete_all(table: &mut Table) {
    for (partition, nid) in out_of_date(table) {
        complete(table, partition, nid);
    }
}

/// Cells of each of these nodes that are to stay.
fn sizes(table: &Table, nodes: &BTreeMap<NodeId, Vec<String>>) -> Vec<usize> {
    let cells = || table.get().rows.iter().flatten();
    let stays = |nid, cell: &&Cell| cell.nid == nid && cell.state != CellState::Feeding;
    let size = |nid: &NodeId| cells().filter(|cell| stays(*nid, cell)).count();
    nodes.keys().map(size).collect()
}

fn is_balanced(table: &Table, nodes: &BTreeMap<NodeId, Vec<String>>) -> bool {
    let sizes = sizes(table, nodes);
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    let copies = nodes.len().min(table.get().replicas as usize + 1);
    let wanted = |row: &Vec<Cell>| {
        let stays =
            |cell: &&Cell| nodes.contains_key(&cell.nid) && cell.state != CellState::Feeding;
        row.iter().filter(stays).count()
    };
    most - least <= 1 && table.get().rows.iter().all(|row| wanted(row) == copies)
}

fn readable(table: &Table) -> Vec<usize> {
    let rows = table.get().rows.iter();
    rows.map(|row| row.iter().filter(|c| c.state.is_readable()).count())
        .collect()
}

#[test]
fn a_table_without_a_node_is_left_alone() {
    let table = created(3, 1, 2);
    assert_eq!(
        tweak(table.get(), &nodes([]), next(&table)),
        Tweak::default()
    );
}

#[test]
fn a_new_table_is_left_alone() {
    for (np, replicas, n) in [(3, 0, 4), (5, 1, 4), (9, 2, 4), (1, 9, 1), (100, 1, 7)] {
        let table = created(np, replicas, n);
        let Tweak { changes, warnings } = tweak(table.get(), &nodes(1..=n), next(&table));
        assert_eq!(
            (changes.len(), warnings.len()),
            (0, 0),
            "{np} {replicas} {n}"
        );
    }
}

#[test]
fn a_second_node_gets_half_from_here_and_there() {
    let mut table = created(6, 0, 1);
    assert_eq!(balance(&mut table, &nodes(1..=2)), 3);
    assert_eq!(
        letters(&table),
        ["1U", "1F 2O", "1U", "1F 2O", "1F 2O", "1U"]
    );
    complete_all(&mut table);
    assert_eq!(letters(&table), ["1U", "2U", "1U", "2U", "2U", "1U"]);
    assert_eq!(balance(&mut table, &nodes(1..=2)), 0);
}

#[test]
fn feeding_cells_stay_until_enough_copies_are_complete() {
    let table = written(1, &["1U 2U"]);
    // Both are to go.
    let only = nodes([3, 4]);
    let Tweak { changes, .. } = tweak(table.get(), &only, next(&table));
    assert_eq!(changes.len(), 2, "cells of others are left alone");
    let mut table = written(1, &["1F 2F 3O 4O"]);
    complete(&mut table, Partition(0), nid(3));
    assert_eq!(letters(&table), ["2F 3U 4O"], "two are readable, as before");
    complete(&mut table, Partition(0), nid(4));
    assert_eq!(letters(&table), ["3U 4U"]);
}

#[test]
fn a_feeding_node_that_has_nothing_else_becomes_free_first() {
    let mut table = written(1, &["1F 2F 3O 4O", "1U 3U"]);
    complete(&mut table, Partition(0), nid(3));
    assert_eq!(letters(&table)[0], "1F 3U 4O");
}

#[test]
fn a_messy_table_is_cleaned_with_few_moves() {
    let mut table = written(
        1,
        &["1U", "1U 2O", "1U 2U 3U", "1F 2U 3O", "2U 3U 4U", "1U 4O"],
    );
    let four = nodes(1..=4);
    let new = balance(&mut table, &four);
    assert!(is_balanced(&table, &four), "{:?}", letters(&table));
    assert_eq!(new, 1);
    let cleaned = ["1U 4O", "1U 2O", "2U 3U", "1F 2U 3O", "3U 4U", "1U 4O"];
    assert_eq!(letters(&table), cleaned);
    assert_eq!(balance(&mut table, &four), 0);
    assert_eq!(letters(&table), cleaned);
    complete_all(&mut table);
    let Tweak { changes, .. } = tweak(table.get(), &four, next(&table));
    assert_eq!(changes, []);
    // A node goes, and comes again.
    let gone = table.discard(nid(2));
    apply(&mut table, &gone);
    balance(&mut table, &nodes([1, 3, 4]));
    complete_all(&mut table);
    balance(&mut table, &four);
    complete_all(&mut table);
    assert!(is_balanced(&table, &four));
    assert!(readable(&table).iter().all(|n| *n == 2));
}

#[test]
fn growing_one_by_one_moves_no_more_than_a_share() {
    for (np, replicas) in [(12, 0), (12, 1), (13, 2)] {
        for at_once in [true, false] {
            let mut table = created(np, replicas, 1);
            for n in 2..=np {
                let all = nodes(1..=n);
                let new = balance(&mut table, &all);
                let cells = (np * (replicas + 1).min(n)) as usize;
                let before = (np * (replicas + 1).min(n - 1)) as usize;
                // What the new node has, and one more copy of each partition at first.
                let share = cells.div_ceil(n as usize).max(cells - before);
                assert!(new <= share, "{np} {replicas} {n}: {new} > {share}");
                assert!(is_balanced(&table, &all));
                if at_once {
                    complete_all(&mut table);
                }
            }
            complete_all(&mut table);
            let copies = (replicas + 1) as usize;
            assert!(readable(&table).iter().all(|n| *n == copies));
            assert!(table.get().rows.iter().all(|row| row.len() == copies));
        }
    }
}

#[test]
fn nodes_that_are_ignored_keep_their_cells_and_are_no_replicas() {
    let mut table = written(1, &["1U 2U", "1U 2O"]);
    let new = balance(&mut table, &nodes([1, 3]));
    assert_eq!(new, 2);
    assert_eq!(letters(&table), ["1U 2U 3O", "1U 2O 3O"]);
    complete_all(&mut table);
    assert_eq!(balance(&mut table, &nodes([1, 3])), 0);
}

#[test]
fn more_or_fewer_replicas_are_made() {
    let mut table = written(0, &["1U", "2U", "3U"]);
    let all = nodes(1..=3);
    let version = next(&table);
    table.apply(version, 2, &[]);
    assert_eq!(balance(&mut table, &all), 6);
    complete_all(&mut table);
    assert_eq!(readable(&table), [3, 3, 3]);
    let version = next(&table);
    table.apply(version, 0, &[]);
    assert_eq!(balance(&mut table, &all), 0);
    assert_eq!(
        readable(&table),
        [1, 1, 1],
        "what is not wanted goes at once"
    );
    assert_eq!(sizes(&table, &all), [1, 1, 1]);
}

/// Whether no place has more copies of a partition than it must.
fn is_spread(
    table: &Table,
    nodes: &BTreeMap<NodeId, Vec<String>>,
    depth: usize,
    most: usize,
) -> bool {
    table.get().rows.iter().all(|row| {
        let mut count: BTreeMap<&[String], usize> = BTreeMap::new();
        for cell in row.iter().filter(|cell| cell.state != CellState::Feeding) {
            *count.entry(&nodes[&cell.nid][..depth]).or_default() += 1;
        }
        count.values().all(|copies| *copies <= most)
    })
}

#[test]
fn copies_are_in_different_places() {
    for (np, replicas, text) in [
        (12, 1, "a a b b"),
        (24, 2, "a/1 a/2 b/1 b/2 c/1 c/2"),
        (7, 1, "a/1 a/2 a/3 b/1 b/2 b/3"),
        (48, 2, "a a a b b b c c c d d d"),
    ] {
        let nodes = placed(text);
        let n = nodes.len() as u32;
        let mut table = created(np, replicas, n);
        balance(&mut table, &nodes);
        complete_all(&mut table);
        assert!(is_balanced(&table, &nodes), "{text}");
        assert!(
            is_spread(&table, &nodes, 1, 1),
            "{text}: {:?}",
            letters(&table)
        );
        let Tweak { changes, warnings } = tweak(table.get(), &nodes, next(&table));
        assert_eq!((changes, warnings), (vec![], vec![]), "{text}");
    }
}

#[test]
fn on_one_host_copies_are_on_different_disks() {
    let nodes = placed("a/1 a/1 a/2 a/2");
    let mut table = created(8, 1, 4);
    balance(&mut table, &nodes);
    assert!(is_spread(&table, &nodes, 2, 1), "{:?}", letters(&table));
    assert!(is_balanced(&table, &nodes));
}

#[test]
fn few_places_have_as_few_copies_each_as_can_be() {
    let nodes = placed("a a b b");
    let mut table = created(8, 2, 4);
    balance(&mut table, &nodes);
    assert!(is_spread(&table, &nodes, 1, 2), "{:?}", letters(&table));
    let Tweak { warnings, .. } = tweak(table.get(), &nodes, next(&table));
    assert_eq!(warnings, [] as [String; 0]);
}

#[test]
fn places_that_do_not_allow_a_balance_are_told() {
    let nodes = placed("a a a b");
    let mut table = created(8, 1, 4);
    let Tweak { warnings, .. } = tweak(table.get(), &nodes, next(&table));
    assert!(
        warnings[0].contains("a has 3 of 4 storage nodes"),
        "{warnings:?}"
    );
    balance(&mut table, &nodes);
    assert!(is_balanced(&table, &nodes));
}

#[test]
fn a_change_of_places_moves_what_it_must() {
    // Twelve nodes on six hosts; then they are on four others.
    let before = placed("a a b b c c d d e e f f");
    let mut table = created(48, 2, 12);
    balance(&mut table, &before);
    complete_all(&mut table);
    let after = placed("w x y z w x y z w x y z");
    let new = balance(&mut table, &after);
    let clashes: usize = {
        let rows = table.get().rows.iter();
        rows.map(|row| {
            let old = row.iter().filter(|cell| cell.state != CellState::OutOfDate);
            let places: BTreeSet<&[String]> = old
                .clone()
                .map(|cell| after[&cell.nid].as_slice())
                .collect();
            old.count() - places.len()
        })
        .sum()
    };
    assert!(is_spread(&table, &after, 1, 1));
    assert!(is_balanced(&table, &after));
    assert!(
        new >= clashes && new <= clashes + 12,
        "{new} moves, {clashes} clashes"
    );
    complete_all(&mut table);
    assert_eq!(balance(&mut table, &after), 0);
}

fn cell_state() -> impl Strategy<Value = CellState> {
    prop_oneof![
        4 => Just(CellState::UpToDate),
        2 => Just(CellState::OutOfDate),
        2 => Just(CellState::Feeding),
        1 => Just(CellState::Corrupted),
    ]
}

/// Any table of up to 30 partitions and 9 nodes in which every partition is readable.
fn any_table() -> impl Strategy<Value = Table> {
    let row = proptest::collection::btree_map(1u32..10, cell_state(), 1..6);
    (proptest::collection::vec(row, 1..30), 0u32..4).prop_map(|(rows, replicas)| {
        let np = Partitioning::new(rows.len() as u32).unwrap();
        let mut table = PartitionTable::empty(np, replicas);
        table.version = version(1);
        for (row, mut cells) in table.rows.iter_mut().zip(rows) {
            if !cells.values().any(|state| state.is_readable()) {
                *cells.values_mut().next().unwrap() = CellState::UpToDate;
            }
            row.extend(cells.into_iter().map(|(n, state)| Cell {
                nid: nid(n),
                state,
                assigned: version(1),
            }));
        }
        Table::load(table).unwrap()
    })
}

/// Some nodes, with places or without.
fn any_nodes() -> impl Strategy<Value = BTreeMap<NodeId, Vec<String>>> {
    let place = (0u8..4, 0u8..3, 0usize..3).prop_map(|(host, disk, depth)| {
        let path = [format!("h{host}"), format!("d{disk}")];
        path[..depth].to_vec()
    });
    proptest::collection::btree_map((1u32..12).prop_map(nid), place, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_table_is_balanced_once_and_never_loses_copies(
        table in any_table(), nodes in any_nodes(), order in any::<u64>(),
    ) {
        let mut table = table;
        let before = readable(&table);
        let floor = |table: &Table| {
            let wanted = table.get().replicas as usize + 1;
            let now = readable(table);
            now.iter().zip(&before).all(|(now, before)| *now >= (*before).min(wanted))
        };
        let others: Vec<Cell> = {
            let rows = table.get().rows.iter().flatten();
            rows.filter(|cell| !nodes.contains_key(&cell.nid)).copied().collect()
        };
        balance(&mut table, &nodes);
        prop_assert!(is_balanced(&table, &nodes), "{:?}", letters(&table));
        prop_assert!(floor(&table), "{:?}", letters(&table));
        let left: Vec<Cell> = {
            let rows = table.get().rows.iter().flatten();
            rows.filter(|cell| !nodes.contains_key(&cell.nid)).copied().collect()
        };
        prop_assert_eq!(left, others);
        // A second time changes nothing, also in the middle of what follows.
        let idle = |table: &Table| {
            let again = tweak(table.get(), &nodes, next(table)).changes;
            let discards = |c: &CellChange| c.cell.state == CellState::Discarded;
            again.iter().all(discards)
        };
        prop_assert_eq!(tweak(table.get(), &nodes, next(&table)).changes, []);
        // In any order.
        let mut left = out_of_date(&table);
        let mut random = order;
        while !left.is_empty() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize % left.len();
            let (partition, nid) = left.swap_remove(at);
            complete(&mut table, partition, nid);
            prop_assert!(floor(&table), "{:?}", letters(&table));
            prop_assert!(idle(&table), "{:?}", letters(&table));
        }
        prop_assert!(is_balanced(&table, &nodes));
    }
}

fn random_table(np: u32, n: u32, copies: u32, seed: u64) -> Table {
    let mut table = PartitionTable::empty(Partitioning::new(np).unwrap(), copies - 1);
    table.version = version(1);
    let mut random = seed;
    for row in &mut table.rows {
        let mut row_nodes = BTreeSet::new();
        while row_nodes.len() < copies as usize {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            row_nodes.insert((random >> 33) as u32 % n + 1);
        }
        row.extend(row_nodes.into_iter().map(|number| Cell {
            nid: nid(number),
            state: CellState::UpToDate,
            assigned: version(1),
        }));
    }
    Table::load(table).unwrap()
}

#[test]
fn a_thousand_partitions_on_eleven_nodes() {
    for (seed, is_placed) in [(1, false), (2, true), (3, true)] {
        let mut table = random_table(1000, 11, 3, seed);
        let nodes = match is_placed {
            false => nodes(1..=11),
            true => placed("a/1 a/2 a/3 b/1 b/2 b/3 c/1 c/2 d/1 d/2 e/1"),
        };
        balance(&mut table, &nodes);
        assert!(is_balanced(&table, &nodes));
        if is_placed {
            assert!(is_spread(&table, &nodes, 1, 1));
        }
        assert_eq!(balance(&mut table, &nodes), 0);
    }
}

#[test]
fn ten_thousand_partitions_on_a_thousand_nodes() {
    let mut table = random_table(10_000, 1000, 3, 7);
    let hosts = |n: u32| vec![format!("host{}", n % 100), format!("disk{}", n / 100)];
    let nodes: BTreeMap<NodeId, Vec<String>> = (1..=1000).map(|n| (nid(n), hosts(n))).collect();
    balance(&mut table, &nodes);
    assert!(is_balanced(&table, &nodes));
    assert!(is_spread(&table, &nodes, 1, 1));
    assert_eq!(balance(&mut table, &nodes), 0);
}
