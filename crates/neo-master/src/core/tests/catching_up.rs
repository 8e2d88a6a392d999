//! Cells that catch up: what their nodes are told, and what they must vote for.

use std::collections::BTreeSet;

use neo_api::{CellChange, CellState, TxnId};
use neo_proto::Packet;

use super::harness::*;

fn unfinished(answer: Option<Packet>) -> (neo_api::Tid, Vec<TxnId>) {
    match answer {
        Some(Packet::AnswerUnfinishedTransactions {
            last_tid, pending, ..
        }) => (last_tid, pending),
        other => panic!("{other:?}"),
    }
}

/// Two replicas; the second is out of date and takes part.
fn back() -> World {
    let mut world = World::running(2, 1, 1);
    world.lose(2);
    world.join(2);
    world
}

#[test]
fn what_is_pending_is_told_and_when_it_ends() {
    let mut world = back();
    let client = world.client();
    let tid = world.commit_on(client, &[1]);
    let [begun, finishing, aborted] = [0; 3].map(|_| world.begin(client));
    world.vote(finishing, &[1]);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskLockInformation");
    let id = world.finish(client, finishing, &[]);
    let (last_tid, pending) = unfinished(world.register(2));
    assert_eq!(last_tid, tid);
    assert_eq!(pending, [begun, finishing, aborted]);
    let left = |world: &World| world.storages[&2].catching_up.clone().unwrap().pending;
    world.storages.get_mut(&1).unwrap().holds.clear();
    world.settle();
    finished(world.answer(client, id));
    assert_eq!(left(&world), BTreeSet::from([begun, aborted]));
    let nodes = Vec::new();
    world.notify(
        client,
        Packet::AbortTransaction {
            txn: aborted,
            nodes,
        },
    );
    assert_eq!(left(&world), BTreeSet::from([begun]));
    // One that begins later is not of its business.
    let later = world.begin(client);
    assert_eq!(left(&world), BTreeSet::from([begun]));
    world.hang_up(client);
    assert_eq!(left(&world), BTreeSet::new());
    assert!(world.core.running().unwrap().txns.get(later).is_none());
}

#[test]
fn a_transaction_that_began_later_must_be_voted_by_the_cell_too() {
    let mut world = back();
    let client = world.client();
    let before = world.begin(client);
    unfinished(world.register(2));
    let after = world.begin(client);
    for txn in [before, after] {
        world.vote(txn, &[1]);
    }
    let id = world.finish(client, before, &[]);
    finished(world.answer(client, id));
    assert_eq!(world.storages[&2].committed.len(), 0, "it fetches that one");
    let id = world.finish(client, after, &[]);
    let refused = words(world.answer(client, id));
    assert!(refused.contains("has not voted on S2"), "{refused}");
}

#[test]
fn whoever_voted_locks_also_before_it_is_registered() {
    let mut world = back();
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1, 2]);
    let id = world.finish(client, txn, &[]);
    finished(world.answer(client, id));
    assert_eq!(world.storages[&2].committed.len(), 1);
}

#[test]
fn a_transaction_that_goes_on_without_a_node_that_catches_up_disconnects_it() {
    let mut world = back();
    let client = world.client();
    unfinished(world.register(2));
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    let nodes = vec![nid("S2")];
    let granted = world.ask(client, Packet::AskFailedVote { txn, nodes });
    assert_eq!(granted, Some(Packet::AnswerFailedVote {}));
    let id = world.finish(client, txn, &[]);
    finished(world.answer(client, id));
    assert_eq!(world.storages[&2].conn, None, "it would miss it");
    assert_eq!(world.rows(), ["1U2O"]);
}

#[test]
fn an_abort_reaches_a_node_that_voted_though_it_became_ready_later() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.lose(2);
    let txn = world.begin(client);
    world.join(2);
    world.vote(txn, &[1, 2]);
    let nodes = Vec::new();
    world.notify(client, Packet::AbortTransaction { txn, nodes });
    assert!(world.storages.values().all(|s| s.unfinished.is_empty()));
}

#[test]
fn cells_that_do_not_catch_up_are_refused() {
    let mut world = back();
    let ask = |world: &mut World, partition, ptid| {
        let assigned = neo_api::TableVersion {
            reign: world.core.reign,
            ptid: neo_api::Ptid(ptid),
        };
        let partition = neo_api::Partition(partition);
        let cells = vec![neo_proto::AssignedPartition {
            partition,
            assigned,
        }];
        words(world.storage_asks(2, Packet::AskUnfinishedTransactions { cells }))
    };
    // Another assignment; a partition that is not there.
    for (partition, ptid) in [(0, 2), (1, 1)] {
        let words = ask(&mut world, partition, ptid);
        assert!(words.starts_with("replication"), "{words}");
    }
    let cells = world.storages[&2].out_of_date();
    let refused = words(world.storage_asks(1, Packet::AskUnfinishedTransactions { cells }));
    assert!(refused.contains("not what S1 catches up with"), "{refused}");
    assert!(world.core.running().unwrap().catching_up.is_empty());
}

#[test]
fn an_import_holds_registrations_back() {
    let mut world = back();
    let client = world.client();
    let import = match world.ask(client, Packet::AskBeginImport {}) {
        Some(Packet::AnswerBeginImport { import, .. }) => import,
        other => panic!("{other:?}"),
    };
    assert_eq!(world.register(2), None);
    world.ask(client, Packet::AskEndImport { import }).unwrap();
    unfinished(world.storages[&2].answer.clone());
    assert!(!world.core.running().unwrap().catching_up.is_empty());
    let refused = words(world.ask(client, Packet::AskBeginImport {}));
    assert!(refused.contains("brought up to date"), "{refused}");
}

#[test]
fn completion_of_an_earlier_assignment_is_dropped() {
    let mut world = back();
    unfinished(world.register(2));
    // The cell is taken away and given again while the word is on its way.
    let mut cell = *world
        .table()
        .cell(neo_api::Partition(0), nid("S2"))
        .unwrap();
    let partition = neo_api::Partition(0);
    let mut out = neo_proto::Effects::new();
    cell.state = CellState::Discarded;
    world
        .core
        .change_table(&[CellChange { partition, cell }], &mut out);
    cell.state = CellState::OutOfDate;
    cell.assigned.ptid = world.table().version.ptid.next();
    world
        .core
        .change_table(&[CellChange { partition, cell }], &mut out);
    drop(out.take());
    world.complete(2);
    assert_eq!(world.rows(), ["1U2O"]);
    assert!(world.core.running().unwrap().catching_up.is_empty());
}
