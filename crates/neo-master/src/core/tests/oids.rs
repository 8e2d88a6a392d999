//! Oids: reserved durably before anybody gets or commits them.

use neo_api::{ClusterState, Oid};
use neo_proto::{ErrorCode, Packet};

use super::harness::*;

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
