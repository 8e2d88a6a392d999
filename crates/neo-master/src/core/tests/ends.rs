//! Transactions that end otherwise: aborts, clients that go, old age; and what is told afterwards.

use std::time::Duration;

use neo_api::Tid;
use neo_proto::{FinalTid, Packet};

use super::harness::*;

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
