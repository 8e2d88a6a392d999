//! What an operator changes of the partition table.

use neo_api::{NodeId, NodeState};
use neo_proto::{ConnId, Packet};

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
