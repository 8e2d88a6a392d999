//! VERIFYING: what was being committed is completed, what was not is dropped.

use neo_api::{CellState, ClusterState, Oid, Reign, TableVersion, Tid, TxnId};
use neo_proto::{FinalTid, MsgId, Packet};

use super::harness::*;

fn txn(n: u64) -> TxnId {
    TxnId {
        reign: Reign(1),
        ttid: Tid(n),
    }
}

/// A cluster whose master crashed.
fn crashed(storages: u32, replicas: u32, partitions: u32) -> World {
    let mut world = World::running(storages, replicas, partitions);
    world.restart_master();
    world
}

fn join_all(world: &mut World) {
    let all: Vec<u32> = world.storages.keys().copied().collect();
    for n in all {
        world.join(n);
    }
}

#[test]
fn what_is_locked_anywhere_is_completed_and_the_rest_is_dropped() {
    let mut world = crashed(2, 1, 1);
    for (n, t, tid) in [
        (1, 10, Some(Tid(50))),
        (2, 10, None),
        (1, 11, None),
        (2, 12, None),
    ] {
        let storage = world.storages.get_mut(&n).unwrap();
        storage.unfinished.insert(txn(t), tid);
    }
    join_all(&mut world);
    assert_eq!(world.state(), ClusterState::Running);
    for storage in world.storages.values() {
        assert_eq!(storage.committed, [(txn(10), Tid(50))].into());
        assert!(storage.unfinished.is_empty());
    }
    let client = world.client();
    assert_eq!(world.last_tid(client), Tid(50));
}

#[test]
fn what_is_committed_on_one_replica_is_completed_on_the_other() {
    let mut world = crashed(2, 1, 1);
    let one = world.storages.get_mut(&1).unwrap();
    one.unfinished.insert(txn(10), None);
    one.unfinished.insert(txn(11), None);
    let two = world.storages.get_mut(&2).unwrap();
    two.committed.insert(txn(10), Tid(60));
    join_all(&mut world);
    assert_eq!(world.storages[&1].committed, [(txn(10), Tid(60))].into());
    let asked = |n: u32| {
        let log = world.storages[&n].log.iter();
        log.filter(|name| **name == "AskFinalTid").count()
    };
    assert_eq!((asked(1), asked(2)), (0, 2), "who reported it is not asked");
}

#[test]
fn a_tid_that_only_a_cell_that_catches_up_knows_does_not_count() {
    // The metadata of ttid 11 is in partition 1, which S1 is about to get.
    let mut world = crashed(2, 1, 2);
    for storage in world.storages.values_mut() {
        let table = storage.table.as_mut().unwrap();
        table.rows[1][0].state = CellState::OutOfDate;
    }
    for (n, tid) in [(1, Some(Tid(51))), (2, None)] {
        let storage = world.storages.get_mut(&n).unwrap();
        storage.unfinished.insert(txn(11), tid);
    }
    join_all(&mut world);
    assert_eq!(world.state(), ClusterState::Running);
    for storage in world.storages.values() {
        assert!(storage.committed.is_empty() && storage.unfinished.is_empty());
    }
}

#[test]
fn metadata_elsewhere_tells_the_tid() {
    // Partition 0 is on S1, partition 1 on S2: the metadata of ttid 11 is on S2.
    let mut world = crashed(2, 0, 2);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .unfinished
        .insert(txn(11), None);
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .committed
        .insert(txn(11), Tid(61));
    join_all(&mut world);
    assert_eq!(world.storages[&1].committed, [(txn(11), Tid(61))].into());
}

#[test]
fn transactions_are_read_in_pages_and_completed_in_order_of_tid() {
    let mut world = crashed(1, 0, 1);
    for n in 0..7 {
        let tid = Some(Tid(200 - n));
        world
            .storages
            .get_mut(&1)
            .unwrap()
            .unfinished
            .insert(txn(n), tid);
    }
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskValidateTransaction");
    join_all(&mut world);
    let conn = world.storages[&1].conn.unwrap();
    let tids: Vec<Tid> = world.inbox[&conn]
        .iter()
        .filter_map(|message| match message.packet {
            Packet::AskValidateTransaction { tid, .. } => Some(tid),
            _ => None,
        })
        .collect();
    assert_eq!(tids, (194..=200).map(Tid).collect::<Vec<_>>());
    assert_eq!(world.state(), ClusterState::Verifying);
    for _ in 0..7 {
        world.release(1, "AskValidateTransaction");
    }
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn the_reign_and_the_table_are_durable_before_anything_is_asked() {
    let mut world = crashed(1, 0, 1);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskStartReign");
    world.join(1);
    let log = &world.storages[&1].log;
    assert!(log.ends_with(&["SendPartitionTable"]), "{log:?}");
    world.release(1, "AskStartReign");
    let log = &world.storages[&1].log;
    let at = |name| log.iter().position(|n| *n == name).unwrap();
    assert!(at("SendPartitionTable") < at("AskStartReign"));
    assert!(at("AskStartReign") < at("AskLockedTransactions"));
    assert!(at("AskLastIds") < at("StartOperation"));
    assert_eq!(world.storages[&1].recovery.reign, Reign(2));
}

#[test]
fn a_readable_node_that_is_lost_is_waited_for_and_not_outdated() {
    for step in [
        "AskStartReign",
        "AskLockedTransactions",
        "AskFinalTid",
        "AskValidateTransaction",
        "AskLastIds",
    ] {
        let mut world = crashed(2, 1, 1);
        for n in 1..=2 {
            let storage = world.storages.get_mut(&n).unwrap();
            storage.unfinished.insert(txn(10), Some(Tid(50)));
            if n == 1 {
                storage.unfinished.insert(txn(11), None);
            }
        }
        world.storages.get_mut(&2).unwrap().holds.insert(step);
        join_all(&mut world);
        assert_eq!(world.state(), ClusterState::Verifying, "{step}");
        let rows = world.rows();
        world.lose(2);
        assert_eq!(world.state(), ClusterState::Recovering, "{step}");
        assert_eq!(world.rows(), rows);
        assert_eq!(world.storages[&1].conn, None, "it comes again");
        world.join(1);
        assert!(world.status.waiting.contains("waiting for S2"));
        world.storages.get_mut(&2).unwrap().restarted();
        world.join(2);
        assert_eq!(world.state(), ClusterState::Running, "{step}");
        for storage in world.storages.values() {
            assert_eq!(storage.committed, [(txn(10), Tid(50))].into());
        }
    }
}

#[test]
fn a_node_without_readable_cells_is_not_waited_for() {
    let mut world = World::running(2, 1, 1);
    world.lose(2);
    world.restart_master();
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .holds
        .insert("AskStartReign");
    world.join(2);
    world.join(1);
    assert_eq!(world.state(), ClusterState::Verifying);
    assert!(world.storages[&2].log.contains(&"SendPartitionTable"));
    world.lose(2);
    assert_eq!(world.state(), ClusterState::Running);
    assert!(!world.storages[&2].log.contains(&"AskLockedTransactions"));
}

#[test]
fn a_node_that_can_not_or_says_nonsense_is_refused() {
    let bad_page = Packet::AnswerLockedTransactions {
        transactions: vec![(txn(2), None), (txn(1), None)],
        more: false,
    };
    let endless = Packet::AnswerLockedTransactions {
        transactions: Vec::new(),
        more: true,
    };
    let absurd = Packet::AnswerLockedTransactions {
        transactions: vec![(txn(2), Some(Tid(u64::MAX)))],
        more: false,
    };
    let failed = Packet::Error {
        code: neo_proto::ErrorCode::Internal,
        message: "the disk is gone".to_owned(),
    };
    let other = Packet::AnswerFinalTid {
        tid: FinalTid::AskStorages,
    };
    for (answer, told) in [
        (bad_page, "not in order"),
        (endless, "promises more"),
        (absurd, "can't be"),
        (failed, "the disk is gone"),
        (other, "is no answer"),
    ] {
        let mut world = crashed(1, 0, 1);
        world
            .storages
            .get_mut(&1)
            .unwrap()
            .holds
            .insert("AskLockedTransactions");
        world.join(1);
        let conn = world.storages[&1].conn.unwrap();
        let asked = world.inbox[&conn].iter().map(|m| m.id).next().unwrap();
        world.send(conn, asked, answer);
        assert!(
            world.closed[&conn].contains(told),
            "{told}: {:?}",
            world.closed
        );
        assert_eq!(world.state(), ClusterState::Recovering);
    }
}

#[test]
fn an_answer_that_was_not_asked_for_is_nonsense() {
    let mut world = crashed(2, 1, 1);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskLastIds");
    join_all(&mut world);
    let (one, two) = (
        world.storages[&1].conn.unwrap(),
        world.storages[&2].conn.unwrap(),
    );
    let asked = world.inbox[&one].iter().map(|m| m.id).next().unwrap();
    // The question was the other one's.
    let answer = Packet::AnswerReignStarted { reign: Reign(2) };
    world.send(two, asked, answer);
    assert!(world.closed[&two].contains("not asked"));
}

#[test]
fn an_import_counts_up_to_the_greatest_mark() {
    let mut world = crashed(2, 1, 1);
    for (n, mark, rest) in [(1, 70, vec![70, 75, 80]), (2, 75, vec![70, 75, 85])] {
        let storage = world.storages.get_mut(&n).unwrap();
        storage.recovery.import_tid = Some(Tid(mark));
        storage.committed = rest.into_iter().map(|t| (txn(t), Tid(t))).collect();
    }
    join_all(&mut world);
    for storage in world.storages.values() {
        assert_eq!(
            storage.committed.keys().copied().collect::<Vec<_>>(),
            [txn(70), txn(75)]
        );
        assert_eq!(storage.recovery.import_tid, None);
    }
    let client = world.client();
    assert_eq!(world.last_tid(client), Tid(75));
}

#[test]
fn a_mark_of_a_node_that_is_out_of_date_is_its_own() {
    let mut world = World::running(2, 1, 1);
    world.lose(2);
    world.restart_master();
    for (n, mark) in [(1, 75), (2, 70)] {
        let storage = world.storages.get_mut(&n).unwrap();
        storage.recovery.import_tid = Some(Tid(mark));
        storage.committed = [70, 75, 80].into_iter().map(|t| (txn(t), Tid(t))).collect();
    }
    world.join(2);
    world.join(1);
    let left = |n: u32| {
        world.storages[&n]
            .committed
            .values()
            .map(|t| t.0)
            .collect::<Vec<_>>()
    };
    assert_eq!((left(1), left(2)), (vec![70, 75], vec![70]));
}

#[test]
fn oids_go_on_above_every_mark_and_every_object() {
    let mut world = crashed(2, 1, 1);
    world.storages.get_mut(&1).unwrap().recovery.oid_mark = Oid(500);
    world.storages.get_mut(&2).unwrap().last_oid = Some(Oid(700));
    join_all(&mut world);
    let client = world.client();
    let answer = world.ask(client, Packet::AskNewOids { count: 1 });
    let first = Oid(701);
    assert_eq!(answer, Some(Packet::AnswerNewOids { first, count: 1 }));
    world.restart_master();
    join_all(&mut world);
    let client = world.client();
    let answer = world.ask(client, Packet::AskNewOids { count: 1 });
    let Some(Packet::AnswerNewOids { first, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert!(first > Oid(701));
}

#[test]
fn heartbeats_and_late_notifications_do_no_harm() {
    let mut world = crashed(1, 0, 1);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskLastIds");
    world.join(1);
    let conn = world.storages[&1].conn.unwrap();
    for packet in [
        Packet::NotifyReady { operation: 1 },
        Packet::Heartbeat {},
        Packet::Credit { bytes: 5 },
    ] {
        world.send(conn, MsgId(0), packet);
    }
    assert_eq!(world.state(), ClusterState::Verifying);
    world.release(1, "AskLastIds");
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn a_cell_that_lacks_a_committed_transaction_is_out_of_date_before_the_cluster_runs() {
    let mut world = crashed(2, 1, 2);
    for (n, tids) in [(1, vec![10, 11]), (2, vec![10, 11, 13])] {
        let storage = world.storages.get_mut(&n).unwrap();
        storage.committed = tids.into_iter().map(|t| (txn(t), Tid(t))).collect();
    }
    let changes = "NotifyPartitionChanges";
    world.storages.get_mut(&1).unwrap().holds.insert(changes);
    let before = world.storages[&1].recovery.version.unwrap();
    join_all(&mut world);
    assert_eq!(world.rows(), ["1U2U", "1O2U"]);
    let reign = Reign(before.reign.0 + 1);
    let ptid = before.ptid.next();
    assert_eq!(world.table().version, TableVersion { reign, ptid });
    // It is assigned anew: nothing that its node noted of it is believed.
    assert_eq!(world.table().rows[1][0].assigned, world.table().version);
    assert_eq!(world.table().rows[0][0].assigned, before);
    // The node that stays readable has it on disk, the other one not yet.
    assert_eq!(world.state(), ClusterState::Verifying);
    assert!(!world.storages[&2].operating);
    world.release(1, changes);
    assert_eq!(world.state(), ClusterState::Running);
    let client = world.client();
    assert_eq!(world.last_tid(client), Tid(13));
}

#[test]
fn an_older_copy_that_is_lost_once_it_is_out_of_date_is_not_waited_for() {
    let mut world = crashed(2, 1, 1);
    let tids = [(1, vec![10]), (2, vec![10, 11])];
    for (n, tids) in tids {
        let storage = world.storages.get_mut(&n).unwrap();
        storage.committed = tids.into_iter().map(|t| (txn(t), Tid(t))).collect();
    }
    let changes = "NotifyPartitionChanges";
    world.storages.get_mut(&1).unwrap().holds.insert(changes);
    join_all(&mut world);
    assert_eq!(world.state(), ClusterState::Verifying);
    world.lose(1);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1O2U"]);
}

#[test]
fn the_readable_node_is_waited_for_while_another_one_is_outdated() {
    let mut world = crashed(2, 1, 1);
    for (n, tids) in [(1, vec![10]), (2, vec![10, 11])] {
        let storage = world.storages.get_mut(&n).unwrap();
        storage.committed = tids.into_iter().map(|t| (txn(t), Tid(t))).collect();
    }
    let changes = "NotifyPartitionChanges";
    world.storages.get_mut(&2).unwrap().holds.insert(changes);
    join_all(&mut world);
    assert_eq!(world.state(), ClusterState::Verifying);
    world.lose(2);
    assert_eq!(world.state(), ClusterState::Recovering);
    // This primary knows; the other copy alone is not enough.
    world.join(1);
    assert_eq!(world.rows(), ["1O2U"]);
    assert_eq!(world.state(), ClusterState::Recovering);
    world.storages.get_mut(&2).unwrap().restarted();
    world.join(2);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1O2U"]);
}
