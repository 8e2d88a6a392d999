//! Several masters: their connections, what the primary tells the others, what they do then.

use neo_api::{Address, ClusterState, NodeState, NodeType};
use neo_proto::{ConnId, ErrorCode, Identification, Input, NodeInfo, Packet};

use super::harness::*;
use crate::{MasterCore, MasterSettings};

fn address(n: u16) -> Address {
    Address::new("m", n)
}

/// The master at `m:2`, which knows `m:1` and `m:3`.
fn second() -> World {
    let mut settings = MasterSettings::new("c");
    settings.masters = vec![address(1), address(2), address(3)];
    let core = MasterCore::new(settings, address(2), [1, 2, 3, 4]);
    let mut world = World::of(core);
    world.input(Input::Timer);
    world
}

/// What a master says of itself.
fn introduction(own: u16) -> Identification {
    Identification {
        address: Some(address(own)),
        ..World::identification(NodeType::Master)
    }
}

/// Accepts the master, as the other end of a connection.
fn accept_as(world: &mut World, conn: ConnId, own: u16) {
    let asked = world.received_messages(conn);
    let id = asked
        .iter()
        .find(|m| matches!(m.packet, Packet::RequestIdentification { .. }))
        .expect("it says who it is")
        .id;
    let accept = Packet::AcceptIdentification {
        node_type: NodeType::Master,
        nid: Some(nid("M1")),
        your_nid: nid("M1"),
        reign: neo_api::Reign(0),
        session: neo_api::SessionId(u64::from(own)),
        identity: None,
    };
    world.send(conn, id, accept);
}

/// The same for who was dialled, which identifies itself then.
fn answer_as(world: &mut World, conn: ConnId, own: u16) {
    accept_as(world, conn, own);
    let identification = Box::new(introduction(own));
    world.request(conn, Packet::RequestIdentification { identification });
}

/// Has the other masters connected: `m:1` leads.
fn following() -> (World, ConnId) {
    let mut world = second();
    let (first, to) = world.connected();
    assert_eq!(to, address(1));
    answer_as(&mut world, first, 1);
    let lead =
        br#"{"claim":{"Leads":{"since":1,"stage":"Recovering","epoch":0,"reign":0}},"peers":[]}"#;
    let message = bytes::Bytes::from_static(lead);
    world.notify(first, Packet::ElectionMessage { message });
    assert_eq!(world.core.follows(), Some(&address(1)));
    world.received(first);
    (world, first)
}

fn master(nid_of: &str, n: u16, state: NodeState) -> NodeInfo {
    NodeInfo {
        nid: nid(nid_of),
        address: Some(address(n)),
        state,
        session: None,
        since_micros: None,
        is_full: false,
    }
}

#[test]
fn it_connects_to_the_masters_that_it_knows_and_leads_when_none_is_there() {
    let mut world = second();
    let dialed: Vec<Address> = world.dials.iter().map(|(_, to)| to.clone()).collect();
    assert_eq!(dialed, [address(1), address(3)]);
    assert_eq!(world.core.cluster_state(), None);
    for (token, _) in std::mem::take(&mut world.dials) {
        let error = "refused".to_owned();
        world.input(Input::ConnectFailed { token, error });
    }
    assert_eq!(world.state(), ClusterState::Recovering);
}

#[test]
fn a_secondary_names_the_primary_and_all_masters() {
    let (mut world, _) = following();
    let (conn, answer) = world.identify(World::identification(NodeType::Client));
    assert_eq!(
        answer,
        Packet::NotPrimaryMaster {
            primary: Some(address(1)),
            masters: vec![address(2), address(1), address(3)],
        }
    );
    assert!(world.closed.contains_key(&conn));
}

#[test]
fn a_secondary_takes_its_id_from_the_primary_and_stops_when_told() {
    let (mut world, first) = following();
    let nodes = vec![
        master("M1", 1, NodeState::Running),
        master("M7", 2, NodeState::Running),
    ];
    world.notify(first, Packet::NotifyNodeInformation { full: true, nodes });
    assert_eq!(world.core.nid, nid("M7"));
    let nodes = vec![master("M7", 2, NodeState::Down)];
    world.notify(first, Packet::NotifyNodeInformation { full: false, nodes });
    assert!(world.stopped);
}

#[test]
fn a_secondary_stops_with_the_cluster_but_not_by_the_word_of_another_one() {
    let (mut world, first) = following();
    let (other, to) = world.connected();
    assert_eq!(to, address(3));
    answer_as(&mut world, other, 3);
    let state = ClusterState::Stopping;
    world.notify(
        other,
        Packet::NotifyClusterInformation {
            state,
            waiting: String::new(),
        },
    );
    assert!(!world.stopped);
    world.notify(
        first,
        Packet::NotifyClusterInformation {
            state,
            waiting: String::new(),
        },
    );
    assert!(world.stopped);
}

#[test]
fn of_two_that_dial_each_other_the_attempt_of_the_smaller_address_goes_on() {
    let mut world = second();
    let (to_first, _) = world.connected();
    let (to_third, _) = world.connected();
    let from_first = world.accept();
    let identification = Box::new(introduction(1));
    let id = world.request(from_first, Packet::RequestIdentification { identification });
    assert!(matches!(
        world.answer(from_first, id),
        Some(Packet::AcceptIdentification { .. })
    ));
    assert!(world.closed.contains_key(&to_first));
    let from_third = world.accept();
    let identification = Box::new(introduction(3));
    let id = world.request(from_third, Packet::RequestIdentification { identification });
    let refused = words(world.answer(from_third, id));
    assert!(refused.contains("connecting to you already"), "{refused}");
    assert!(!world.closed.contains_key(&to_third));
}

#[test]
fn a_master_with_the_address_of_another_one_and_one_of_another_cluster_are_refused_in_words() {
    let mut world = World::running(1, 0, 1);
    let told = words(Some(world.identify(introduction(1)).1));
    assert!(told.contains("is where this master listens"), "{told}");
    let mut of_other = introduction(2);
    of_other.cluster = "d".to_owned();
    let told = words(Some(world.identify(of_other).1));
    assert!(told.contains("node of cluster \"c\""), "{told}");
    let mut forked = introduction(2);
    forked.identity = Some(identity(2));
    let told = words(Some(world.identify(forked).1));
    assert!(told.contains("two clusters of the name \"c\""), "{told}");
    let code = ErrorCode::OtherCluster.to_string();
    assert!(told.starts_with(&code), "{told}");
}

#[test]
fn a_list_that_has_this_master_by_another_name_does_no_harm() {
    let mut settings = MasterSettings::new("c");
    settings.masters = vec![Address::new("localhost", 2)];
    let core = MasterCore::new(settings, address(2), [1, 2, 3, 4]);
    let mut world = World::of(core);
    world.input(Input::Timer);
    let (dialed, _) = world.connected();
    let asked = world.received_messages(dialed);
    // Its own words come back to it.
    let accepted = world.accept();
    world.send(accepted, asked[0].id, asked[0].packet.clone());
    let answer = world
        .answer(accepted, asked[0].id)
        .expect("it knows itself");
    world.send(dialed, asked[0].id, answer);
    assert!(world.closed.contains_key(&dialed) && world.closed.contains_key(&accepted));
    assert_eq!(world.state(), ClusterState::Recovering);
    world.sleep(std::time::Duration::from_secs(10));
    assert!(world.dials.is_empty());
    let (_, answer) = world.identify(World::identification(NodeType::Admin));
    assert!(matches!(answer, Packet::AcceptIdentification { .. }));
}

#[test]
fn the_primary_lists_masters_with_their_states_and_an_operator_stops_secondaries_only() {
    let mut world = World::running(1, 0, 1);
    let admin = world.admin();
    let come = |world: &mut World| {
        let conn = world.accept();
        let identification = Box::new(introduction(5));
        world.request(conn, Packet::RequestIdentification { identification });
        accept_as(world, conn, 5);
        conn
    };
    let told = |world: &mut World, conn| -> Vec<(String, NodeState)> {
        let packets = world.received(conn).into_iter();
        let nodes = packets.filter_map(|packet| match packet {
            Packet::NotifyNodeInformation { nodes, .. } => Some(nodes),
            _ => None,
        });
        let masters = nodes
            .flatten()
            .filter(|n| n.node_type() == NodeType::Master);
        masters.map(|n| (n.nid.to_string(), n.state)).collect()
    };
    told(&mut world, admin);
    let conn = come(&mut world);
    let running = NodeState::Running;
    assert_eq!(told(&mut world, admin), [("M2".to_owned(), running)]);
    let own = told(&mut world, conn);
    assert_eq!(
        own,
        [("M1".to_owned(), running), ("M2".to_owned(), running)]
    );
    world.hang_up(conn);
    let down = NodeState::Down;
    assert_eq!(told(&mut world, admin), [("M2".to_owned(), down)]);
    let conn = come(&mut world);
    assert_eq!(told(&mut world, admin), [("M2".to_owned(), running)]);
    told(&mut world, conn);

    let kill = |nid_of: &str| Packet::SetNodeState {
        nid: nid(nid_of),
        state: down,
    };
    let refused = words(world.ask(admin, kill("M1")));
    assert!(
        refused.contains("the primary master can't be stopped"),
        "{refused}"
    );
    let done = world.ask(admin, kill("M2"));
    assert!(matches!(done, Some(Packet::AnswerDone { .. })), "{done:?}");
    assert_eq!(told(&mut world, conn), [("M2".to_owned(), down)]);
    assert!(world.closed.contains_key(&conn));
    let refused = words(world.ask(admin, kill("M2")));
    assert!(refused.contains("not connected"), "{refused}");
}
