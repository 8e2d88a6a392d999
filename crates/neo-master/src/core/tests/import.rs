//! The life of an import.

use neo_api::{ClusterState, Oid, Tid, UnixMicros};
use neo_proto::{ConnId, Packet};

use super::harness::*;

fn begin(world: &mut World, client: ConnId) -> (u64, Tid) {
    match world.ask(client, Packet::AskBeginImport {}) {
        Some(Packet::AnswerBeginImport { import, last_tid }) => (import, last_tid),
        other => panic!("{other:?}"),
    }
}

fn checkpoint(import: u64, tid: Tid) -> Packet {
    let last_oid = Oid(10);
    Packet::AskCheckpointImport {
        import,
        tid,
        last_oid,
    }
}

fn marks(world: &World) -> Vec<Option<Tid>> {
    world
        .storages
        .values()
        .map(|s| s.recovery.import_tid)
        .collect()
}

#[test]
fn an_import_from_begin_to_end() {
    let mut world = World::running(2, 1, 2);
    let (client, other) = (world.client(), world.client());
    let (import, last_tid) = begin(&mut world, client);
    assert_eq!(marks(&world), [Some(last_tid); 2]);
    let refused = words(world.ask(other, Packet::AskBeginTransaction { tid: None }));
    assert!(refused.contains("an import is running"), "{refused}");
    let refused = words(world.ask(other, Packet::AskBeginImport {}));
    assert!(refused.contains("another import"), "{refused}");
    // Oids go on being given: the import has its own.
    assert!(world.ask(other, Packet::AskNewOids { count: 1 }).is_some());
    world.received(other);
    let tid = Tid(last_tid.0 + 100);
    let answer = world.ask(client, checkpoint(import, tid));
    assert_eq!(answer, Some(Packet::AnswerImportCheckpointed { tid }));
    assert_eq!(marks(&world), [Some(tid); 2]);
    assert_eq!(world.received(other), [Packet::InvalidateAll { tid }]);
    assert_eq!(world.last_tid(other), tid);
    // Again is nothing.
    let answer = world.ask(client, checkpoint(import, tid));
    assert_eq!(answer, Some(Packet::AnswerImportCheckpointed { tid }));
    let answer = world.ask(client, Packet::AskEndImport { import });
    assert_eq!(answer, Some(Packet::AnswerImportEnded { tid }));
    assert_eq!(marks(&world), [None; 2]);
    assert!(world.commit(other, &[]) > tid);
    let told = words(world.ask(client, checkpoint(import, Tid(tid.0 + 1))));
    assert!(told.contains("is not running"), "{told}");
}

#[test]
fn the_steps_of_a_checkpoint_wait_for_every_node() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let (import, last_tid) = begin(&mut world, client);
    let tid = Tid(last_tid.0 + 5);
    let holds = ["AskSyncImport", "AskStoreOidMark", "AskImportMark"];
    world.storages.get_mut(&2).unwrap().holds.extend(holds);
    let last_oid = Oid(1 << 40);
    let packet = Packet::AskCheckpointImport {
        import,
        tid,
        last_oid,
    };
    let id = world.request(client, packet);
    let told = words(world.ask(client, checkpoint(import, Tid(tid.0 + 1))));
    assert!(told.contains("has not answered the last request"), "{told}");
    world.release(2, "AskSyncImport");
    assert_eq!(world.held(2, "AskImportMark"), 0, "oids first");
    world.release(2, "AskStoreOidMark");
    assert_eq!(marks(&world), [Some(tid), Some(last_tid)]);
    assert_eq!(world.answer(client, id), None);
    world.release(2, "AskImportMark");
    assert_eq!(
        world.answer(client, id),
        Some(Packet::AnswerImportCheckpointed { tid })
    );
    assert!(
        world
            .storages
            .values()
            .all(|s| s.recovery.oid_mark > last_oid)
    );
}

#[test]
fn absurd_checkpoints_are_refused() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    world.commit(client, &[]);
    let (import, last_tid) = begin(&mut world, client);
    let future = Tid::from_unix(UnixMicros(T0 + 10 * 86_400_000_000));
    for tid in [Tid(last_tid.0 - 1), future, Tid::MAX, Tid(u64::MAX)] {
        let told = words(world.ask(client, checkpoint(import, tid)));
        assert!(told.starts_with("denied"), "{told}");
    }
    let told = words(world.ask(client, checkpoint(import + 1, Tid(last_tid.0 + 1))));
    assert!(told.contains("is not running"), "{told}");
    let other = world.client();
    let told = words(world.ask(other, checkpoint(import, Tid(last_tid.0 + 1))));
    assert!(told.contains("is not running"), "{told}");
}

#[test]
fn an_import_must_be_alone() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    let txn = world.begin(client);
    let told = words(world.ask(client, Packet::AskBeginImport {}));
    assert!(told.contains("transactions are pending"), "{told}");
    world.notify(
        client,
        Packet::AbortTransaction {
            txn,
            nodes: Vec::new(),
        },
    );
    begin(&mut world, client);
}

#[test]
fn an_import_whose_client_is_gone_ends_at_its_checkpoint() {
    // Left at each of these, it ends so.
    for (held, step) in [
        ("AskImportMark", "begin"),
        ("", "open"),
        ("AskSyncImport", "checkpoint"),
        ("AskImportMark", "checkpoint"),
        ("AskTruncate", "end"),
        ("AskImportMark", "end"),
    ] {
        let mut world = World::running(2, 1, 1);
        let (client, other) = (world.client(), world.client());
        let before = world.last_tid(other);
        let tid = Tid(before.0 + 5);
        let mut import = 0;
        if step == "begin" {
            world.storages.get_mut(&2).unwrap().holds.insert(held);
            world.request(client, Packet::AskBeginImport {});
        } else {
            import = begin(&mut world, client).0;
        }
        if !held.is_empty() {
            world.storages.get_mut(&2).unwrap().holds.insert(held);
        }
        for storage in world.storages.values_mut() {
            let txn = neo_api::TxnId {
                reign: neo_api::Reign(1),
                ttid: Tid(77),
            };
            storage.committed.insert(txn, Tid(before.0 + 9));
        }
        match step {
            "checkpoint" => {
                world.request(client, checkpoint(import, tid));
            }
            "end" => {
                world.request(client, Packet::AskEndImport { import });
            }
            _ => {}
        }
        world.hang_up(client);
        world.storages.get_mut(&2).unwrap().holds.clear();
        world.settle();
        assert_eq!(marks(&world), [None; 2], "{held} {step}");
        assert!(
            world.storages.values().all(|s| s.committed.is_empty()),
            "{held} {step}"
        );
        // A mark that is raised somewhere is raised everywhere.
        let raised = (held, step) == ("AskImportMark", "checkpoint");
        let expected = if raised { tid } else { before };
        assert_eq!(world.last_tid(other), expected, "{held} {step}");
        begin(&mut world, other);
    }
}

#[test]
fn an_import_goes_on_without_a_node_that_is_lost() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let (import, last_tid) = begin(&mut world, client);
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .holds
        .insert("AskSyncImport");
    let tid = Tid(last_tid.0 + 5);
    let id = world.request(client, checkpoint(import, tid));
    world.lose(2);
    assert_eq!(
        world.answer(client, id),
        Some(Packet::AnswerImportCheckpointed { tid })
    );
    assert_eq!(world.rows(), ["1U2O"]);
}

#[test]
fn a_crash_in_an_import_is_mended_by_the_next_primary() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let (import, last_tid) = begin(&mut world, client);
    let tid = Tid(last_tid.0 + 5);
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .holds
        .insert("AskImportMark");
    world.request(client, checkpoint(import, tid));
    assert_eq!(marks(&world), [Some(tid), Some(last_tid)]);
    for storage in world.storages.values_mut() {
        for n in [5, 9] {
            let txn = neo_api::TxnId {
                reign: neo_api::Reign(1),
                ttid: Tid(n),
            };
            storage.committed.insert(txn, Tid(last_tid.0 + n));
        }
        storage.holds.clear();
    }
    world.restart_master();
    world.join(1);
    world.join(2);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(marks(&world), [None; 2]);
    let client = world.client();
    assert_eq!(world.last_tid(client), tid);
    assert!(world.storages.values().all(|s| s.committed.len() == 1));
    world.commit(client, &[]);
}

#[test]
fn the_cluster_falls_back_in_an_import() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    begin(&mut world, client);
    world.lose(1);
    assert_eq!(world.state(), ClusterState::Recovering);
    world.join(1);
    assert_eq!(marks(&world), [None]);
    let client = world.client();
    begin(&mut world, client);
}
