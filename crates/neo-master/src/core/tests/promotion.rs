//! Cells that become readable, in two steps.

use neo_api::{ClusterState, TableVersion};
use neo_proto::Packet;

use super::harness::*;

/// Three replicas of one partition; the third is out of date, and its cell registered.
fn registered() -> World {
    let mut world = World::running(3, 2, 1);
    world.lose(3);
    world.join(3);
    assert!(matches!(
        world.register(3),
        Some(Packet::AnswerUnfinishedTransactions { .. })
    ));
    world
}

fn hold_table(world: &mut World, n: u32) {
    let holds = &mut world.storages.get_mut(&n).unwrap().holds;
    holds.extend(Storage::TABLES);
}

fn stored(world: &World, n: u32) -> TableVersion {
    world.storages[&n].table.as_ref().unwrap().version
}

#[test]
fn a_complete_cell_counts_when_every_readable_node_has_stored_it() {
    let mut world = registered();
    let (client, admin) = (world.client(), world.admin());
    let before = world.table().version;
    hold_table(&mut world, 1);
    world.received(client);
    world.received(admin);
    world.complete(3);
    assert_eq!(world.table().version, before);
    assert!(stored(&world, 2) > before, "it is told at once");
    assert_eq!(stored(&world, 3), before, "it is told last");
    assert_eq!(world.names(client), [] as [&str; 0]);
    world.release(1, "NotifyPartitionChanges");
    assert_eq!(world.rows(), ["1U2U3U"]);
    for n in 1..=3 {
        assert_eq!(world.storages[&n].table.as_ref(), Some(world.table()));
    }
    assert_eq!(world.names(client), ["NotifyPartitionChanges"]);
    assert_eq!(world.names(admin), ["NotifyPartitionChanges"]);
    assert!(world.core.running().unwrap().catching_up.is_empty());
}

#[test]
fn a_promotion_is_void_when_a_node_that_must_store_it_is_lost() {
    let mut world = registered();
    let client = world.client();
    hold_table(&mut world, 1);
    world.complete(3);
    world.received(client);
    let void = stored(&world, 2);
    world.lose(1);
    // The next table is above the void one, and comes as a whole; the cell is promoted by the next.
    assert_eq!(
        world.storages[&2].log.last(),
        Some(&"NotifyPartitionChanges")
    );
    let log = &world.storages[&2].log;
    assert_eq!(log[log.len() - 2], "SendPartitionTable");
    assert_eq!(world.table().version.ptid.0, void.ptid.0 + 2);
    assert_eq!(world.rows(), ["1O2U3U"]);
    for n in [2, 3] {
        assert_eq!(world.storages[&n].table.as_ref(), Some(world.table()));
    }
    let told = world.names(client);
    let changes = ["NotifyPartitionChanges"; 2];
    assert_eq!(told, [&["NotifyNodeInformation"][..], &changes].concat());
}

#[test]
fn a_promotion_is_void_when_the_promoted_node_is_lost() {
    let mut world = registered();
    hold_table(&mut world, 1);
    world.complete(3);
    let void = stored(&world, 2);
    world.lose(3);
    world.storages.get_mut(&1).unwrap().holds.clear();
    world.settle();
    assert_eq!(world.rows(), ["1U2U3O"]);
    assert!(world.table().version > void);
    for n in [1, 2] {
        assert_eq!(world.storages[&n].table.as_ref(), Some(world.table()));
    }
    assert!(world.core.running().unwrap().promotion.is_none());
}

#[test]
fn a_void_promotion_that_the_promoted_node_has_stored_is_registered_anew() {
    // Both nodes have a partition of their own, and a cell that is out of date.
    let mut world = World::running(3, 2, 2);
    for n in [2, 3] {
        world.lose(n);
        world.join(n);
    }
    world.register(2);
    world.complete(2);
    assert_eq!(world.rows(), ["1U2U3O", "1U2U3O"]);
    // S3 gets one partition back, and then the other.
    let cells = world.storages[&3].out_of_date();
    for cell in cells {
        world.register(3);
        let catching_up = world.storages.get_mut(&3).unwrap().catching_up.as_mut();
        catching_up.unwrap().cells.retain(|c| *c == cell);
        if cell.partition.0 == 1 {
            hold_table(&mut world, 1);
        }
        world.complete(3);
    }
    assert_eq!(world.rows(), ["1U2U3U", "1U2U3O"]);
    let void = stored(&world, 3);
    assert!(void > world.table().version);
    world.lose(1);
    assert!(world.table().version > void);
    assert_eq!(world.rows(), ["1O2U3U", "1O2U3O"]);
    assert!(world.core.running().unwrap().catching_up.is_empty());
    assert_eq!(world.storages[&3].out_of_date().len(), 1, "it asks again");
    world.register(3);
    world.complete(3);
    assert_eq!(world.rows(), ["1O2U3U", "1O2U3U"]);
}

#[test]
fn cells_that_are_complete_while_the_table_changes_are_promoted_next() {
    let mut world = World::running(3, 2, 1);
    for n in [2, 3] {
        world.lose(n);
    }
    for n in [2, 3] {
        world.join(n);
        world.register(n);
    }
    hold_table(&mut world, 1);
    world.complete(2);
    world.complete(3);
    assert_eq!(world.rows(), ["1U2O3O"]);
    world.release(1, "NotifyPartitionChanges");
    assert_eq!(world.rows(), ["1U2U3O"]);
    world.release(1, "NotifyPartitionChanges");
    assert_eq!(world.rows(), ["1U2U3U"]);
}

#[test]
fn a_cell_that_begins_again_voids_its_promotion() {
    let mut world = registered();
    hold_table(&mut world, 1);
    world.complete(3);
    let void = stored(&world, 2);
    world.register(3);
    assert!(world.table().version > void);
    world.storages.get_mut(&1).unwrap().holds.clear();
    world.settle();
    assert_eq!(world.rows(), ["1U2U3O"]);
    world.complete(3);
    assert_eq!(world.rows(), ["1U2U3U"]);
}

#[test]
fn every_loss_at_every_moment_of_a_promotion_ends_well() {
    // Which node is lost, and whether the others have stored the table by then.
    for lost in 1..=3 {
        for stored_by in [&[][..], &[1], &[2], &[1, 2]] {
            let mut world = registered();
            for n in [1, 2] {
                hold_table(&mut world, n);
            }
            world.complete(3);
            for n in stored_by {
                world.release(*n, "NotifyPartitionChanges");
            }
            world.lose(lost);
            for n in 1..=3 {
                world.storages.get_mut(&n).unwrap().holds.clear();
                world.settle();
            }
            assert_eq!(world.state(), ClusterState::Running);
            world.join(lost);
            world.register(lost);
            world.complete(lost);
            assert_eq!(world.rows(), ["1U2U3U"], "{lost} {stored_by:?}");
            for n in 1..=3 {
                assert_eq!(world.storages[&n].table.as_ref(), Some(world.table()));
            }
        }
    }
}

#[test]
fn a_master_that_ends_during_a_promotion_leaves_a_table_that_is_waited_for() {
    let mut world = registered();
    hold_table(&mut world, 1);
    world.complete(3);
    let promoted = stored(&world, 2);
    world.restart_master();
    for n in 1..=3 {
        world.storages.get_mut(&n).unwrap().holds.clear();
    }
    world.join(1);
    world.join(2);
    assert_eq!(world.state(), ClusterState::Recovering);
    assert_eq!(world.table().version, promoted);
    assert!(
        world.status.waiting.contains("S3"),
        "{}",
        world.status.waiting
    );
    world.join(3);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2U3U"]);
}

/// Two replicas; the second is promoted while the first does not store it, and goes on alone. Then
/// all end, and the first comes back alone.
fn forgotten(promote_at_once: bool) -> World {
    let mut world = World::running(2, 1, 1);
    world.core.settings.mutations.promote_at_once = promote_at_once;
    world.lose(2);
    world.join(2);
    hold_table(&mut world, 1);
    world.register(2);
    world.complete(2);
    world.lose(1);
    world.restart_master();
    world.storages.get_mut(&1).unwrap().holds.clear();
    world.join(1);
    world
}

#[test]
fn a_promotion_at_once_would_be_forgotten() {
    // With the rule, nothing was relied on but the first, which serves again with what it has.
    let world = forgotten(false);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2O"]);
    // Without, the second has gone on alone, and the first knows nothing of it.
    let world = forgotten(true);
    assert_eq!(world.rows(), ["1U2O"]);
    let alone = world.storages[&2].table.as_ref().unwrap();
    assert_eq!(alone.readable(neo_api::Partition(0)).count(), 1);
    assert!(
        alone
            .cell(neo_api::Partition(0), nid("S2"))
            .unwrap()
            .state
            .is_readable()
    );
}
