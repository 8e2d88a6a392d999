//! The creation of a cluster: ids are durable before there are cells, and what an interrupted one
//! leaves is gone on with, or waited for.

use std::time::Duration;

use neo_api::{ClusterState, Partitioning, Ptid, Reign, TableVersion};
use neo_proto::Packet;

use super::harness::*;
use crate::MasterSettings;

fn settings() -> MasterSettings {
    MasterSettings {
        autostart: Some(2),
        replicas: 1,
        partitions: 2,
        ..MasterSettings::new("c")
    }
}

fn version(reign: u64, ptid: u64) -> TableVersion {
    TableVersion {
        reign: Reign(reign),
        ptid: Ptid(ptid),
    }
}

/// A master, and two nodes without a cluster that leave some messages alone.
fn two(holds: &'static str) -> World {
    let mut world = World::new(settings());
    for n in 1..=2 {
        let mut storage = Storage::new(n);
        storage.holds.insert(holds);
        world.storages.insert(n, storage);
        world.join(n);
    }
    world
}

fn release(world: &mut World, n: u32) {
    world.release(n, "SendPartitionTable");
}

/// The tables that a node is sent and has not taken.
fn tables(world: &World, n: u32) -> Vec<(TableVersion, usize)> {
    let conn = world.storages[&n].conn.unwrap();
    let inbox = world.inbox.get(&conn).into_iter().flatten();
    let tables = inbox.filter_map(|message| match &message.packet {
        Packet::SendPartitionTable { table, .. } => {
            let cells = table.rows.iter().flatten().count();
            Some((table.version, cells))
        }
        _ => None,
    });
    tables.collect()
}

fn forget_holds(world: &mut World) {
    for storage in world.storages.values_mut() {
        storage.holds.clear();
    }
}

/// Two nodes whose table follows a draft of both, taken by the first one only.
fn one_has_the_table() -> World {
    let mut world = two("SendPartitionTable");
    release(&mut world, 1);
    release(&mut world, 2);
    release(&mut world, 1);
    world.restart_master();
    forget_holds(&mut world);
    world
}

#[test]
fn drafts_then_tables_then_the_reign() {
    let mut world = two("SendPartitionTable");
    for n in 1..=2 {
        assert_eq!(tables(&world, n), [(version(1, 0), 0)], "a draft");
        world.storages.get_mut(&n).unwrap().log.clear();
    }
    release(&mut world, 1);
    assert_eq!(world.state(), ClusterState::Recovering);
    assert_eq!(world.core.partition_table(), None);
    assert_eq!(tables(&world, 1), [], "not before the other has its draft");
    release(&mut world, 2);
    assert_eq!(world.state(), ClusterState::Verifying);
    for n in 1..=2 {
        assert_eq!(tables(&world, n), [(version(1, 1), 4)]);
        assert!(!world.storages[&n].log.contains(&"AskStartReign"));
    }
    release(&mut world, 2);
    for n in 1..=2 {
        assert!(
            !world.storages[&n].log.contains(&"AskStartReign"),
            "not before the other has the table"
        );
    }
    release(&mut world, 1);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2U", "1U2U"]);
    assert_eq!(world.storages[&1].recovery.reign, Reign(1));
}

#[test]
fn a_draft_binds_nobody_and_its_identity_is_kept() {
    let mut world = two("SendPartitionTable");
    release(&mut world, 1);
    let identity = world.storages[&1].recovery.identity.clone();
    assert!(identity.is_some());
    world.lose(1);
    world.lose(2);
    world.restart_master();
    forget_holds(&mut world);
    world.join(2);
    assert!(
        world.status.waiting.contains("2 storage nodes"),
        "{}",
        world.status.waiting
    );
    world.join(1);
    assert_eq!(world.state(), ClusterState::Running);
    for storage in world.storages.values() {
        assert_eq!(storage.recovery.identity, identity);
    }
    assert_eq!(world.table().version, version(2, 1), "another attempt");
}

#[test]
fn a_node_that_goes_in_the_middle_is_waited_for_and_asked_again() {
    for lost in [1, 2] {
        let mut world = two("SendPartitionTable");
        release(&mut world, 1);
        let identity = world.storages[&1].recovery.identity.clone();
        world.lose(lost);
        assert_eq!(world.state(), ClusterState::Recovering);
        assert!(
            world.status.waiting.contains("(1 now)"),
            "{}",
            world.status.waiting
        );
        forget_holds(&mut world);
        world.join(lost);
        assert_eq!(world.state(), ClusterState::Running);
        assert_eq!(world.rows(), ["1U2U", "1U2U"]);
        assert_eq!(world.storages[&2].recovery.identity, identity);
    }
}

#[test]
fn a_node_that_has_its_draft_only_is_known_by_the_table() {
    for first in [1, 2] {
        let mut world = one_has_the_table();
        assert_eq!(world.storages[&1].recovery.version, Some(version(1, 1)));
        assert_eq!(world.storages[&2].recovery.version, Some(version(1, 0)));
        world.join(first);
        assert_eq!(world.state(), ClusterState::Recovering);
        world.join(3 - first);
        assert_eq!(world.state(), ClusterState::Running);
        assert_eq!(world.rows(), ["1U2U", "1U2U"]);
        assert_eq!(world.table().version, version(2, 1));
    }
}

#[test]
fn a_table_is_never_void_while_a_node_of_it_is_away() {
    let mut world = one_has_the_table();
    // As many nodes as create a cluster, but not those of the table.
    world.storages.insert(3, Storage::new(3));
    world.join(3);
    world.join(1);
    assert_eq!(world.state(), ClusterState::Recovering);
    let waiting = &world.status.waiting;
    assert!(waiting.contains("waiting for S2 "), "{waiting}");
}

#[test]
fn who_has_obeyed_a_reign_is_waited_for() {
    let mut world = two("AskStartReign");
    world.release(1, "AskStartReign");
    assert_eq!(world.storages[&1].recovery.reign, Reign(1));
    assert_eq!(world.storages[&2].recovery.reign, Reign(0));
    world.restart_master();
    forget_holds(&mut world);
    world.storages.insert(3, Storage::new(3));
    world.join(2);
    world.join(3);
    assert_eq!(world.state(), ClusterState::Recovering);
    let waiting = &world.status.waiting;
    assert!(waiting.contains("waiting for S1 "), "{waiting}");
    world.join(1);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2U", "1U2U"]);
}

/// A node that was made S2 by an attempt that was given up, while another S2 got cells.
#[test]
fn a_draft_of_another_attempt_is_not_taken_for_the_node_that_has_the_cells() {
    for (draft, reign) in [(version(9, 0), 0), (version(1, 0), 1)] {
        let mut world = one_has_the_table();
        for n in 1..=2 {
            let storage = world.storages.get_mut(&n).unwrap();
            storage.recovery.reign = Reign(reign);
        }
        world.storages.get_mut(&2).unwrap().recovery.reign = Reign(0);
        world.storages.get_mut(&2).unwrap().recovery.version = Some(draft);
        world.join(2);
        world.join(1);
        assert_eq!(world.state(), ClusterState::Recovering);
        assert_eq!(world.storages[&2].conn, None);
        let told = world.closed.values().last().unwrap();
        assert!(told.contains("give it an empty database"), "{told}");
        let waiting = &world.status.waiting;
        assert!(waiting.contains("waiting for S2 "), "{waiting}");
    }
}

#[test]
fn a_node_that_knows_of_a_cluster_ends_the_creation_of_another() {
    let mut world = one_has_the_table();
    let known = world.storages.remove(&1).unwrap();
    world.storages.insert(3, Storage::new(3));
    for n in 2..=3 {
        world
            .storages
            .get_mut(&n)
            .unwrap()
            .holds
            .insert("SendPartitionTable");
        world.join(n);
    }
    assert_eq!(tables(&world, 3).len(), 1, "an attempt is under way");
    world.storages.insert(1, known);
    world.join(1);
    forget_holds(&mut world);
    world.settle();
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2U", "1U2U"]);
    assert!(!world.storages[&3].operating);
}

#[test]
fn a_node_that_comes_in_the_middle_takes_part() {
    let mut world = two("SendPartitionTable");
    world.storages.insert(3, Storage::new(3));
    world.join(3);
    assert_eq!(tables(&world, 1), [(version(1, 0), 0), (version(2, 0), 0)]);
    forget_holds(&mut world);
    world.settle();
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2U", "1U3U"]);
}

#[test]
fn a_node_that_does_not_store_its_draft_is_disconnected() {
    let mut world = two("SendPartitionTable");
    release(&mut world, 1);
    world.sleep(Duration::from_secs(59));
    assert!(world.storages[&2].conn.is_some());
    world.sleep(Duration::from_secs(2));
    assert!(world.storages[&1].conn.is_some());
    assert_eq!(world.storages[&2].conn, None);
}

#[test]
fn the_number_of_partitions_is_that_of_the_attempt_that_succeeds() {
    let mut world = two("SendPartitionTable");
    release(&mut world, 1);
    let np = |world: &World| world.storages[&1].table.as_ref().map(|t| t.partitioning());
    assert_eq!(np(&world), Partitioning::new(2));
    world.core.settings.partitions = 3;
    world.restart_master();
    forget_holds(&mut world);
    world.join(1);
    world.join(2);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(np(&world), Partitioning::new(3));
}
