//! Copies of a storage node's database that become nodes of their own.

use neo_api::{NodeState, NodeType};
use neo_proto::{MsgId, Packet};

use super::harness::*;

fn ask(world: &mut World, original: u32) -> (neo_proto::ConnId, Packet) {
    let storage = &world.storages[&original];
    let mut identification = World::identification(NodeType::Storage);
    identification.nid = Some(storage.nid());
    identification.address = Some(neo_api::Address::new("copy", 1));
    identification.identity = storage.recovery.identity.clone();
    identification.new_nid = true;
    world.identify(identification)
}

#[test]
fn a_copy_gets_an_id_and_cells_to_catch_up_with() {
    let mut world = World::running(2, 0, 4);
    let client = world.client();
    world.received(client);
    let (conn, answer) = ask(&mut world, 2);
    world.settle();
    let Packet::AcceptIdentification { your_nid, .. } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(your_nid, nid("S3"));
    assert_eq!(
        world.core.nodes.get(your_nid).unwrap().state,
        NodeState::Down
    );
    assert_eq!(world.rows(), ["1U", "2U3O", "1U", "2U3O"]);
    assert_eq!(
        world.names(client),
        ["NotifyNodeInformation", "NotifyPartitionChanges"]
    );
    let told = world.received(conn);
    let Some(Packet::SendPartitionTable { table, .. }) = told.last() else {
        panic!("{told:?}")
    };
    assert_eq!(table.as_ref(), world.table());
    let version = table.version;
    world.send(
        conn,
        MsgId(0),
        Packet::NotifyPartitionTableStored { version },
    );
    assert!(world.closed[&conn].contains("an id of its own"));
    // It is started again, as itself.
    let mut copy = Storage::new(3);
    copy.recovery = world.storages[&2].recovery.clone();
    copy.table = Some(world.table().clone());
    copy.is_noted = true;
    world.storages.insert(3, copy);
    world.join(3);
    assert!(world.storages[&3].operating);
    world.register(3);
    world.complete(3);
    assert_eq!(world.rows(), ["1U", "2U3U", "1U", "2U3U"]);
    // The original was not disturbed.
    assert!(world.storages[&2].conn.is_some());
}

#[test]
fn a_copy_that_stays_is_disconnected() {
    let mut world = World::running(1, 0, 1);
    let (conn, _) = ask(&mut world, 1);
    world.sleep(std::time::Duration::from_secs(11));
    assert!(world.closed.contains_key(&conn));
    let (conn, _) = ask(&mut world, 1);
    let packet = Packet::NotifyReady { operation: 1 };
    world.send(conn, MsgId(0), packet);
    assert!(world.closed.contains_key(&conn), "it is no node");
}

#[test]
fn what_is_no_copy_of_a_node_with_cells_is_refused() {
    let mut world = World::running(1, 0, 1);
    world.storages.insert(7, Storage::new(7));
    let identity = world.storages[&1].recovery.identity.clone();
    world.storages.get_mut(&7).unwrap().recovery.identity = identity;
    let (_, answer) = ask(&mut world, 7);
    assert!(words(Some(answer)).contains("S7 has no cells"));
    let mut recovering = World::running(1, 0, 1);
    recovering.restart_master();
    let (_, answer) = ask(&mut recovering, 1);
    assert!(words(Some(answer)).contains("RECOVERING"));
}
