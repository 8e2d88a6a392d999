//! Begin, finish, lock, commit, abort, and the final tid.

use std::time::Duration;

use neo_api::{ClusterState, NodeType, Oid, Partition, Tid, TxnId};
use neo_proto::{ConnId, Core, Effect, ErrorCode, FinalTid, Input, Message, Oids, Packet};

use super::harness::*;
use crate::MasterSettings;

#[test]
fn a_transaction_is_committed_everywhere_and_told_to_the_others() {
    let mut world = World::running(2, 1, 4);
    let (a, b) = (world.client(), world.client());
    world.received(b);
    let txn = world.begin(a);
    world.vote(txn, &[1, 2]);
    world.received(a);
    let id = world.finish(a, txn, &[]);
    let Some(Packet::AnswerTransactionFinished { tid, .. }) = world.answer(a, id) else {
        panic!("it is committed")
    };
    assert_eq!(tid.0 % 4, txn.ttid.0 % 4);
    assert_eq!(world.received(a), [], "the answer is its invalidation");
    let oids = Vec::<Oid>::new().into();
    assert_eq!(world.received(b), [Packet::InvalidateObjects { tid, oids }]);
    for n in 1..=2 {
        assert_eq!(world.storages[&n].committed[&txn], tid);
    }
    assert_eq!(world.last_tid(b), tid);
}

#[test]
fn the_remainder_holds_for_any_number_of_partitions() {
    for np in [1, 2, 7, 13, 100] {
        let mut world = World::running(1, 0, np);
        let client = world.client();
        let mut last = Tid::ZERO;
        for _ in 0..5 {
            let txn = world.begin(client);
            world.vote(txn, &[1]);
            let id = world.finish(client, txn, &[]);
            let Some(Packet::AnswerTransactionFinished { tid, .. }) = world.answer(client, id)
            else {
                panic!("it is committed")
            };
            assert_eq!(tid.0 % u64::from(np), txn.ttid.0 % u64::from(np));
            assert!(tid > last && tid >= txn.ttid);
            last = tid;
        }
    }
}

#[test]
fn final_tid_of_what_never_was() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    let mut txn = world.begin(client);
    txn.ttid = Tid(txn.ttid.0 + 1);
    let answer = world.ask(client, Packet::AskFinalTid { txn });
    let tid = FinalTid::NotCommitted;
    assert_eq!(answer, Some(Packet::AnswerFinalTid { tid }));
}

fn finished(answer: Option<Packet>) -> Tid {
    match answer {
        Some(Packet::AnswerTransactionFinished { tid, .. }) => tid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn transactions_begin_when_every_storage_node_is_ready() {
    let mut world = World::new(MasterSettings {
        autostart: Some(2),
        replicas: 1,
        ..MasterSettings::new("c")
    });
    for n in 1..=2 {
        world.storages.insert(n, Storage::new(n));
        world
            .storages
            .get_mut(&n)
            .unwrap()
            .holds
            .insert("StartOperation");
        world.join(n);
    }
    assert_eq!(
        (world.state(), world.status.serving),
        (ClusterState::Running, false)
    );
    let client = world.client();
    let gone = world.client();
    let id = world.request(client, Packet::AskBeginTransaction { tid: None });
    world.request(gone, Packet::AskBeginTransaction { tid: None });
    world.release(1, "StartOperation");
    assert_eq!(world.answer(client, id), None);
    world.hang_up(gone);
    world.release(2, "StartOperation");
    let answer = world.answer(client, id);
    assert!(
        matches!(answer, Some(Packet::AnswerBeginTransaction { .. })),
        "{answer:?}"
    );
    assert!(world.status.serving);
}

#[test]
fn a_storage_node_that_is_lost_while_starting_is_not_waited_for() {
    let mut world = World::running(2, 1, 1);
    world.restart_master();
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .holds
        .insert("StartOperation");
    world.join(1);
    world.join(2);
    let client = world.client();
    let id = world.request(client, Packet::AskBeginTransaction { tid: None });
    assert_eq!(world.answer(client, id), None);
    world.lose(2);
    assert!(world.answer(client, id).is_some());
    assert_eq!(world.rows(), ["1U2O"]);
}

#[test]
fn a_late_lock_holds_back_later_tids() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let other = world.client();
    let (a, b) = (world.begin(client), world.begin(client));
    world.vote(a, &[1, 2]);
    world.vote(b, &[1, 2]);
    world.received(other);
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .holds
        .insert("AskLockInformation");
    let (id_b, id_a) = (world.finish(client, b, &[]), world.finish(client, a, &[]));
    // The second one is locked everywhere first.
    let conn = world.storages[&2].conn.unwrap();
    let inbox = world.inbox.get_mut(&conn).unwrap();
    inbox.rotate_left(1);
    world.release(2, "AskLockInformation");
    assert_eq!(world.answer(client, id_a), None);
    assert_eq!(world.answer(client, id_b), None);
    world.release(2, "AskLockInformation");
    let (tid_b, tid_a) = (
        finished(world.answer(client, id_b)),
        finished(world.answer(client, id_a)),
    );
    assert!(tid_b < tid_a, "in the order in which they finished");
    let told: Vec<Tid> = world
        .received(other)
        .into_iter()
        .map(|packet| match packet {
            Packet::InvalidateObjects { tid, .. } => tid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [tid_b, tid_a]);
}

#[test]
fn what_is_sent_when_a_transaction_commits_and_in_which_order() {
    let mut world = World::running(1, 0, 1);
    let (a, b) = (world.client(), world.client());
    let txn = world.begin(a);
    world.vote(txn, &[1]);
    let storage = world.storages[&1].conn.unwrap();
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskLockInformation");
    world.finish(a, txn, &[]);
    let lock = world.inbox.get_mut(&storage).unwrap().pop_front().unwrap();
    let Packet::AskLockInformation { tid, .. } = lock.packet else {
        panic!("{lock:?}")
    };
    let mut out = neo_proto::Effects::new();
    let message = Message::new(lock.id, Packet::AnswerInformationLocked { txn });
    let conn = storage;
    world
        .core
        .handle(world.now, Input::Message { conn, message }, &mut out);
    let sent: Vec<(ConnId, Packet)> = out
        .take()
        .into_iter()
        .map(|effect| match effect {
            Effect::Send { conn, message } => (conn, message.packet),
            other => panic!("{other:?}"),
        })
        .collect();
    let oids = Oids::default();
    assert_eq!(
        sent,
        [
            (a, Packet::AnswerTransactionFinished { txn, tid }),
            (b, Packet::InvalidateObjects { tid, oids }),
            (storage, Packet::NotifyUnlockInformation { txn }),
        ]
    );
}

#[test]
fn only_involved_nodes_are_locked() {
    // Partition n is on node n + 1.
    let mut world = World::running(3, 0, 3);
    let client = world.client();
    // So that no oid of the test is foreign.
    world.ask(client, Packet::AskNewOids { count: 100 });
    let txn = world.begin(client);
    let of_ttid = (txn.ttid.0 % 3) as u32 + 1;
    let other = of_ttid % 3 + 1;
    let neither = other % 3 + 1;
    world.vote(txn, &[of_ttid, other]);
    let id = world.finish(client, txn, &[u64::from(other) + 2]);
    finished(world.answer(client, id));
    let locked = |n: u32| world.storages[&n].log.contains(&"AskLockInformation");
    assert!(locked(of_ttid) && locked(other) && !locked(neither));
}

#[test]
fn large_transactions_invalidate_everything() {
    let mut world = World::new(MasterSettings {
        autostart: Some(1),
        invalidation_oids_max: 2,
        ..MasterSettings::new("c")
    });
    world.storages.insert(1, Storage::new(1));
    world.join(1);
    let (a, b) = (world.client(), world.client());
    let small = world.commit(a, &[1, 2]);
    let large = world.commit(a, &[1, 2, 3]);
    let all = world.received(b);
    let oids = vec![Oid(1), Oid(2)].into();
    assert!(all.contains(&Packet::InvalidateObjects { tid: small, oids }));
    assert!(all.contains(&Packet::InvalidateAll { tid: large }));
}

#[test]
fn a_client_that_is_gone_at_each_phase() {
    for phase in ["begun", "voted", "parked", "finishing"] {
        let mut world = World::running(2, 1, 1);
        let (client, other) = (world.client(), world.client());
        let txn = world.begin(client);
        if phase != "begun" {
            world.vote(txn, &[1, 2]);
        }
        for storage in world.storages.values_mut() {
            storage.holds.insert("AskStoreOidMark");
            storage.holds.insert("AskLockInformation");
            storage.log.clear();
        }
        match phase {
            "parked" => {
                world.finish(client, txn, &[7]);
            }
            "finishing" => {
                world.finish(client, txn, &[]);
            }
            _ => {}
        }
        world.hang_up(client);
        for storage in world.storages.values_mut() {
            let log = &storage.log;
            let told = log.iter().position(|n| *n == "NotifyNodeInformation");
            let abort = log.iter().position(|n| *n == "AbortTransaction");
            assert!(told.is_some(), "{phase}");
            assert_eq!(abort.is_some(), phase != "finishing", "{phase}");
            assert!(abort.is_none_or(|abort| Some(abort) > told), "{phase}");
            storage.holds.clear();
        }
        world.settle();
        let answer = world.ask(other, Packet::AskFinalTid { txn });
        let Some(Packet::AnswerFinalTid { tid }) = answer else {
            panic!("{answer:?}")
        };
        if phase == "finishing" {
            assert_eq!(
                tid,
                FinalTid::AskStorages,
                "it is committed without its client"
            );
            assert!(
                world
                    .storages
                    .values()
                    .all(|s| s.committed.contains_key(&txn))
            );
        } else {
            assert!(
                world
                    .storages
                    .values()
                    .all(|s| !s.committed.contains_key(&txn)),
                "{phase}"
            );
        }
        assert!(
            world.storages.values().all(|s| s.unfinished.is_empty()),
            "{phase}"
        );
    }
}

#[test]
fn the_final_tid_at_each_phase() {
    let mut world = World::running(1, 0, 1);
    let (client, other) = (world.client(), world.client());
    let ask = |world: &mut World, txn| match world.ask(other, Packet::AskFinalTid { txn }) {
        Some(Packet::AnswerFinalTid { tid }) => tid,
        other => panic!("{other:?}"),
    };
    // Begun: the asking is a fence.
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    assert_eq!(ask(&mut world, txn), FinalTid::NotCommitted);
    assert!(world.storages[&1].unfinished.is_empty());
    let id = world.finish(client, txn, &[]);
    assert!(words(world.answer(client, id)).contains("unknown transaction"));
    assert_eq!(ask(&mut world, txn), FinalTid::AskStorages);
    // Parked until oids are reserved: it has no tid yet.
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskStoreOidMark");
    let id = world.finish(client, txn, &[1_000_000]);
    assert_eq!(ask(&mut world, txn), FinalTid::NotCommitted);
    assert!(words(world.answer(client, id)).contains("was aborted"));
    world.release(1, "AskStoreOidMark");
    assert_eq!(world.last_tid(client), Tid::ZERO);
    // Finishing: the answer waits.
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskLockInformation");
    let finish = world.finish(client, txn, &[]);
    let asked = world.request(other, Packet::AskFinalTid { txn });
    assert_eq!(world.answer(other, asked), None);
    world.release(1, "AskLockInformation");
    let tid = finished(world.answer(client, finish));
    let committed = FinalTid::Committed(tid);
    let answer = world.answer(other, asked);
    assert_eq!(answer, Some(Packet::AnswerFinalTid { tid: committed }));
    // Committed, and of an earlier reign: storage nodes know.
    assert_eq!(ask(&mut world, txn), FinalTid::AskStorages);
    let mut earlier = txn;
    earlier.reign = neo_api::Reign(0);
    earlier.ttid = Tid::MAX;
    assert_eq!(ask(&mut world, earlier), FinalTid::AskStorages);
}

#[test]
fn a_client_aborts_on_the_nodes_that_it_contacted() {
    let mut world = World::running(2, 1, 1);
    let (client, other) = (world.client(), world.client());
    let txn = world.begin(client);
    world.vote(txn, &[2]);
    let nodes = vec![nid("S2")];
    world.notify(
        other,
        Packet::AbortTransaction {
            txn,
            nodes: nodes.clone(),
        },
    );
    assert_eq!(
        world.storages[&2].unfinished.len(),
        1,
        "it is not the other one's"
    );
    world.notify(client, Packet::AbortTransaction { txn, nodes });
    assert!(!world.storages[&1].log.contains(&"AbortTransaction"));
    assert_eq!(world.storages[&2].unfinished.len(), 0);
    world.vote(txn, &[2]);
    let id = world.finish(client, txn, &[]);
    assert!(words(world.answer(client, id)).contains("not pending"));
}

#[test]
fn an_abort_after_finish_is_ignored() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskLockInformation");
    let id = world.finish(client, txn, &[]);
    world.notify(
        client,
        Packet::AbortTransaction {
            txn,
            nodes: vec![nid("S1")],
        },
    );
    world.release(1, "AskLockInformation");
    finished(world.answer(client, id));
}

#[test]
fn oids_are_reserved_durably_before_they_are_handed_out() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    for storage in world.storages.values_mut() {
        storage.holds.insert("AskStoreOidMark");
    }
    let ids: Vec<_> = (0..3)
        .map(|_| world.request(client, Packet::AskNewOids { count: 100 }))
        .collect();
    assert_eq!(
        world.held(1, "AskStoreOidMark"),
        1,
        "one reservation for all"
    );
    world.release(1, "AskStoreOidMark");
    assert_eq!(world.answer(client, ids[0]), None);
    world.release(2, "AskStoreOidMark");
    for (n, id) in ids.into_iter().enumerate() {
        let first = Oid(1 + 100 * n as u64);
        let answer = world.answer(client, id);
        assert_eq!(answer, Some(Packet::AnswerNewOids { first, count: 100 }));
    }
    assert!(
        world
            .storages
            .values()
            .all(|s| s.recovery.oid_mark > Oid(300))
    );
    // The next ones come from the block.
    assert!(world.ask(client, Packet::AskNewOids { count: 1 }).is_some());
    // A new primary goes on above it.
    world.restart_master();
    for n in 1..=2 {
        world.storages.get_mut(&n).unwrap().holds.clear();
        world.join(n);
    }
    let client = world.client();
    let answer = world.ask(client, Packet::AskNewOids { count: 1 });
    let mark = 1 + 100 + 100_000;
    assert_eq!(
        answer,
        Some(Packet::AnswerNewOids {
            first: Oid(mark),
            count: 1
        })
    );
}

#[test]
fn a_reservation_does_not_wait_for_a_node_that_is_lost() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .holds
        .insert("AskStoreOidMark");
    let id = world.request(client, Packet::AskNewOids { count: 1 });
    world.lose(2);
    assert!(matches!(
        world.answer(client, id),
        Some(Packet::AnswerNewOids { .. })
    ));
}

#[test]
fn a_full_disk_refuses_oids_and_nothing_else() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskStoreOidMark");
    let oids = world.request(client, Packet::AskNewOids { count: 1 });
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    let finish = world.finish(client, txn, &[7]);
    let conn = world.storages[&1].conn.unwrap();
    let asked = world.inbox[&conn].front().unwrap().id;
    world.inbox.remove(&conn);
    let code = ErrorCode::NoSpace;
    let message = "no space left".to_owned();
    world.send(conn, asked, Packet::Error { code, message });
    world.settle();
    for id in [oids, finish] {
        assert!(words(world.answer(client, id)).contains("S1 can't note"));
    }
    assert_eq!(world.state(), ClusterState::Running);
    world.storages.get_mut(&1).unwrap().holds.clear();
    world.commit(client, &[7]);
}

#[test]
fn foreign_oids_are_covered_before_the_lock() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    let storage = world.storages.get_mut(&1).unwrap();
    storage.holds.insert("AskStoreOidMark");
    let id = world.finish(client, txn, &[5000]);
    assert!(!world.storages[&1].log.contains(&"AskLockInformation"));
    world.release(1, "AskStoreOidMark");
    finished(world.answer(client, id));
    let answer = world.ask(client, Packet::AskNewOids { count: 1 });
    let first = Oid(5001);
    assert_eq!(answer, Some(Packet::AnswerNewOids { first, count: 1 }));
    // Out of the range that is handed out: nothing to cover.
    world.commit(client, &[u64::MAX]);
}

#[test]
fn imposed_tids() {
    let mut world = World::running(1, 0, 7);
    let client = world.client();
    let last = world.commit(client, &[]);
    let impose = |tid: u64| Packet::AskBeginTransaction {
        tid: Some(Tid(tid)),
    };
    for (tid, told) in [
        (last.0, "not above"),
        (last.0 - 1, "not above"),
        (0, "not above"),
        (Tid::MAX.0, "too far in the future"),
        (u64::MAX, "is no tid"),
    ] {
        let told_really = words(world.ask(client, impose(tid)));
        assert!(told_really.contains(told), "{told_really}");
    }
    // Nothing else may be pending, before or after.
    let pending = world.begin(client);
    let answer = words(world.ask(client, impose(last.0 + 5)));
    assert!(answer.contains("no other transaction"), "{answer}");
    world.notify(
        client,
        Packet::AbortTransaction {
            txn: pending,
            nodes: Vec::new(),
        },
    );
    let Some(Packet::AnswerBeginTransaction { txn }) = world.ask(client, impose(last.0 + 5)) else {
        panic!("it begins")
    };
    assert_eq!(txn.ttid.0 % 7, (last.0 + 5) % 7);
    assert!(txn.ttid > pending.ttid, "a name is given once");
    let answer = words(world.ask(client, Packet::AskBeginTransaction { tid: None }));
    assert!(answer.contains("must be alone"), "{answer}");
    let answer = words(world.ask(client, Packet::AskBeginImport {}));
    assert!(answer.contains("must be alone"), "{answer}");
    world.vote(txn, &[1]);
    let id = world.finish(client, txn, &[]);
    assert_eq!(finished(world.answer(client, id)), Tid(last.0 + 5));
    assert!(world.commit(client, &[]) > Tid(last.0 + 5));
}

#[test]
fn tids_increase_when_the_clock_steps_back_and_across_a_new_primary() {
    let mut world = World::running(1, 0, 3);
    let client = world.client();
    let before = world.commit(client, &[]);
    world.now.wall.0 -= 7_200_000_000;
    let after = world.commit(client, &[]);
    assert!(after > before);
    world.restart_master();
    world.join(1);
    let client = world.client();
    let later = world.commit(client, &[]);
    assert!(later > after);
}

#[test]
fn an_old_transaction_is_aborted() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    world.sleep(Duration::from_secs(3599));
    let young = world.begin(client);
    world.vote(young, &[1]);
    assert_eq!(world.storages[&1].unfinished.len(), 2);
    world.sleep(Duration::from_secs(1));
    assert_eq!(world.storages[&1].unfinished.len(), 1);
    let id = world.finish(client, txn, &[]);
    assert!(words(world.answer(client, id)).contains("aborted, or expired"));
    let id = world.finish(client, young, &[]);
    finished(world.answer(client, id));
}

#[test]
fn there_are_bounds() {
    let mut world = World::new(MasterSettings {
        autostart: Some(1),
        transactions_max: 3,
        transactions_per_client_max: 2,
        new_oids_max: 10,
        finishing_oids_max: 3,
        partitions: 1,
        ..MasterSettings::new("c")
    });
    world.storages.insert(1, Storage::new(1));
    world.join(1);
    let (a, b) = (world.client(), world.client());
    let begin = || Packet::AskBeginTransaction { tid: None };
    let (one, _) = (world.begin(a), world.begin(a));
    let told = words(world.ask(a, begin()));
    assert!(
        told.contains("too large") && told.contains("transactions_per_client_max"),
        "{told}"
    );
    world.begin(b);
    let told = words(world.ask(b, begin()));
    assert!(
        told.contains("not ready") && told.contains("transactions_max"),
        "{told}"
    );
    for count in [0, 11] {
        let told = words(world.ask(a, Packet::AskNewOids { count }));
        assert!(told.contains("new_oids_max"), "{told}");
    }
    world.vote(one, &[1]);
    let id = world.finish(a, one, &[1, 2, 3, 4]);
    assert!(words(world.answer(a, id)).contains("finishing_oids_max"));
    assert!(world.storages[&1].unfinished.is_empty(), "it is aborted");
    assert!(!world.closed.contains_key(&a));
}

#[test]
fn a_client_that_breaks_the_protocol_is_disconnected_and_its_transactions_end() {
    type Spoil = fn(TxnId) -> Packet;
    let cases: [Spoil; 5] = [
        |txn| Packet::AskFinishTransaction {
            txn,
            oids: vec![Oid(1)].into(),
            partitions: vec![Partition(3)],
        },
        |txn| Packet::AskFinishTransaction {
            txn,
            oids: vec![Oid(1)].into(),
            partitions: Vec::new(),
        },
        |txn| Packet::AskLockInformation { txn, tid: Tid(1) },
        |_| Packet::AnswerDone {
            message: String::new(),
        },
        |_| Packet::SetClusterState {
            state: ClusterState::Stopping,
        },
    ];
    for spoil in cases {
        let mut world = World::running(3, 0, 3);
        let client = world.client();
        let txn = loop {
            let txn = world.begin(client);
            if txn.ttid.0 % 3 != 1 {
                break txn;
            }
        };
        world.vote(txn, &[1, 2, 3]);
        world.request(client, spoil(txn));
        assert!(world.closed.contains_key(&client));
        assert!(world.storages.values().all(|s| s.unfinished.is_empty()));
        assert_eq!(world.state(), ClusterState::Running);
    }
}

#[test]
fn a_read_only_client_writes_nothing() {
    let mut world = World::running(1, 0, 1);
    let mut identification = World::identification(NodeType::Client);
    identification.read_only = true;
    let (client, _) = world.identify(identification);
    for packet in [
        Packet::AskBeginTransaction { tid: None },
        Packet::AskNewOids { count: 1 },
        Packet::AskBeginImport {},
    ] {
        assert!(words(world.ask(client, packet)).contains("read-only"));
    }
    assert_eq!(world.last_tid(client), Tid::ZERO);
}
