//! Begin, finish, lock and commit, in order of tid.

use neo_api::{ClusterState, Oid, Tid};
use neo_proto::{ConnId, Core, Effect, Input, Message, Oids, Packet};

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
