//! What an operator does: stop, kill, drop; and the election.

use std::time::Duration;

use neo_api::{
    Address, ClusterState, Election, ElectionEffect, ElectionInput, Instant, NodeState, NodeType,
};
use neo_proto::{Input, Packet};

use super::harness::*;
use crate::{Command, MasterCore, MasterSettings};

fn set_state(state: ClusterState) -> Packet {
    Packet::SetClusterState { state }
}

fn done(answer: Option<Packet>) -> String {
    match answer {
        Some(Packet::AnswerDone { message }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stopping_waits_for_what_is_pending() {
    let mut world = World::running(2, 1, 1);
    let (client, admin) = (world.client(), world.admin());
    let txn = world.begin(client);
    world.vote(txn, &[1, 2]);
    world.received(client);
    world.received(admin);
    assert!(done(world.ask(admin, set_state(ClusterState::Stopping))).contains("stopping"));
    let state = ClusterState::Stopping;
    assert_eq!(
        world.received(admin),
        [Packet::NotifyClusterInformation {
            state,
            waiting: String::new()
        }]
    );
    assert_eq!(world.received(client), [], "it may finish");
    assert_eq!(world.state(), ClusterState::Stopping);
    let refused = words(world.ask(client, Packet::AskBeginTransaction { tid: None }));
    assert!(
        refused.contains("not ready: the cluster is stopping"),
        "{refused}"
    );
    let refused = words(world.ask(client, Packet::AskBeginImport {}));
    assert!(refused.contains("stopping"), "{refused}");
    assert!(
        words(Some(
            world.identify(World::identification(NodeType::Client)).1
        ))
        .contains("stopping")
    );
    // But one that was here before may ask what became of its commit.
    let mut known = World::identification(NodeType::Client);
    known.identity = world.storages[&1].recovery.identity.clone();
    let (back, accepted) = world.identify(known);
    assert!(matches!(accepted, Packet::AcceptIdentification { .. }));
    let refused = words(world.ask(back, Packet::AskBeginTransaction { tid: None }));
    assert!(refused.contains("stopping"), "{refused}");
    assert!(words(world.ask(admin, set_state(ClusterState::Stopping))).contains("already"));
    let id = world.finish(client, txn, &[]);
    assert!(matches!(
        world.answer(client, id),
        Some(Packet::AnswerTransactionFinished { .. })
    ));
    // Storage nodes were told to leave, and have left.
    assert!(world.stopped);
    for storage in world.storages.values() {
        assert_eq!(storage.conn, None);
        assert_eq!(storage.committed.len(), 1);
        let unlock = storage
            .log
            .iter()
            .position(|n| *n == "NotifyUnlockInformation")
            .unwrap();
        let last = storage
            .log
            .iter()
            .rposition(|n| *n == "NotifyNodeInformation")
            .unwrap();
        assert!(unlock < last);
    }
    assert!(
        world
            .names(client)
            .ends_with(&["NotifyClusterInformation", "StopOperation"])
    );
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("NotifyNodeInformation");
    world.command(Command::StopCluster);
    world.sleep(Duration::from_secs(29));
    assert!(!world.stopped && !world.closed.contains_key(&client));
    world.sleep(Duration::from_secs(2));
    assert!(world.storages[&1].log.contains(&"AbortTransaction"));
    assert!(
        world.closed.contains_key(&client) && !world.stopped,
        "the storage node is slow"
    );
    world.sleep(Duration::from_secs(3));
    assert!(world.stopped);
}

#[test]
fn stopping_ends_an_import_at_its_checkpoint() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    world.ask(client, Packet::AskBeginImport {});
    world.command(Command::StopCluster);
    assert!(world.stopped);
    assert_eq!(world.storages[&1].recovery.import_tid, None);
}

#[test]
fn stopping_in_any_state() {
    let mut world = World::new(MasterSettings::new("c"));
    world.command(Command::StopCluster);
    assert!(world.stopped);
    let mut world = World::running(2, 0, 2);
    world.restart_master();
    world.join(1);
    let admin = world.admin();
    done(world.ask(admin, set_state(ClusterState::Stopping)));
    assert!(world.stopped);
    let mut world = World::running(1, 0, 1);
    world.restart_master();
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskLastIds");
    world.join(1);
    assert_eq!(world.state(), ClusterState::Verifying);
    world.command(Command::StopCluster);
    assert!(world.stopped);
}

#[test]
fn a_master_that_stops_alone_leaves_the_cluster() {
    let mut world = World::running(1, 0, 1);
    world.command(Command::Stop);
    assert!(world.stopped);
    assert!(world.storages[&1].conn.is_none());
    world.restart_master();
    world.join(1);
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn what_is_denied_says_why() {
    let mut world = World::running(1, 0, 1);
    let admin = world.admin();
    for (packet, told) in [
        (set_state(ClusterState::Verifying), "has started already"),
        (set_state(ClusterState::BackingUp), "can't be set BACKINGUP"),
        (
            Packet::AddPendingNodes { nodes: Vec::new() },
            "no storage node is PENDING",
        ),
        (
            Packet::SetNodeState {
                nid: nid("S9"),
                state: NodeState::Down,
            },
            "is not known",
        ),
        (
            Packet::SetNodeState {
                nid: nid("M1"),
                state: NodeState::Down,
            },
            "the primary master can't be stopped",
        ),
        (
            Packet::SetNodeState {
                nid: nid("S1"),
                state: NodeState::Running,
            },
            "are added",
        ),
        (
            Packet::SetNodeState {
                nid: nid("S1"),
                state: NodeState::Down,
            },
            "can't be spared",
        ),
        (
            Packet::SetNodeState {
                nid: nid("S1"),
                state: NodeState::Unknown,
            },
            "is running: stop it first",
        ),
    ] {
        let answer = words(world.ask(admin, packet));
        assert!(
            answer.starts_with("denied") && answer.contains(told),
            "{answer}"
        );
    }
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn a_killed_node_is_told_and_outdated() {
    let mut world = World::running(2, 1, 1);
    let admin = world.admin();
    let conn = world.storages[&2].conn.unwrap();
    let (nid, state) = (nid("S2"), NodeState::Down);
    done(world.ask(admin, Packet::SetNodeState { nid, state }));
    assert_eq!(world.rows(), ["1U2O"]);
    let told = world.received(conn);
    assert!(
        matches!(&told[..], [Packet::NotifyNodeInformation { nodes, .. }] if nodes[0].state == state),
        "{told:?}"
    );
    assert!(words(world.ask(admin, Packet::SetNodeState { nid, state })).contains("not connected"));
    // It may come back.
    world.join(2);
    assert!(world.storages[&2].conn.is_some());
}

#[test]
fn a_dropped_node_is_forgotten() {
    for connected in [true, false] {
        let mut world = World::running(2, 1, 2);
        let (admin, client) = (world.admin(), world.client());
        let (nid, state) = (nid("S2"), NodeState::Unknown);
        let refused = words(world.ask(admin, Packet::SetNodeState { nid, state }));
        assert!(
            refused.contains("S2 is running: stop it first"),
            "{refused}"
        );
        world.lose(2);
        if connected {
            // It is back, and does not get ready: it is not waited for, and may go.
            let storage = world.storages.get_mut(&2).unwrap();
            storage.holds.insert("AskStartReign");
            world.join(2);
        }
        world.received(client);
        done(world.ask(admin, Packet::SetNodeState { nid, state }));
        assert_eq!(world.rows(), ["1U", "1U"]);
        let told = world.received(client);
        let forgotten = |packet: &Packet| {
            matches!(packet, Packet::NotifyNodeInformation { nodes, .. }
                if nodes[0].nid == nid && nodes[0].state == NodeState::Unknown)
        };
        assert!(told.iter().any(forgotten), "{told:?}");
        assert_eq!(world.storages[&1].table.as_ref(), Some(world.table()));
    }
}

#[test]
fn a_client_can_be_disconnected() {
    let mut world = World::running(1, 0, 1);
    let (admin, client) = (world.admin(), world.client());
    let (nid, state) = (nid("C1"), NodeState::Down);
    done(world.ask(admin, Packet::SetNodeState { nid, state }));
    assert!(world.closed[&client].contains("operator"));
}

#[test]
fn ids_of_the_cluster() {
    let mut world = World::running(1, 0, 1);
    let (admin, client) = (world.admin(), world.client());
    let tid = world.commit(client, &[7]);
    let Some(Packet::AnswerLastIds { ids, version, .. }) = world.ask(admin, Packet::AskLastIds {})
    else {
        panic!("it is answered")
    };
    assert_eq!(
        (ids.last_tid, ids.last_oid),
        (Some(tid), Some(neo_api::Oid(7)))
    );
    assert_eq!(version, Some(world.table().version));
    assert_eq!(world.last_tid(admin), tid);
    world.lose(1);
    let answer = words(world.ask(admin, Packet::AskLastTransaction {}));
    assert!(answer.contains("waiting for S1"), "{answer}");
    assert!(!world.closed.contains_key(&admin), "admins stay");
}

/// An election that does what it is told from outside.
#[derive(Debug)]
struct Told {
    heard: Vec<ClusterState>,
}

impl Election for Told {
    fn handle(&mut self, _: Instant, input: ElectionInput, out: &mut Vec<ElectionEffect>) {
        match input {
            ElectionInput::External(bytes) => out.push(match &bytes[..] {
                b"lead" => ElectionEffect::Lead,
                b"follow" => ElectionEffect::Follow(Address::new("m2", 1)),
                _ => ElectionEffect::StepDown,
            }),
            ElectionInput::Cluster { state, .. } => self.heard.push(state),
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

#[test]
fn an_election_decides_who_leads() {
    let settings = MasterSettings {
        autostart: Some(1),
        partitions: 1,
        masters: vec![Address::new("m2", 1)],
        ..MasterSettings::new("c")
    };
    let election = Box::new(Told { heard: Vec::new() });
    let own = Address::new("m", 1);
    let core = MasterCore::with_election(settings, own, [1; 4], election);
    let mut world = World::of(core);
    world.input(Input::Timer);
    world.storages.insert(1, Storage::new(1));
    let masters = vec![Address::new("m", 1), Address::new("m2", 1)];
    let primary = None;
    assert_eq!(
        world.connect(1),
        Packet::NotPrimaryMaster {
            primary,
            masters: masters.clone()
        }
    );
    world.command(Command::External("lead".into()));
    world.join(1);
    assert_eq!(world.state(), ClusterState::Running);
    let client = world.client();
    let tid = world.commit(client, &[]);
    world.command(Command::External("follow".into()));
    assert_eq!(world.core.cluster_state(), None);
    assert!(world.closed.contains_key(&client) && world.storages[&1].conn.is_none());
    let primary = Some(Address::new("m2", 1));
    assert_eq!(
        world.connect(1),
        Packet::NotPrimaryMaster { primary, masters }
    );
    world.command(Command::External("lead".into()));
    world.join(1);
    let client = world.client();
    assert!(world.commit(client, &[]) > tid);
    assert_eq!(world.status.reign.0, 2);
    world.command(Command::External("step down".into()));
    world.command(Command::StopCluster);
    assert!(world.stopped);
}
