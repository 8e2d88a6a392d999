//! Cells that catch up, and cells that come, go and are promoted while a transaction runs.

use neo_api::CellState::{Discarded, Feeding, OutOfDate, UpToDate};
use neo_proto::RelockOutcome;

use super::*;

/// Two nodes, of which the second catches up, and a transaction that has begun.
fn catching_up() -> World {
    let mut w = World::with_cells(2, 1, &[(0, 2, OutOfDate)]);
    w.begin(T, 200);
    w
}

/// Stores object 5 in a cluster where S2 catches up.
fn store_unchecked(w: &mut World, serial: u64, text: &str) {
    w.store(5, serial, value(text));
    let (id, _) = w.stored(s(1), 5);
    w.answer_store(s(1), id, StoreOutcome::Locked);
    let (id, _) = w.stored(s(2), 5);
    w.answer_store(s(2), id, StoreOutcome::Unchecked);
    w.done();
}

/// Every node that is connected, and what is sent to it next.
fn next_to_each(w: &mut World) -> Vec<(u32, &'static str)> {
    let nodes: Vec<NodeId> = w.conns.keys().copied().filter(|n| *n != m(1)).collect();
    let sent = nodes
        .into_iter()
        .filter_map(|nid| Some((nid.number(), w.try_to(nid)?.1.name())));
    sent.collect()
}

// --- cells that catch up ---

#[test]
fn a_cell_that_catches_up_gets_what_the_others_get() {
    let mut w = catching_up();
    store_unchecked(&mut w, 90, "mine");
    w.vote();
    for nid in NODES {
        assert_eq!(w.asked_vote(nid).2, 1);
    }
}

#[test]
fn an_unchecked_replica_does_not_hide_a_conflict() {
    let mut w = catching_up();
    w.store(5, 90, value("mine"));
    let (one, _) = w.stored(s(1), 5);
    let (two, _) = w.stored(s(2), 5);
    w.answer_store(s(2), two, StoreOutcome::Unchecked);
    w.answer_store(s(1), one, StoreOutcome::Conflict(Tid(95)));
    w.done();
    w.vote();
    assert_eq!(conflicts(&mut w), [(5, 1, 90, 95)]);
    // Stored again everywhere: what the replica has starts from what is not there any more.
    resolve(&mut w, 5, 1, 95, "merged");
    w.vote();
    for (nid, outcome) in [
        (s(1), StoreOutcome::Locked),
        (s(2), StoreOutcome::Unchecked),
    ] {
        let (id, serial) = w.stored(nid, 5);
        assert_eq!(serial, Tid(95));
        w.answer_store(nid, id, outcome);
    }
    // One object, however often it was stored.
    for nid in NODES {
        assert_eq!(w.asked_vote(nid).2, 1);
    }
}

#[test]
fn an_unchecked_answer_to_what_was_merged_since_is_late() {
    let mut w = catching_up();
    w.store(5, 90, value("mine"));
    let (one, _) = w.stored(s(1), 5);
    let (two, _) = w.stored(s(2), 5);
    w.answer_store(s(1), one, StoreOutcome::Conflict(Tid(95)));
    w.vote();
    assert_eq!(conflicts(&mut w), [(5, 1, 90, 95)]);
    resolve(&mut w, 5, 1, 95, "merged");
    w.vote();
    w.answer_store(s(2), two, StoreOutcome::Unchecked);
    let object = &w.core.txns[&T].objects[&Oid(5)];
    assert!(object.unchecked.is_empty() && object.locked.is_empty());
    for (nid, outcome) in [
        (s(1), StoreOutcome::Locked),
        (s(2), StoreOutcome::Unchecked),
    ] {
        let (id, _) = w.stored(nid, 5);
        w.answer_store(nid, id, outcome);
    }
    w.done();
    for nid in NODES {
        w.answer_vote(nid);
    }
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![Oid(5)]))));
}

#[test]
fn without_a_checked_lock_the_vote_is_refused() {
    let mut w = catching_up();
    store_unchecked(&mut w, 0, "a");
    w.vote();
    w.answer_vote(s(2));
    w.lose(s(1));
    assert!(matches!(w.failure(), Error::IncompleteTransaction(_)));
}

#[test]
fn a_merge_that_only_a_replica_that_catches_up_takes_is_refused() {
    let mut w = catching_up();
    w.store(5, 90, value("mine"));
    let (one, _) = w.stored(s(1), 5);
    let (two, _) = w.stored(s(2), 5);
    w.answer_store(s(1), one, StoreOutcome::Conflict(Tid(95)));
    w.answer_store(s(2), two, StoreOutcome::Unchecked);
    w.done();
    w.vote();
    assert_eq!(conflicts(&mut w), [(5, 1, 90, 95)]);
    // The replica that told of the conflict is lost while it is merged.
    w.lose(s(1));
    resolve(&mut w, 5, 1, 95, "merged");
    w.vote();
    let (id, serial) = w.stored(s(2), 5);
    assert_eq!(serial, Tid(95));
    w.answer_store(s(2), id, StoreOutcome::Unchecked);
    let words = w.failure().to_string();
    assert!(words.contains("S1"), "{words}");
    assert!(matches!(w.to(s(2)).1, Packet::AbortTransaction { .. }));
}

#[test]
fn a_cell_that_catches_up_lets_an_older_transaction_pass_too() {
    let mut w = catching_up();
    store_unchecked(&mut w, 90, "mine");
    deadlock(&mut w, s(2), 5);
    let id = relock(&mut w, s(2), 5);
    w.vote();
    w.quiet();
    let outcome = RelockOutcome::Relocked;
    w.says(s(2), id, Packet::AnswerRelockObject { outcome });
    let object = &w.core.txns[&T].objects[&Oid(5)];
    assert_eq!(
        (object.locked.first(), object.unchecked.first()),
        (Some(&s(1)), Some(&s(2)))
    );
    for nid in NODES {
        assert_eq!(w.asked_vote(nid).2, 1);
    }
}

// --- cells that come, go and are promoted ---

#[test]
fn a_node_votes_for_what_it_was_sent_when_it_came_late() {
    let mut w = World::with_cells(2, 1, &[(0, 2, Discarded)]);
    w.begin(T, 200);
    w.store_locked(&[s(1)], 4, 90, "before");
    w.change_cells(&[(0, 2, OutOfDate)]);
    store_unchecked(&mut w, 90, "after");
    w.vote();
    assert_eq!(w.asked_vote(s(1)).2, 2);
    assert_eq!(w.asked_vote(s(2)).2, 1);
}

#[test]
fn a_promoted_cell_has_compared_what_it_had_locked() {
    let mut w = World::with_cells(2, 1, &[(0, 1, Feeding), (0, 2, OutOfDate)]);
    w.begin(T, 200);
    store_unchecked(&mut w, 90, "mine");
    // The only one that had compared goes; the other one has compared since.
    w.change_cells(&[(0, 2, UpToDate)]);
    w.change_cells(&[(0, 1, Discarded)]);
    w.vote();
    assert!(matches!(w.to(s(1)).1, Packet::AbortTransaction { .. }));
    assert_eq!(w.asked_vote(s(2)).2, 1);
}

#[test]
fn a_lock_on_a_node_that_has_no_cell_any_more_is_none() {
    let mut w = World::with_cells(2, 1, &[(0, 1, Feeding), (0, 2, OutOfDate)]);
    w.begin(T, 200);
    store_unchecked(&mut w, 90, "mine");
    w.change_cells(&[(0, 1, Discarded)]);
    w.vote();
    assert!(matches!(w.failure(), Error::IncompleteTransaction(_)));
}

#[test]
fn a_node_without_the_partition_any_more_has_not_failed() {
    // Partition 1 is on S1 and S2, of which S1 gives it up; the metadata is in partition 0.
    let mut w = World::with_cells(2, 2, &[(1, 1, Feeding)]);
    w.begin(T, 200);
    w.store_locked(&NODES, 4, 90, "stays");
    w.store_locked(&NODES, 5, 90, "goes");
    w.change_cells(&[(1, 1, Discarded)]);
    w.vote();
    let (_, metadata, objects) = w.asked_vote(s(1));
    assert_eq!((metadata, objects), (true, 1));
    assert_eq!(w.asked_vote(s(2)).2, 2);
}

#[test]
fn a_store_that_finds_no_cell_goes_on_with_the_others() {
    // S1 knows that the cell is gone before the client does.
    let mut w = World::with_cells(2, 2, &[(1, 1, Feeding)]);
    w.begin(T, 200);
    w.store_locked(&NODES, 4, 90, "stays");
    w.store(5, 90, value("goes"));
    let (id, _) = w.stored(s(1), 5);
    w.error(s(1), id, ErrorCode::NonReadableCell);
    assert!(w.events.is_empty());
    let (id, _) = w.stored(s(2), 5);
    w.answer_store(s(2), id, StoreOutcome::Locked);
    w.done();
    w.vote();
    assert_eq!(w.asked_vote(s(1)).2, 1);
    assert_eq!(w.asked_vote(s(2)).2, 2);
    assert!(w.core.txns[&T].failed.is_empty());
}

#[test]
fn metadata_that_finds_no_cell_leaves_a_vote_for_the_objects() {
    // The metadata is in partition 0, which S1 gives up.
    let mut w = World::with_cells(2, 2, &[(0, 1, Feeding)]);
    w.begin(T, 200);
    w.store_locked(&NODES, 5, 90, "mine");
    w.vote();
    let (id, metadata, _) = w.asked_vote(s(1));
    assert!(metadata);
    w.error(s(1), id, ErrorCode::NonReadableCell);
    w.answer_vote(s(2));
    assert!(w.events.is_empty());
    let (id, metadata, objects) = w.asked_vote(s(1));
    assert_eq!((metadata, objects), (false, 1));
    w.says(s(1), id, Packet::AnswerVoteTransaction {});
    // No node failed: the primary is asked for no judgement.
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![]))));
    assert_eq!(w.try_to(m(1)), None);
}

#[test]
fn metadata_without_any_cell_is_refused() {
    let mut w = World::with_txn(2, 1);
    w.vote();
    for nid in NODES {
        let (id, ..) = w.asked_vote(nid);
        w.error(nid, id, ErrorCode::NonReadableCell);
    }
    assert!(matches!(w.failure(), Error::IncompleteTransaction(_)));
}

#[test]
fn a_relock_that_finds_no_cell_does_not_hold_the_merge() {
    let mut w = World::with_txn(2, 1);
    w.store_locked(&NODES, 5, 90, "mine");
    deadlock(&mut w, s(1), 5);
    let one = relock(&mut w, s(1), 5);
    w.store(5, 90, value("again"));
    w.quiet();
    w.error(s(1), one, ErrorCode::NonReadableCell);
    assert_eq!(
        next_to_each(&mut w),
        [(1, "AskStoreObject"), (2, "AskStoreObject")]
    );
}

#[test]
fn a_node_that_fails_and_is_still_there_lets_go_of_its_locks() {
    // An older transaction may wait for them there, and this one for it elsewhere.
    let mut w = World::with_txn(2, 1);
    w.store_locked(&NODES, 5, 90, "mine");
    w.store(6, 90, value("mine"));
    let (id, _) = w.stored(s(1), 6);
    w.error(s(1), id, ErrorCode::NoSpace);
    assert!(matches!(w.to(s(1)).1, Packet::AbortTransaction { .. }));
    let (id, _) = w.stored(s(2), 6);
    w.answer_store(s(2), id, StoreOutcome::Locked);
    w.done();
    w.vote();
    w.answer_vote(s(2));
    let (id, packet) = w.to(m(1));
    let nodes = vec![s(1)];
    let txn = txn(200);
    assert_eq!(packet, Packet::AskFailedVote { txn, nodes });
    w.says(m(1), id, Packet::AnswerFailedVote {});
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![]))));
    w.quiet();
}

#[test]
fn a_cell_that_does_not_know_of_itself_yet_is_done_without() {
    // The client knew the table before the node did.
    let mut w = catching_up();
    w.store(5, 90, value("mine"));
    let (id, _) = w.stored(s(1), 5);
    w.answer_store(s(1), id, StoreOutcome::Locked);
    let (id, _) = w.stored(s(2), 5);
    w.error(s(2), id, ErrorCode::NonReadableCell);
    w.done();
    w.vote();
    assert_eq!(w.asked_vote(s(1)).2, 1);
    // The metadata finds no cell either.
    let (id, metadata, objects) = w.asked_vote(s(2));
    assert_eq!((metadata, objects), (true, 0));
    w.error(s(2), id, ErrorCode::NonReadableCell);
    assert!(matches!(w.to(s(2)).1, Packet::AbortTransaction { .. }));
    assert!(w.core.txns[&T].failed.is_empty());
}
