//! Storage nodes that come to a cluster that runs.

use std::time::Duration;

use neo_api::{ClusterState, NodeState, Reign, Tid};
use neo_proto::Packet;

use super::harness::*;

fn hold(world: &mut World, n: u32, name: &'static str) {
    world.storages.get_mut(&n).unwrap().holds.insert(name);
}

fn begin(world: &mut World, client: neo_proto::ConnId) -> neo_proto::MsgId {
    world.request(client, Packet::AskBeginTransaction { tid: None })
}

#[test]
fn a_node_that_comes_back_takes_part_out_of_date() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.lose(2);
    world.received(client);
    world.storages.get_mut(&2).unwrap().log.clear();
    world.join(2);
    assert_eq!(
        world.storages[&2].log,
        [
            "NotifyNodeInformation",
            "NotifyClusterInformation",
            "AskRecovery",
            "SendPartitionTable",
            "AskStoreOidMark",
            "AskStartReign",
            "NotifyNodeInformation",
            "StartOperation",
        ]
    );
    let storage = &world.storages[&2];
    assert_eq!(storage.table.as_ref(), Some(world.table()));
    assert!(storage.operating);
    assert_eq!(world.rows(), ["1U2O"]);
    let told = world.received(client);
    let state = |packet: &Packet| match packet {
        Packet::NotifyNodeInformation { nodes, .. } => nodes[0].state,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        told.iter().map(state).collect::<Vec<_>>(),
        [NodeState::Pending, NodeState::Running]
    );
    // Its loss changes nothing.
    let version = world.table().version;
    world.lose(2);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.table().version, version);
}

#[test]
fn a_node_without_space_is_known_as_such_while_it_is_away() {
    let mut world = World::running(2, 1, 1);
    let admin = world.admin();
    world.received(admin);
    let told = |world: &mut World| {
        let packets = world.received(admin).into_iter();
        let nodes = packets.flat_map(|packet| match packet {
            Packet::NotifyNodeInformation { nodes, .. } => nodes,
            _ => Vec::new(),
        });
        let nodes = nodes.filter(|node| node.nid == nid("S2"));
        nodes
            .map(|node| (node.state, node.is_full))
            .collect::<Vec<_>>()
    };
    let conn = world.storages[&2].conn.unwrap();
    for _ in 0..2 {
        world.notify(conn, Packet::NotifySpace { is_full: true });
    }
    assert_eq!(told(&mut world), [(NodeState::Running, true)]);
    world.lose(2);
    assert_eq!(told(&mut world), [(NodeState::Down, true)]);
    // It says of itself that it has space.
    world.join(2);
    let told = told(&mut world);
    assert_eq!(told.first(), Some(&(NodeState::Pending, false)), "{told:?}");
}

#[test]
fn a_node_without_cells_stays_pending() {
    let mut world = World::running(1, 0, 1);
    world.storages.insert(2, Storage::new(2));
    world.join(2);
    let storage = &world.storages[&2];
    assert!(!storage.operating);
    assert_eq!(storage.table.as_ref(), Some(world.table()));
    let state = world.core.nodes.get(nid("S2")).unwrap().state;
    assert_eq!(state, NodeState::Pending);
}

#[test]
fn a_node_knows_reign_and_oids_before_it_serves() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.ask(client, Packet::AskNewOids { count: 5 }).unwrap();
    world.lose(2);
    let storage = world.storages.get_mut(&2).unwrap();
    let mark = storage.recovery.oid_mark;
    assert!(mark > neo_api::Oid(0));
    // As if it had never heard of either.
    storage.recovery.oid_mark = neo_api::Oid(0);
    storage.recovery.reign = Reign(0);
    hold(&mut world, 2, "AskStartReign");
    world.join(2);
    assert_eq!(world.storages[&2].recovery.oid_mark, mark);
    assert!(!world.storages[&2].operating);
    world.release(2, "AskStartReign");
    assert_eq!(world.storages[&2].recovery.reign, world.core.reign);
    assert!(world.storages[&2].operating);
}

#[test]
fn a_mark_of_oids_that_rises_meanwhile_is_noted_too() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.lose(2);
    hold(&mut world, 2, "AskStartReign");
    world.join(2);
    let count = world.core.settings.new_oids_max;
    for _ in 0..3 {
        world.ask(client, Packet::AskNewOids { count }).unwrap();
    }
    assert!(world.storages[&2].recovery.oid_mark < world.storages[&1].recovery.oid_mark);
    world.release(2, "AskStartReign");
    assert!(world.storages[&2].operating);
    let marks = [1, 2].map(|n| world.storages[&n].recovery.oid_mark);
    assert_eq!(marks[0], marks[1]);
}

#[test]
fn transactions_begin_when_a_node_that_starts_is_ready() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.lose(2);
    hold(&mut world, 2, "StartOperation");
    world.join(2);
    let id = begin(&mut world, client);
    assert_eq!(world.answer(client, id), None);
    world.release(2, "StartOperation");
    assert!(world.answer(client, id).is_some());
}

#[test]
fn transactions_do_not_wait_for_a_node_that_is_not_told_to_start() {
    for name in ["AskRecovery", "SendPartitionTable", "AskStartReign"] {
        let mut world = World::running(2, 1, 1);
        let client = world.client();
        world.lose(2);
        hold(&mut world, 2, name);
        world.join(2);
        let id = begin(&mut world, client);
        assert!(world.answer(client, id).is_some(), "{name}");
        // It has its time.
        world.sleep(Duration::from_secs(59));
        assert!(world.storages[&2].conn.is_some(), "{name}");
        world.sleep(Duration::from_secs(2));
        assert_eq!(world.storages[&2].conn, None, "{name}");
        assert_eq!(world.state(), ClusterState::Running);
    }
}

#[test]
fn a_node_that_does_not_get_ready_delays_others_once() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.lose(2);
    hold(&mut world, 2, "StartOperation");
    world.join(2);
    let conn = world.storages[&2].conn.unwrap();
    let id = begin(&mut world, client);
    world.sleep(Duration::from_secs(9));
    assert_eq!(world.answer(client, id), None);
    world.sleep(Duration::from_secs(2));
    assert!(world.answer(client, id).is_some());
    assert!(world.closed[&conn].contains("starting_timeout_ms"));
    assert_eq!(world.state(), ClusterState::Running);
    // It tries again, and is not waited for.
    world.join(2);
    let id = begin(&mut world, client);
    assert!(world.answer(client, id).is_some());
    world.sleep(Duration::from_secs(60));
    assert!(world.storages[&2].conn.is_some(), "it may take its time");
    world.release(2, "StartOperation");
    world.lose(2);
    // It made it: it is waited for as any other.
    hold(&mut world, 2, "StartOperation");
    world.join(2);
    let id = begin(&mut world, client);
    assert_eq!(world.answer(client, id), None);
}

#[test]
fn a_node_of_a_complete_cluster_that_does_not_get_ready_is_outdated() {
    let mut world = World::running(2, 1, 1);
    world.restart_master();
    hold(&mut world, 2, "StartOperation");
    world.join(1);
    world.join(2);
    assert!(!world.status.serving);
    world.sleep(Duration::from_secs(11));
    assert!(world.status.serving);
    assert_eq!(world.rows(), ["1U2O"]);
}

#[test]
fn what_an_import_left_is_removed_before_the_table_comes() {
    let mut world = World::running(2, 1, 1);
    world.lose(2);
    let storage = world.storages.get_mut(&2).unwrap();
    storage.recovery.import_tid = Some(Tid(5));
    storage.log.clear();
    world.join(2);
    let storage = &world.storages[&2];
    assert_eq!(storage.recovery.import_tid, None);
    let at = |name| storage.log.iter().position(|n| *n == name).unwrap();
    assert!(at("AskTruncate") < at("AskImportMark"));
    assert!(at("AskImportMark") < at("SendPartitionTable"));
    assert!(storage.operating);
}

#[test]
fn a_node_that_comes_during_an_import_waits_for_its_end() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.lose(2);
    let Some(Packet::AnswerBeginImport { import, .. }) =
        world.ask(client, Packet::AskBeginImport {})
    else {
        panic!("nothing is pending")
    };
    world.join(2);
    assert!(!world.storages[&2].operating);
    world.ask(client, Packet::AskEndImport { import }).unwrap();
    assert!(world.storages[&2].operating);
}

#[test]
fn a_node_that_obeyed_a_later_reign_is_refused() {
    let mut world = World::running(2, 1, 1);
    world.lose(2);
    let storage = world.storages.get_mut(&2).unwrap();
    storage.recovery.reign = Reign(77);
    let conn = {
        world.connect(2);
        world.storages[&2].conn.unwrap()
    };
    world.settle();
    assert!(world.closed[&conn].contains("reign 77"));
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn votes_of_a_node_that_was_lost_do_not_count_when_it_is_back() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1, 2]);
    world.lose(2);
    world.join(2);
    // The played node would not know what to lock.
    let id = world.finish(client, txn, &[]);
    finished(world.answer(client, id));
    assert_eq!(world.storages[&2].committed.len(), 0);
}
