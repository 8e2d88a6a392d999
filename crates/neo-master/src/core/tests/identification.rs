//! Who may join, under which id, and what is told to whom.

use std::time::Duration;

use neo_api::{Address, ClusterState, NodeState, NodeType};
use neo_proto::{Identification, Input, MsgId, Packet};

use super::harness::*;
use crate::MasterSettings;

fn storage(n: Option<&str>, host: &str) -> Identification {
    let mut identification = World::identification(NodeType::Storage);
    identification.nid = n.map(nid);
    identification.address = Some(Address::new(host, 1));
    identification
}

fn accepted(answer: &Packet) -> neo_api::NodeId {
    match answer {
        Packet::AcceptIdentification { your_nid, .. } => *your_nid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_hears_everything_in_order_and_others_hear_of_it_first() {
    let mut world = World::running(1, 0, 1);
    let conn = world.accept();
    let identification = Box::new(World::identification(NodeType::Client));
    let message =
        neo_proto::Message::new(MsgId(5), Packet::RequestIdentification { identification });
    let mut out = neo_proto::Effects::new();
    let input = Input::Message { conn, message };
    neo_proto::Core::handle(&mut world.core, world.now, input, &mut out);
    let storage = world.storages[&1].conn.unwrap();
    let sent: Vec<_> = out
        .take()
        .into_iter()
        .filter_map(|effect| match effect {
            neo_proto::Effect::Send { conn, message } => Some((conn, message.packet)),
            _ => None,
        })
        .collect();
    let names: Vec<_> = sent
        .iter()
        .map(|(conn, packet)| (*conn, packet.name()))
        .collect();
    assert_eq!(
        names,
        [
            (storage, "NotifyNodeInformation"),
            (conn, "AcceptIdentification"),
            (conn, "NotifyNodeInformation"),
            (conn, "NotifyClusterInformation"),
            (conn, "SendPartitionTable"),
        ]
    );
    let (
        Packet::NotifyNodeInformation { nodes: told, .. },
        Packet::AcceptIdentification { session, .. },
    ) = (&sent[0].1, &sent[1].1)
    else {
        panic!("{sent:?}")
    };
    assert_eq!(
        told[0].session,
        Some(*session),
        "by which the storage node knows it"
    );
    let Packet::NotifyNodeInformation { full: true, nodes } = &sent[2].1 else {
        panic!("{sent:?}")
    };
    let known: Vec<String> = nodes
        .iter()
        .map(|n| format!("{} {}", n.nid, n.state))
        .collect();
    assert_eq!(known, ["S1 RUNNING", "M1 RUNNING"]);
    assert_eq!(nodes[1].address, Some(Address::new("m", 1)));
}

#[test]
fn a_storage_node_that_comes_while_recovering_gets_no_table() {
    let mut world = World::running(2, 0, 2);
    world.restart_master();
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskRecovery");
    world.join(1);
    // After the acceptance itself.
    let log = &world.storages[&1].log;
    assert_eq!(log, &["NotifyNodeInformation", "NotifyClusterInformation"]);
}

#[test]
fn another_cluster_is_refused_in_words() {
    let mut world = World::running(1, 0, 1);
    let mut identification = World::identification(NodeType::Client);
    identification.cluster = "d".to_owned();
    let (conn, answer) = world.identify(identification);
    let told = words(Some(answer));
    assert!(
        told.contains("this is a node of cluster \"c\", you asked for \"d\""),
        "{told}"
    );
    assert!(world.closed.contains_key(&conn));
    let mut identification = World::identification(NodeType::Client);
    identification.identity = Some(identity(1));
    let told = words(Some(world.identify(identification).1));
    assert!(told.contains("another one of the same name"), "{told}");
    // A side of this cluster that went its own way, and one that is ahead.
    let own = world.storages[&1].recovery.identity.clone().unwrap();
    let mut ahead = own.clone();
    let first = ahead.epochs[0];
    ahead.epochs.push(neo_api::Epoch {
        number: 2,
        id: neo_api::EpochId([2; 16]),
        parent: Some(first.id),
        ..first
    });
    let mut identification = World::identification(NodeType::Client);
    identification.identity = Some(ahead.clone());
    let told = words(Some(world.identify(identification).1));
    assert!(told.contains("started later, by force"), "{told}");
    let mut sideways = own;
    sideways.epochs[0].id = neo_api::EpochId([1; 16]);
    let mut identification = World::identification(NodeType::Client);
    identification.identity = Some(sideways);
    let told = words(Some(world.identify(identification).1));
    assert!(told.contains("two sides"), "{told}");
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn storage_nodes_get_and_keep_ids() {
    let mut world = World::new(MasterSettings::new("c"));
    let (a, answer) = world.identify(storage(None, "a"));
    assert_eq!(accepted(&answer), nid("S1"));
    let (_, answer) = world.identify(storage(Some("S7"), "b"));
    assert_eq!(accepted(&answer), nid("S7"));
    let (_, answer) = world.identify(storage(None, "c"));
    assert_eq!(accepted(&answer), nid("S2"));
    // One that never made its id durable is known by its address.
    world.hang_up(a);
    let (_, answer) = world.identify(storage(None, "a"));
    assert_eq!(accepted(&answer), nid("S1"));
}

#[test]
fn ids_and_addresses_in_use_are_conflicts() {
    let mut world = World::new(MasterSettings::new("c"));
    world.identify(storage(Some("S1"), "a"));
    for (identification, told) in [
        (
            storage(Some("S1"), "b"),
            "another node that is S1 is connected",
        ),
        (
            storage(Some("S2"), "a"),
            "S1 is connected, and listens at a:1 too",
        ),
        (storage(Some("S2"), "m"), "where this master listens"),
    ] {
        let (conn, answer) = world.identify(identification);
        let words = words(Some(answer));
        assert!(
            words.starts_with("id conflict") && words.contains(told),
            "{words}"
        );
        assert!(world.closed.contains_key(&conn));
    }
    let mut nowhere = storage(Some("S3"), "x");
    nowhere.address = None;
    assert!(words(Some(world.identify(nowhere).1)).contains("where it listens"));
    let wrong = storage(Some("C1"), "x");
    assert!(words(Some(world.identify(wrong).1)).contains("can't have the id C1"));
}

#[test]
fn clients_get_other_ids_instead_of_conflicts() {
    let mut world = World::running(1, 0, 1);
    let mut identification = World::identification(NodeType::Client);
    identification.nid = Some(nid("C5"));
    let (old, answer) = world.identify(identification.clone());
    assert_eq!(accepted(&answer), nid("C5"));
    // Its old connection is half-open still.
    let (_, answer) = world.identify(identification);
    assert_ne!(accepted(&answer), nid("C5"));
    world.hang_up(old);
    let (_, answer) = world.identify(World::identification(NodeType::Client));
    assert_ne!(accepted(&answer), nid("C5"), "not given again soon");
}

#[test]
fn sessions_are_given_once() {
    let mut world = World::running(1, 0, 1);
    let mut session = || match world.identify(World::identification(NodeType::Client)).1 {
        Packet::AcceptIdentification { session, reign, .. } => (reign, session),
        other => panic!("{other:?}"),
    };
    let (a, b) = (session(), session());
    assert!(a.0 == b.0 && b.1 > a.1);
}

#[test]
fn a_peer_that_says_nothing_or_something_else_is_disconnected() {
    let mut world = World::running(1, 0, 1);
    let silent = world.accept();
    world.sleep(Duration::from_secs(11));
    assert!(world.closed[&silent].contains("identify itself in time"));
    let rude = world.accept();
    let id = world.request(rude, Packet::AskLastTransaction {});
    assert!(words(world.answer(rude, id)).contains("before identification"));
    assert!(world.closed.contains_key(&rude));
    // Twice is once too often.
    let client = world.client();
    let identification = Box::new(World::identification(NodeType::Client));
    let id = world.request(client, Packet::RequestIdentification { identification });
    assert!(words(world.answer(client, id)).starts_with("protocol error"));
}

#[test]
fn there_may_be_so_many_nodes() {
    let mut world = World::new(MasterSettings {
        nodes_max: 3,
        ..MasterSettings::new("c")
    });
    assert!(matches!(
        world.identify(storage(None, "a")).1,
        Packet::AcceptIdentification { .. }
    ));
    let (b, _) = world.identify(storage(None, "b"));
    let told = words(Some(world.identify(storage(None, "c")).1));
    assert!(told.contains("nodes_max"), "{told}");
    world.hang_up(b);
    let (_, answer) = world.identify(storage(Some("S2"), "b"));
    assert_eq!(accepted(&answer), nid("S2"), "it is known");
}

#[test]
fn a_storage_node_with_an_emptied_database_is_another_node() {
    let mut world = World::running(2, 1, 1);
    world.lose(2);
    let (_, answer) = world.identify(storage(None, "s2"));
    assert_eq!(accepted(&answer), nid("S3"), "S2's cells are not its");
    assert_eq!(world.rows(), ["1U2O"]);
}

#[test]
fn admins_are_always_let_in_and_hear_of_everybody() {
    let mut world = World::new(MasterSettings::new("c"));
    let admin = world.admin();
    world.received(admin);
    world.identify(storage(None, "a"));
    let told = world.received(admin);
    let Packet::NotifyNodeInformation { full: false, nodes } = &told[0] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (nodes[0].nid, nodes[0].state),
        (nid("S1"), NodeState::Pending)
    );
}

#[test]
fn a_payload_gives_its_credit_back() {
    let mut world = World::running(1, 0, 1);
    let conn = world.client();
    let payload = vec![0; 10].into();
    let packet = Packet::AskLastTransaction {};
    let message = neo_proto::Message::with_payload(MsgId(9), packet, payload);
    let mut out = neo_proto::Effects::new();
    neo_proto::Core::handle(
        &mut world.core,
        world.now,
        Input::Message { conn, message },
        &mut out,
    );
    let consumed = neo_proto::Effect::<crate::MasterCore>::Consumed { conn, bytes: 10 };
    assert_eq!(format!("{:?}", out.take()[0]), format!("{consumed:?}"));
}
