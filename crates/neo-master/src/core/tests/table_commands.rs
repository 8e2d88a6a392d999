//! What an operator changes of the partition table.

use neo_api::{NodeId, NodeState};
use neo_proto::{ConnId, Core, Packet};

use super::harness::*;

pub(super) fn done(answer: Option<Packet>) -> String {
    match answer {
        Some(Packet::AnswerDone { message }) => message,
        other => panic!("{other:?}"),
    }
}

fn add(world: &mut World, admin: ConnId, nodes: &[&str]) -> Option<Packet> {
    let nodes: Vec<NodeId> = nodes.iter().map(|text| nid(text)).collect();
    world.ask(admin, Packet::AddPendingNodes { nodes })
}

fn pending(n: u32, world: &mut World) {
    world.storages.insert(n, Storage::new(n));
    world.join(n);
}

#[test]
fn pending_nodes_are_added_by_name_or_all() {
    for nodes in [&["S2", "S3"][..], &[]] {
        let mut world = World::running(1, 0, 1);
        let admin = world.admin();
        assert!(words(add(&mut world, admin, &[])).contains("no storage node is PENDING"));
        pending(2, &mut world);
        pending(3, &mut world);
        let client = world.client();
        assert!(done(add(&mut world, admin, nodes)).contains("S2, S3 added"));
        for n in [2, 3] {
            assert!(world.storages[&n].operating);
            let state = world
                .core
                .nodes
                .get(world.storages[&n].nid())
                .unwrap()
                .state;
            assert_eq!(state, NodeState::Running);
        }
        let told = world.names(client);
        assert_eq!(
            told,
            [
                "AcceptIdentification",
                "NotifyNodeInformation",
                "NotifyClusterInformation",
                "SendPartitionTable",
                "NotifyNodeInformation",
                "NotifyNodeInformation"
            ][1..]
        );
    }
}

#[test]
fn what_can_not_be_added_is_told() {
    let mut world = World::running(2, 1, 1);
    let admin = world.admin();
    for (name, why) in [
        ("S1", "RUNNING already"),
        ("S7", "not known"),
        ("M1", "no storage"),
    ] {
        let refused = words(add(&mut world, admin, &[name]));
        assert!(refused.contains(why), "{refused}");
    }
    world.lose(2);
    assert!(words(add(&mut world, admin, &["S2"])).contains("start it first"));
    let mut recovering = World::running(1, 0, 1);
    recovering.restart_master();
    let admin = recovering.admin();
    assert!(words(add(&mut recovering, admin, &[])).contains("RECOVERING"));
}

#[test]
fn the_number_of_replicas_is_told_to_everybody() {
    let mut world = World::running(2, 0, 1);
    let (admin, client) = (world.admin(), world.client());
    let before = world.table().version;
    let set = |world: &mut World, replicas| world.ask(admin, Packet::SetNumReplicas { replicas });
    done(set(&mut world, 1));
    assert_eq!(world.table().replicas, 1);
    assert_eq!(world.table().version.ptid, before.ptid.next());
    assert_eq!(world.storages[&1].table.as_ref(), Some(world.table()));
    assert!(world.names(client).ends_with(&["NotifyPartitionChanges"]));
    let version = world.table().version;
    assert!(done(set(&mut world, 1)).contains("already"));
    assert_eq!(world.table().version, version);
    assert!(words(set(&mut world, 100_000)).contains("too many"));
}

#[test]
fn a_command_waits_while_a_cell_is_promoted() {
    let mut world = World::running(3, 2, 1);
    let admin = world.admin();
    world.lose(3);
    world.join(3);
    world.register(3);
    let storage = world.storages.get_mut(&1).unwrap();
    storage.holds.insert("NotifyPartitionChanges");
    world.complete(3);
    let id = world.request(admin, Packet::SetNumReplicas { replicas: 1 });
    assert_eq!(world.answer(admin, id), None);
    assert_eq!(world.table().replicas, 2);
    world.release(1, "NotifyPartitionChanges");
    done(world.answer(admin, id));
    assert_eq!(
        (world.rows(), world.table().replicas),
        (vec!["1U2U3U".to_owned()], 1)
    );
}

fn tweak(world: &mut World, admin: ConnId, dry_run: bool, ignore: &[&str]) -> Option<Packet> {
    let ignore: Vec<NodeId> = ignore.iter().map(|text| nid(text)).collect();
    world.ask(admin, Packet::TweakPartitionTable { dry_run, ignore })
}

fn tweaked(answer: Option<Packet>) -> (bool, neo_api::PartitionTable, String) {
    match answer {
        Some(Packet::AnswerTweakPartitionTable {
            changed,
            table,
            message,
        }) => (changed, *table, message),
        other => panic!("{other:?}"),
    }
}

/// One storage node with all, and others that were added.
fn grown(np: u32, replicas: u32, to: u32) -> (World, ConnId) {
    let mut world = World::running(1, 0, np);
    let admin = world.admin();
    for n in 2..=to {
        pending(n, &mut world);
    }
    done(add(&mut world, admin, &[]));
    world.ask(admin, Packet::SetNumReplicas { replicas });
    (world, admin)
}

fn fill(world: &mut World) {
    for n in world.storages.keys().copied().collect::<Vec<_>>() {
        if world.storages[&n].conn.is_some() && !world.storages[&n].out_of_date().is_empty() {
            world.register(n);
            world.complete(n);
        }
    }
}

#[test]
fn a_dry_run_tells_what_the_real_one_does() {
    let (mut world, admin) = grown(4, 0, 2);
    let before = world.table().clone();
    let dry = tweaked(tweak(&mut world, admin, true, &[]));
    assert_eq!(world.table(), &before);
    assert!(dry.0);
    assert_eq!(
        dry.2,
        "cells: 2 to be filled, 2 kept until they are replaced"
    );
    let real = tweaked(tweak(&mut world, admin, false, &[]));
    assert_eq!(real, dry);
    assert_eq!(world.table(), &real.1);
    assert_eq!(world.storages[&2].table.as_ref(), Some(world.table()));
    let again = tweaked(tweak(&mut world, admin, false, &[]));
    assert_eq!(
        (again.0, again.2),
        (false, "the table is balanced".to_owned())
    );
    assert_eq!(world.table(), &real.1);
}

#[test]
fn growing_keeps_the_copies_that_there_are_until_the_new_ones_are_complete() {
    let (mut world, admin) = grown(4, 1, 4);
    let client = world.client();
    tweaked(tweak(&mut world, admin, false, &[]));
    for n in 1..=4 {
        assert!(world.table().rows.iter().all(|row| row.len() >= 2));
        let wanted = 1;
        let readable =
            |row: &Vec<neo_api::Cell>| row.iter().filter(|c| c.state.is_readable()).count();
        assert!(world.table().rows.iter().all(|row| readable(row) >= wanted));
        if n > 1 {
            world.register(n);
            world.complete(n);
        }
        world.commit(client, &[n.into()]);
    }
    let states: Vec<_> = world
        .table()
        .rows
        .iter()
        .flatten()
        .map(|c| c.state)
        .collect();
    assert_eq!(states, vec![neo_api::CellState::UpToDate; 8]);
    assert!(!tweaked(tweak(&mut world, admin, false, &[])).0);
}

#[test]
fn feeding_goes_in_a_change_of_its_own_after_the_promotion() {
    let (mut world, admin) = grown(1, 0, 2);
    world.ask(
        admin,
        Packet::SetNodeState {
            nid: nid("S1"),
            state: NodeState::Running,
        },
    );
    // The only partition goes to the one that is not ignored.
    tweaked(tweak(&mut world, admin, false, &[]));
    assert_eq!(
        world.rows(),
        ["1U"],
        "one partition on one of two is balanced"
    );
    let (mut world, admin) = grown(2, 0, 2);
    tweaked(tweak(&mut world, admin, false, &[]));
    let version = world.table().version;
    fill(&mut world);
    let mut rows = world.rows();
    rows.sort();
    assert_eq!(rows, ["1U", "2U"]);
    assert_eq!(world.table().version.ptid.0, version.ptid.0 + 2);
}

#[test]
fn a_node_that_was_just_added_is_not_left_out() {
    let mut world = World::running(1, 0, 2);
    let admin = world.admin();
    pending(2, &mut world);
    let storage = world.storages.get_mut(&2).unwrap();
    storage.holds.insert("AskStartReign");
    assert_eq!(
        add(&mut world, admin, &["S2"]),
        None,
        "it is answered when it takes part"
    );
    let refused = words(tweak(&mut world, admin, false, &[]));
    assert!(refused.contains("S2 is joining: try again"), "{refused}");
    world.release(2, "AskStartReign");
    assert!(tweaked(tweak(&mut world, admin, false, &[])).0);
}

#[test]
fn nodes_that_are_down_must_be_named() {
    let mut world = World::running(3, 1, 3);
    let admin = world.admin();
    world.lose(3);
    let refused = words(tweak(&mut world, admin, false, &[]));
    assert!(refused.contains("neoctl tweak S3"), "{refused}");
    tweaked(tweak(&mut world, admin, false, &["S3"]));
    assert_eq!(world.rows(), ["1U2U", "1U2O3O", "1O2U3O"]);
    // It comes back, and the table is balanced with it.
    world.join(3);
    fill(&mut world);
    tweaked(tweak(&mut world, admin, false, &[]));
    fill(&mut world);
    let rows = &world.table().rows;
    assert!(rows.iter().all(|row| row.len() == 2), "{:?}", world.rows());
    for (names, why) in [
        (&["S9"][..], "no storage node that is known"),
        (&["S1", "S2", "S3"], "no node is left"),
    ] {
        let refused = words(tweak(&mut world, admin, true, names));
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn nodes_that_are_pending_get_nothing() {
    let mut world = World::running(1, 0, 2);
    let admin = world.admin();
    pending(2, &mut world);
    let (changed, _, told) = tweaked(tweak(&mut world, admin, false, &[]));
    assert!(!changed);
    assert!(
        told.contains("PENDING, without cells: S2 (`neoctl add`"),
        "{told}"
    );
    assert_eq!(world.rows(), ["1U", "1U"]);
    // Unless it is said that they are to be left alone.
    let (_, _, told) = tweaked(tweak(&mut world, admin, false, &["S2"]));
    assert!(!told.contains("PENDING"), "{told}");
}

#[test]
fn where_storage_nodes_are_is_heeded() {
    let mut world = World::new(crate::MasterSettings {
        replicas: 1,
        partitions: 8,
        ..crate::MasterSettings::new("c")
    });
    for n in 1..=4 {
        let mut storage = Storage::new(n);
        let host = if n <= 2 { "a" } else { "b" };
        storage.topology = vec![host.to_owned(), format!("disk{n}")];
        world.storages.insert(n, storage);
        world.join(n);
    }
    let admin = world.admin();
    let state = neo_api::ClusterState::Verifying;
    world.ask(admin, Packet::SetClusterState { state });
    let is_spread = |world: &World| {
        let rows = world.table().rows.iter();
        let hosts = |row: &Vec<neo_api::Cell>| {
            let stays = row
                .iter()
                .filter(|c| c.state != neo_api::CellState::Feeding);
            stays.filter(|cell| cell.nid.number() <= 2).count()
        };
        { rows }.all(|row| hosts(row) == 1)
    };
    assert!(is_spread(&world), "{:?}", world.rows());
    let states = world.table().rows.iter().flatten().map(|cell| cell.state);
    assert!({ states }.all(|state| state == neo_api::CellState::UpToDate));
    assert!(!tweaked(tweak(&mut world, admin, false, &[])).0);
}

#[test]
fn the_last_readable_copy_is_never_given_up() {
    let mut world = World::running(2, 0, 2);
    let admin = world.admin();
    for state in [NodeState::Down, NodeState::Unknown] {
        let refused = words(world.ask(
            admin,
            Packet::SetNodeState {
                nid: nid("S2"),
                state,
            },
        ));
        assert!(refused.contains("S2"), "{refused}");
    }
    assert_eq!(world.rows(), ["1U", "2U"]);
}

#[test]
fn dropping_a_node_that_was_to_replace_a_cell_keeps_the_cell() {
    let (mut world, admin) = grown(2, 0, 2);
    tweaked(tweak(&mut world, admin, false, &[]));
    assert_eq!(world.rows().iter().filter(|row| *row == "1F2O").count(), 1);
    world.lose(2);
    done(world.ask(
        admin,
        Packet::SetNodeState {
            nid: nid("S2"),
            state: NodeState::Unknown,
        },
    ));
    assert_eq!(world.rows(), ["1U", "1U"]);
}

#[test]
fn a_feeding_cell_goes_with_its_node() {
    let mut world = World::running(2, 1, 1);
    let partition = neo_api::Partition(0);
    let mut cell = *world.table().cell(partition, nid("S1")).unwrap();
    cell.state = neo_api::CellState::Feeding;
    let mut out = neo_proto::Effects::new();
    let change = neo_api::CellChange { partition, cell };
    world.core.change_table(&[change], &mut out);
    let conn = world.storages[&1].conn.unwrap();
    drop(out.take());
    let reason = "lost".to_owned();
    let input = neo_proto::Input::Closed { conn, reason };
    world.core.handle(world.now, input, &mut out);
    world
        .core
        .handle(world.now, neo_proto::Input::Timer, &mut out);
    assert_eq!(world.rows(), ["2U"]);
}

#[test]
fn a_transaction_that_is_under_way_while_cells_move_is_locked_where_it_is_voted() {
    let mut world = World::running(2, 0, 2);
    let (admin, client) = (world.admin(), world.client());
    let txn = world.begin(client);
    world.vote(txn, &[1, 2]);
    pending(3, &mut world);
    done(add(&mut world, admin, &["S3"]));
    world.ask(admin, Packet::SetNumReplicas { replicas: 1 });
    tweaked(tweak(&mut world, admin, false, &[]));
    // The new cells are not asked for it: it is pending when they begin to catch up.
    let id = world.finish(client, txn, &[0, 1]);
    finished(world.answer(client, id));
    assert_eq!(world.storages[&1].committed.len(), 1);
    assert_eq!(world.storages[&3].committed.len(), 0);
}

#[test]
fn who_adds_nodes_is_answered_when_they_take_part_or_can_not() {
    for is_lost in [false, true] {
        let mut world = World::running(1, 0, 2);
        let admin = world.admin();
        pending(2, &mut world);
        let storage = world.storages.get_mut(&2).unwrap();
        storage.holds.insert("AskStartReign");
        let id = world.request(admin, Packet::AddPendingNodes { nodes: Vec::new() });
        assert_eq!(world.answer(admin, id), None);
        if is_lost {
            world.lose(2);
            assert!(words(world.answer(admin, id)).contains("S2 could not be added"));
        } else {
            world.release(2, "AskStartReign");
            assert!(done(world.answer(admin, id)).contains("S2 added"));
            assert!(tweaked(tweak(&mut world, admin, true, &[])).0);
        }
    }
}
