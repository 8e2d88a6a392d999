//! Databases that come with an id which is not theirs, or not any more.

use neo_api::{ClusterState, NodeId, NodeState, NodeType, Ptid, Reign, TableVersion};
use neo_proto::Packet;

use super::harness::*;
use super::table_commands::done;

/// Who a storage node is, by the answer to its identification.
fn called(answer: Packet) -> NodeId {
    match answer {
        Packet::AcceptIdentification { your_nid, .. } => your_nid,
        other => panic!("{other:?}"),
    }
}

/// A database is in the place of another.
fn put(world: &mut World, n: u32, mut disk: Storage) {
    disk.restart();
    world.storages.insert(n, disk);
}

/// Two storage nodes, and a third that was added and has every cell.
fn third(mut world: World) -> World {
    let admin = world.admin();
    done(world.ask(admin, Packet::AddPendingNodes { nodes: Vec::new() }));
    done(world.ask(admin, Packet::SetNumReplicas { replicas: 2 }));
    let (dry_run, ignore) = (false, Vec::new());
    world.ask(admin, Packet::TweakPartitionTable { dry_run, ignore });
    world.register(3);
    world.complete(3);
    assert_eq!(world.rows(), ["1U2U3U", "1U2U3U"]);
    world
}

/// The database of a node that never had cells, and a cluster in which another node got its id.
fn id_given_again() -> (Storage, World) {
    let mut world = World::running(2, 1, 2);
    world.storages.insert(3, Storage::new(3));
    assert_eq!(called(world.join(3)), nid("S3"));
    let mut old = world.storages[&3].clone();
    old.port = 2;
    assert!(
        old.table.is_some() && old.noted().is_none(),
        "it is PENDING"
    );
    world.lose(3);
    world.restart_master();
    world.join(1);
    world.join(2);
    put(&mut world, 3, Storage::new(3));
    assert_eq!(called(world.join(3)), nid("S3"));
    (old, third(world))
}

#[test]
fn a_database_that_never_had_cells_is_counted_on_for_none() {
    let (old, mut world) = id_given_again();
    let rightful = world.storages[&3].clone();
    world.restart_master();
    put(&mut world, 3, old);
    assert_eq!(called(world.join(3)), nid("S3"), "nobody knows better yet");
    world.join(1);
    world.join(2);
    assert_eq!(world.state(), ClusterState::Recovering);
    assert_eq!(world.storages[&3].conn, None, "it was refused");
    assert!(
        world.status.waiting.contains("S3"),
        "{}",
        world.status.waiting
    );
    assert_eq!(called(world.join(3)), nid("S4"), "it is a new node");
    put(&mut world, 3, rightful);
    assert_eq!(called(world.join(3)), nid("S3"));
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2U3U", "1U2U3U"]);
}

#[test]
fn the_database_that_is_newer_under_an_id_is_not_kept_out() {
    let (old, mut world) = id_given_again();
    let rightful = world.storages[&3].clone();
    world.restart_master();
    put(&mut world, 3, old);
    world.join(3);
    let first = world.storages[&3].conn.unwrap();
    put(&mut world, 3, rightful);
    assert_eq!(called(world.join(3)), nid("S3"));
    assert!(world.closed.contains_key(&first));
    world.join(1);
    world.join(2);
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn a_database_from_before_its_cells_is_refused_in_words() {
    let mut world = World::running(2, 1, 2);
    let before = world.table().clone();
    world.storages.insert(3, Storage::new(3));
    world.join(3);
    let mut world = third(world);
    let rightful = world.storages[&3].clone();
    let mut older = rightful.clone();
    older.recovery.version = Some(before.version);
    older.table = Some(before);
    // Before the table is known: it is sent away when it is.
    world.restart_master();
    put(&mut world, 3, older.clone());
    world.join(3);
    world.join(1);
    world.join(2);
    assert_eq!(world.state(), ClusterState::Recovering);
    // Then, and under a primary that knows the table: it hears why.
    assert_eq!(world.storages[&3].conn, None);
    let told = words(Some(world.join(3)));
    assert!(
        told.contains("older copy") && told.contains("empty one"),
        "{told}"
    );
    put(&mut world, 3, rightful);
    world.join(3);
    assert_eq!(world.state(), ClusterState::Running);
    // Its cells are out of date while it is away: an older database is filled like any other.
    world.lose(3);
    put(&mut world, 3, older);
    assert_eq!(called(world.join(3)), nid("S3"));
    assert_eq!(world.rows(), ["1U2U3O", "1U2U3O"]);
}

#[test]
fn ids_are_not_given_twice() {
    let mut world = World::running(3, 2, 3);
    let dropped = world.storages[&2].clone();
    let admin = world.admin();
    world.lose(2);
    let (nid_2, state) = (nid("S2"), NodeState::Unknown);
    done(world.ask(admin, Packet::SetNodeState { nid: nid_2, state }));
    let new = |world: &mut World, port| {
        let mut identification = World::identification(NodeType::Storage);
        identification.address = Some(neo_api::Address::new("new", port));
        let (conn, answer) = world.identify(identification);
        world.hang_up(conn);
        called(answer)
    };
    assert_eq!(new(&mut world, 1), nid("S4"));
    // The last one is not given again either, nor by another primary.
    world.storages.remove(&2);
    let nid_3 = nid("S3");
    world.lose(3);
    done(world.ask(admin, Packet::SetNodeState { nid: nid_3, state }));
    assert_eq!(world.table().nodes(), [nid("S1")].into());
    world.restart_master();
    world.join(1);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(new(&mut world, 2), nid("S4"));
    // What was dropped is who it was, and has no cells.
    put(&mut world, 2, dropped);
    assert_eq!(called(world.join(2)), nid_2);
    assert!(!world.storages[&2].operating);
}

#[test]
fn a_database_of_a_creation_that_was_given_up_is_told_so() {
    let mut world = World::running(3, 2, 1);
    let draft = TableVersion {
        reign: Reign(0),
        ptid: Ptid(0),
    };
    world.lose(3);
    let mut left = Storage::new(3);
    left.is_noted = true;
    left.recovery.version = Some(draft);
    left.recovery.identity = world.storages[&1].recovery.identity.clone();
    put(&mut world, 3, left);
    let told = words(Some(world.join(3)));
    assert!(
        told.contains("given up") && told.contains("empty database"),
        "{told}"
    );
}
