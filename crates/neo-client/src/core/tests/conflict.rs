//! Conflicts, merges and deadlocks, with replicas that answer at different times.

use neo_proto::RelockOutcome;

use super::*;

#[test]
fn a_conflict_is_merged_and_stored_again_everywhere() {
    let mut w = World::with_txn(2, 1);
    w.store(5, 90, value("mine"));
    let (first, _) = w.stored(s(1), 5);
    let (second, _) = w.stored(s(2), 5);
    w.answer_store(s(1), first, StoreOutcome::Conflict(Tid(95)));
    w.vote();
    // Told before the other has answered: it may wait for a lock.
    assert_eq!(conflicts(&mut w), [(5, 1, 90, 95)]);
    resolve(&mut w, 5, 1, 95, "merged");
    w.vote();
    // The late answer about the first change does not count, whichever it is.
    w.answer_store(s(2), second, StoreOutcome::Conflict(Tid(95)));
    for nid in NODES {
        let (id, serial) = w.stored(nid, 5);
        assert_eq!(serial, Tid(95));
        w.answer_store(nid, id, StoreOutcome::Locked);
    }
    assert_eq!(w.reply(), (ReplyId(1005), Ok(Reply::Done)));
    w.answer_vote(s(1));
    w.answer_vote(s(2));
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![Oid(5)]))));
    let id = w.finish();
    let tid = Tid(205);
    w.says(
        m(1),
        id,
        Packet::AnswerTransactionFinished { txn: txn(200), tid },
    );
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Committed { changed, .. }) if changed == [(Oid(5), Some(record("merged")))]
    ));
}

#[test]
fn a_second_conflict_is_merged_from_the_first_merge() {
    let mut w = World::with_txn(2, 1);
    w.store(5, 90, value("mine"));
    let (one, _) = w.stored(s(1), 5);
    let (two, _) = w.stored(s(2), 5);
    w.answer_store(s(1), one, StoreOutcome::Conflict(Tid(95)));
    w.vote();
    assert_eq!(conflicts(&mut w), [(5, 1, 90, 95)]);
    // The other replica answers the same store later, when one more has committed.
    w.answer_store(s(2), two, StoreOutcome::Conflict(Tid(97)));
    w.done();
    resolve(&mut w, 5, 1, 95, "merged once");
    w.vote();
    for nid in NODES {
        let (id, serial) = w.stored(nid, 5);
        assert_eq!(serial, Tid(95));
        w.answer_store(nid, id, StoreOutcome::Conflict(Tid(97)));
    }
    // From 95, with what was merged up to there: not from 90 again.
    let Some(Event::Reply {
        result: Ok(Reply::Conflicts(list)),
        ..
    }) = w.events.pop_front()
    else {
        panic!("no conflict");
    };
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].version, list[0].base, list[0].serial),
        (2, Tid(95), Tid(97))
    );
    assert_eq!(list[0].change, value("merged once"));
    // A merge that is made twice counts once.
    resolve(&mut w, 5, 1, 95, "stale");
    w.quiet();
}

#[test]
fn a_replica_that_missed_the_other_commit_is_overwritten_by_the_merge() {
    // Another client could not reach S2, which accepted what S1 refuses.
    let mut w = World::with_txn(2, 1);
    w.store(5, 90, value("mine"));
    let (one, _) = w.stored(s(1), 5);
    let (two, _) = w.stored(s(2), 5);
    w.answer_store(s(2), two, StoreOutcome::Locked);
    w.vote();
    w.answer_store(s(1), one, StoreOutcome::Conflict(Tid(95)));
    assert_eq!(w.reply(), (ReplyId(1005), Ok(Reply::Done)));
    assert_eq!(conflicts(&mut w), [(5, 1, 90, 95)]);
    // The primary expels S2.
    w.set_state(s(2), NodeState::Down);
    resolve(&mut w, 5, 1, 95, "merged");
    w.vote();
    let (id, serial) = w.stored(s(1), 5);
    assert_eq!(serial, Tid(95));
    w.answer_store(s(1), id, StoreOutcome::Locked);
    w.answer_vote(s(1));
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![Oid(5)]))));
}

#[test]
fn a_failed_check_is_a_read_conflict() {
    let mut w = World::with_txn(2, 1);
    w.store(5, 90, Change::Check);
    let outcomes = [StoreOutcome::Locked, StoreOutcome::Conflict(Tid(95))];
    for (nid, outcome) in NODES.into_iter().zip(outcomes) {
        let (id, _) = w.to(nid);
        w.says(nid, id, Packet::AnswerCheckCurrentSerial { outcome });
    }
    w.done();
    w.vote();
    assert!(matches!(
        w.failure(),
        Error::ReadConflict {
            oid: Oid(5),
            serial: Tid(95)
        }
    ));
}

#[test]
fn a_new_store_of_the_object_forgets_the_conflict_of_the_old() {
    let mut w = World::with_txn(1, 1);
    w.store(5, 90, value("one"));
    let (id, _) = w.stored(s(1), 5);
    w.answer_store(s(1), id, StoreOutcome::Locked);
    w.done();
    w.store(5, 90, value("two"));
    let (id, _) = w.stored(s(1), 5);
    w.answer_store(s(1), id, StoreOutcome::Locked);
    w.done();
    w.vote();
    // One object, however often it was stored.
    assert_eq!(w.asked_vote(s(1)).2, 1);
}

#[test]
fn an_older_transaction_is_let_pass() {
    let mut w = World::with_txn(2, 1);
    w.store_locked(&NODES, 5, 90, "mine");
    deadlock(&mut w, s(1), 5);
    let id = relock(&mut w, s(1), 5);
    w.quiet();
    w.vote();
    assert!(w.events.is_empty());
    let outcome = RelockOutcome::Relocked;
    w.says(s(1), id, Packet::AnswerRelockObject { outcome });
    w.answer_vote(s(1));
    w.answer_vote(s(2));
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![]))));
}

#[test]
fn a_relock_that_finds_a_conflict_merges_what_the_client_kept() {
    let mut w = World::with_txn(2, 1);
    w.store_locked(&NODES, 5, 90, "mine");
    deadlock(&mut w, s(1), 5);
    deadlock(&mut w, s(2), 5);
    let one = relock(&mut w, s(1), 5);
    let two = relock(&mut w, s(2), 5);
    w.vote();
    let outcome = RelockOutcome::Conflict(Tid(97));
    w.says(s(1), one, Packet::AnswerRelockObject { outcome });
    assert_eq!(conflicts(&mut w), [(5, 1, 90, 97)]);
    resolve(&mut w, 5, 1, 97, "merged");
    w.vote();
    // Not sent while the other replica may still drop what is stored there.
    w.quiet();
    w.says(s(2), two, Packet::AnswerRelockObject { outcome });
    for nid in NODES {
        let (id, serial) = w.stored(nid, 5);
        assert_eq!(serial, Tid(97));
        w.answer_store(nid, id, StoreOutcome::Locked);
    }
    w.answer_vote(s(1));
    w.answer_vote(s(2));
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![Oid(5)]))));
}

#[test]
fn a_relock_whose_node_is_lost_does_not_hold_the_merge() {
    let mut w = World::with_txn(2, 1);
    w.store_locked(&NODES, 5, 90, "mine");
    deadlock(&mut w, s(1), 5);
    deadlock(&mut w, s(2), 5);
    let one = relock(&mut w, s(1), 5);
    relock(&mut w, s(2), 5);
    let outcome = RelockOutcome::Conflict(Tid(97));
    w.says(s(1), one, Packet::AnswerRelockObject { outcome });
    w.vote();
    assert_eq!(conflicts(&mut w), [(5, 1, 90, 97)]);
    resolve(&mut w, 5, 1, 97, "merged");
    w.lose(s(2));
    let (_, serial) = w.stored(s(1), 5);
    assert_eq!(serial, Tid(97));
}

#[test]
fn a_deadlock_told_while_the_store_is_on_its_way_is_answered_at_once() {
    // Two that have checked the object store it: each waits for the other's check to go.
    let mut w = World::with_txn(1, 1);
    w.store(5, 90, Change::Check);
    let (id, _) = w.to(s(1));
    let outcome = StoreOutcome::Locked;
    w.says(s(1), id, Packet::AnswerCheckCurrentSerial { outcome });
    w.done();
    w.store(5, 90, value("two"));
    let (store, _) = w.stored(s(1), 5);
    deadlock(&mut w, s(1), 5);
    let relock = relock(&mut w, s(1), 5);
    // The older one has committed: the store has its lock, and the relock finds what is new.
    w.answer_store(s(1), store, StoreOutcome::Locked);
    w.done();
    w.vote();
    w.quiet();
    let outcome = RelockOutcome::Conflict(Tid(97));
    w.says(s(1), relock, Packet::AnswerRelockObject { outcome });
    assert_eq!(conflicts(&mut w), [(5, 2, 90, 97)]);
}

#[test]
fn a_deadlock_told_while_a_change_is_held_is_answered_at_once() {
    // The new change waits for a relock on S1; the lock of the old one on S2 must not be kept.
    let mut w = World::with_txn(2, 1);
    w.store_locked(&NODES, 5, 90, "one");
    deadlock(&mut w, s(1), 5);
    let one = relock(&mut w, s(1), 5);
    w.store(5, 90, value("two"));
    w.quiet();
    deadlock(&mut w, s(2), 5);
    let two = relock(&mut w, s(2), 5);
    let outcome = RelockOutcome::Relocked;
    w.says(s(2), two, Packet::AnswerRelockObject { outcome });
    w.quiet();
    w.says(s(1), one, Packet::AnswerRelockObject { outcome });
    for nid in NODES {
        w.stored(nid, 5);
    }
}

#[test]
fn a_deadlock_told_before_the_answer_of_a_relock_is_another_one() {
    let mut w = World::with_txn(1, 1);
    w.store_locked(&[s(1)], 5, 90, "mine");
    deadlock(&mut w, s(1), 5);
    let first = relock(&mut w, s(1), 5);
    // It had the lock again, and looked at the serial, when the next one came.
    deadlock(&mut w, s(1), 5);
    w.quiet();
    let outcome = RelockOutcome::Relocked;
    w.says(s(1), first, Packet::AnswerRelockObject { outcome });
    let second = relock(&mut w, s(1), 5);
    w.vote();
    w.says(s(1), second, Packet::AnswerRelockObject { outcome });
    w.answer_vote(s(1));
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![]))));
}

#[test]
fn a_deadlock_told_during_the_vote_is_none() {
    let mut w = World::with_txn(1, 1);
    w.store_locked(&[s(1)], 5, 90, "mine");
    w.vote();
    w.asked_vote(s(1));
    deadlock(&mut w, s(1), 5);
    w.quiet();
}

#[test]
fn a_check_that_fails_after_a_relock_is_a_read_conflict() {
    let mut w = World::with_txn(1, 1);
    w.store(5, 90, Change::Check);
    let (id, _) = w.to(s(1));
    let outcome = StoreOutcome::Locked;
    w.says(s(1), id, Packet::AnswerCheckCurrentSerial { outcome });
    w.done();
    deadlock(&mut w, s(1), 5);
    let id = relock(&mut w, s(1), 5);
    w.vote();
    let outcome = RelockOutcome::Conflict(Tid(97));
    w.says(s(1), id, Packet::AnswerRelockObject { outcome });
    assert!(matches!(w.failure(), Error::ReadConflict { .. }));
    w.to(s(1));
}

#[test]
fn a_deletion_does_not_overtake_the_value_that_it_replaces() {
    let mut w = World::with_txn(2, 1);
    w.store(5, 90, value("mine"));
    let (one, _) = w.stored(s(1), 5);
    let (two, _) = w.stored(s(2), 5);
    w.store(5, 90, Change::Deletion);
    w.done();
    w.vote();
    w.quiet();
    w.answer_store(s(1), one, StoreOutcome::Locked);
    w.quiet();
    w.answer_store(s(2), two, StoreOutcome::Locked);
    for nid in NODES {
        let (id, _) = w.stored(nid, 5);
        w.answer_store(nid, id, StoreOutcome::Locked);
    }
    w.done();
    assert_eq!(w.asked_vote(s(1)).2, 1);
}
