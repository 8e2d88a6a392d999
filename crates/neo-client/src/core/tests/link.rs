//! The link to the primary: finding it, losing it, following what it tells.

use neo_api::{CellChange, ClusterId, ClusterState};
use neo_proto::{ClusterIdentity, Oids};

use super::*;

fn identity(n: u8) -> ClusterIdentity {
    ClusterIdentity {
        id: ClusterId([n; 16]),
        epochs: Vec::new(),
    }
}

#[test]
fn the_primary_is_found_through_a_secondary() {
    let mut w = World::cold(1, 1);
    w.input(Input::Timer);
    w.connected(m(1));
    let (id, _) = w.to(m(1));
    let primary = Some(address(m(3)));
    w.says(
        m(1),
        id,
        Packet::NotPrimaryMaster {
            primary,
            masters: vec![address(m(2))],
        },
    );
    let told = w.events.pop_front();
    assert!(matches!(told, Some(Event::Masters(all)) if all == [1, 2, 3].map(|n| address(m(n)))));
    w.next_timer();
    assert_eq!(w.connecting.pop_front().unwrap().1, address(m(3)));
}

#[test]
fn every_master_is_tried_with_growing_pauses() {
    let mut w = World::cold(1, 1);
    w.input(Input::Timer);
    let mut tried = Vec::new();
    for _ in 0..40 {
        let (token, to) = w.connecting.pop_front().unwrap();
        tried.push(to);
        w.input(Input::ConnectFailed {
            token,
            error: "refused".into(),
        });
        w.next_timer();
    }
    assert_eq!(
        tried[..4],
        [address(m(1)), address(m(2)), address(m(1)), address(m(2))]
    );
    let waited = w.now.mono.since(Instant(0));
    assert!(
        waited > Duration::from_secs(10) && waited < Duration::from_secs(40),
        "{waited:?}"
    );
}

#[test]
fn who_waits_is_told_what_the_masters_say() {
    let mut w = World::cold(1, 1);
    let timeout = Duration::from_secs(3);
    w.command(Command::WaitReady { reply: R, timeout });
    w.connected(m(1));
    let (id, _) = w.to(m(1));
    let message = "the cluster is RECOVERING, waiting for S2".to_owned();
    w.says(
        m(1),
        id,
        Packet::Error {
            code: ErrorCode::NotReady,
            message,
        },
    );
    while w.events.is_empty() {
        w.next_timer();
        // The other master can't be reached; then both are asked again.
        if let Some((token, to)) = w.connecting.pop_front() {
            if to == address(m(1)) {
                w.connecting.push_front((token, to));
                break;
            }
            let error = "refused".to_owned();
            w.input(Input::ConnectFailed { token, error });
        }
    }
    w.wait(timeout);
    let Error::NotReady(words) = w.failure() else {
        panic!("no error");
    };
    for part in [
        "the cluster to be ready",
        "M1:1 says: the cluster is RECOVERING, waiting for S2",
        "M2:1 can't be reached: refused",
    ] {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn a_master_that_lives_and_tells_nothing_is_not_waited_for() {
    let mut w = World::cold(1, 1);
    w.input(Input::Timer);
    let conn = w.connected(m(1));
    w.to(m(1));
    w.wait(Duration::from_secs(5));
    assert_eq!(w.closed, [conn]);
    w.next_timer();
    // The next one is asked.
    assert_eq!(w.connecting.front().unwrap().1, address(m(2)));
}

#[test]
fn another_cluster_is_told_at_once() {
    let mut w = World::cold(1, 1);
    w.command(Command::WaitReady {
        reply: R,
        timeout: Duration::from_secs(9),
    });
    w.connected(m(1));
    let (id, _) = w.to(m(1));
    w.error(m(1), id, ErrorCode::OtherCluster);
    assert!(matches!(w.failure(), Error::OtherCluster(_)));
}

#[test]
fn invalidations_before_the_first_sync_are_part_of_it() {
    let mut w = World::cold(1, 1);
    w.input(Input::Timer);
    w.connected(m(1));
    let (id, _) = w.to(m(1));
    let accept = Packet::AcceptIdentification {
        node_type: NodeType::Master,
        nid: Some(m(1)),
        your_nid: NodeId::new(NodeType::Client, 1).unwrap(),
        reign: REIGN,
        session: SessionId(1),
        identity: None,
    };
    w.says(m(1), id, accept);
    let oids = Oids(vec![Oid(1)]);
    w.notify(m(1), Packet::InvalidateObjects { tid: Tid(90), oids });
    assert!(w.events.is_empty());
    let (id, _) = w.to(m(1));
    w.says(m(1), id, Packet::AnswerLastTransaction { tid: Tid(90) });
    let known = Tid(0);
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Resynced { known: k, tid: Tid(90) }) if k == known
    ));
    // Not ready without a table.
    assert!(!w.core.is_ready() && w.events.is_empty());
    let table = Box::new(w.table.clone());
    w.notify(
        m(1),
        Packet::SendPartitionTable {
            identity: None,
            table,
        },
    );
    assert!(matches!(w.events.pop_front(), Some(Event::Ready { .. })));
}

#[test]
fn a_database_that_went_back_is_forgotten() {
    for (identities, last_tid, cleared) in [
        ((None, None), 100, None),
        ((None, None), 99, Some(99)),
        ((Some(1), Some(1)), 100, None),
        // Another chain of epochs: the same tid may name another transaction.
        ((Some(1), Some(2)), 150, Some(150)),
    ] {
        let mut w = World::cold(1, 1);
        w.input(Input::Timer);
        w.accept_master();
        let (before, after) = identities;
        let table = Box::new(w.table.clone());
        let packet = Packet::SendPartitionTable {
            identity: before.map(identity),
            table,
        };
        w.notify(m(1), packet);
        w.lose(m(1));
        w.events.clear();
        w.next_timer();
        while w.connecting.iter().all(|(_, to)| *to != address(m(1))) {
            let (token, _) = w.connecting.pop_front().unwrap();
            w.input(Input::ConnectFailed {
                token,
                error: "refused".into(),
            });
            w.next_timer();
        }
        w.last_tid = Tid(last_tid);
        w.connected(m(1));
        let (id, _) = w.to(m(1));
        let accept = Packet::AcceptIdentification {
            node_type: NodeType::Master,
            nid: Some(m(1)),
            your_nid: NodeId::new(NodeType::Client, 9).unwrap(),
            reign: REIGN,
            session: SessionId(7),
            identity: after.map(identity),
        };
        w.says(m(1), id, accept);
        let (id, _) = w.to(m(1));
        let tid = Tid(last_tid);
        w.says(m(1), id, Packet::AnswerLastTransaction { tid });
        match cleared {
            Some(tid) => {
                let event = w.events.pop_front();
                assert!(matches!(event, Some(Event::Cleared { tid: t }) if t == Tid(tid)));
            }
            None => assert!(w.events.is_empty(), "{:?}", w.events),
        }
        assert_eq!(w.core.last_tid(), Tid(last_tid));
    }
}

#[test]
fn table_changes_are_followed_in_order() {
    let mut w = World::new(1, 2);
    let base = w.table.version;
    let version = TableVersion {
        reign: REIGN,
        ptid: Ptid(2),
    };
    let cell = Cell {
        nid: s(1),
        state: CellState::OutOfDate,
        assigned: base,
    };
    let changes = vec![CellChange {
        partition: Partition(1),
        cell,
    }];
    let packet = Packet::NotifyPartitionChanges {
        base,
        version,
        replicas: 1,
        changes,
    };
    w.notify(m(1), packet.clone());
    let table = w.core.table.as_ref().unwrap();
    assert_eq!(table.version, version);
    assert_eq!(table.readable(w.partition_of(1)).count(), 0);
    // A change that starts from another table: the whole is asked for, by a new connection.
    w.notify(m(1), packet);
    assert!(matches!(w.events.pop_front(), Some(Event::NotReady { .. })));
    assert_eq!(w.closed.len(), 1);
}

#[test]
fn nonsense_from_a_peer_ends_its_connection_only() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    w.says(
        nid,
        id,
        Packet::AnswerDone {
            message: String::new(),
        },
    );
    assert_eq!(w.closed.len(), 1);
    // The load goes on.
    w.next_timer();
    w.asked_object();
    w.notify(m(1), Packet::AskRecovery {});
    assert!(matches!(w.events.pop_front(), Some(Event::NotReady { .. })));
}

#[test]
fn the_end_of_service_is_the_loss_of_the_primary() {
    for packet in [
        Packet::StopOperation {},
        Packet::NotifyClusterInformation {
            state: ClusterState::Recovering,
            waiting: String::new(),
        },
    ] {
        let mut w = World::new(1, 1);
        w.notify(m(1), packet);
        assert!(matches!(w.events.pop_front(), Some(Event::NotReady { .. })));
        assert!(w.conns.is_empty());
    }
    let mut w = World::new(1, 1);
    w.notify(
        m(1),
        Packet::NotifyClusterInformation {
            state: ClusterState::Stopping,
            waiting: String::new(),
        },
    );
    assert!(w.core.is_ready());
}

#[test]
fn a_sync_is_answered_after_what_was_committed_before() {
    let mut w = World::new(1, 1);
    w.command(Command::Sync { reply: R });
    let (id, packet) = w.to(m(1));
    assert_eq!(packet, Packet::AskLastTransaction {});
    let oids = Oids(vec![]);
    w.notify(
        m(1),
        Packet::InvalidateObjects {
            tid: Tid(110),
            oids,
        },
    );
    w.events.clear();
    w.says(m(1), id, Packet::AnswerLastTransaction { tid: Tid(110) });
    assert_eq!(w.reply(), (R, Ok(Reply::LastTid(Tid(110)))));
}

#[test]
fn a_silent_primary_does_not_hang_a_call() {
    let mut w = World::new(1, 1);
    w.command(Command::NewOids {
        reply: R,
        count: 100,
    });
    w.wait(Duration::from_secs(61));
    let Error::Timeout(words) = w.failure() else {
        panic!("no timeout");
    };
    assert!(words.contains("new oids"), "{words}");
}

#[test]
fn a_pause_is_a_pause() {
    let mut w = World::new(1, 1);
    let duration = Duration::from_millis(5);
    w.command(Command::Sleep { reply: R, duration });
    assert!(w.events.is_empty());
    w.wait(duration);
    assert_eq!(w.reply(), (R, Ok(Reply::Done)));
}
