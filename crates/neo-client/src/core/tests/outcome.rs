//! The answer to finish is lost.

use neo_proto::FinalTid;

use super::*;

/// The finish was asked, and the primary is lost, then back.
fn lost() -> World {
    let mut w = World::with_txn(2, 2);
    w.store_locked(&[s(1), s(2)], 5, 0, "a");
    w.vote_all(&[s(1), s(2)]);
    w.finish();
    w.lose(m(1));
    assert!(matches!(w.events.pop_front(), Some(Event::NotReady { .. })));
    assert!(w.conns.is_empty());
    back(&mut w);
    w
}

fn back(w: &mut World) {
    w.next_timer();
    while w.connecting.iter().all(|(_, to)| *to != address(m(1))) {
        let (token, _) = w.connecting.pop_front().unwrap();
        w.input(Input::ConnectFailed {
            token,
            error: "refused".into(),
        });
        w.next_timer();
    }
    w.accept_master();
}

fn asked(w: &mut World, nid: NodeId) -> MsgId {
    match w.to(nid) {
        (id, Packet::AskFinalTid { txn: of }) if of == txn(200) => id,
        other => panic!("{other:?}"),
    }
}

/// A storage that is asked for the tid.
fn asked_storage(w: &mut World) -> (NodeId, MsgId) {
    for nid in [s(1), s(2)] {
        if let Some((id, packet)) = w.try_to(nid) {
            assert_eq!(packet, Packet::AskFinalTid { txn: txn(200) });
            return (nid, id);
        }
    }
    panic!("no storage is asked");
}

fn committed(w: &mut World) -> (Tid, bool) {
    loop {
        match w.events.pop_front() {
            Some(Event::Committed {
                reply: Some(R),
                tid,
                newest,
                ..
            }) => return (tid, newest),
            Some(Event::Ready { .. } | Event::Resynced { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_primary_tells_that_it_is_committed() {
    let mut w = lost();
    let id = asked(&mut w, m(1));
    let tid = FinalTid::Committed(Tid(206));
    w.says(m(1), id, Packet::AnswerFinalTid { tid });
    assert_eq!(committed(&mut w), (Tid(206), true));
    assert_eq!(w.core.last_tid(), Tid(206));
    assert!(w.core.txns.is_empty());
}

#[test]
fn the_primary_tells_that_it_is_not() {
    let mut w = lost();
    let id = asked(&mut w, m(1));
    let tid = FinalTid::NotCommitted;
    w.says(m(1), id, Packet::AnswerFinalTid { tid });
    assert!(matches!(w.events.pop_front(), Some(Event::Ready { .. })));
    assert!(matches!(w.failure(), Error::NotReady(_)));
}

#[test]
fn a_new_primary_does_not_know_and_a_storage_does() {
    let mut w = lost();
    let id = asked(&mut w, m(1));
    let tid = FinalTid::AskStorages;
    w.says(m(1), id, Packet::AnswerFinalTid { tid });
    let (nid, id) = asked_storage(&mut w);
    w.error(nid, id, ErrorCode::NonReadableCell);
    let (other, id) = asked_storage(&mut w);
    assert_ne!(other, nid);
    let tid = FinalTid::Committed(Tid(206));
    w.says(other, id, Packet::AnswerFinalTid { tid });
    // It is told after whatever was committed before it.
    let (id, packet) = w.to(m(1));
    assert_eq!(packet, Packet::AskLastTransaction {});
    w.says(m(1), id, Packet::AnswerLastTransaction { tid: Tid(210) });
    assert_eq!(committed(&mut w), (Tid(206), false));
    assert_eq!(w.core.last_tid(), Tid(210));
}

#[test]
fn nobody_answers_and_it_starts_over_with_the_primary() {
    let mut w = lost();
    let id = asked(&mut w, m(1));
    let tid = FinalTid::AskStorages;
    w.says(m(1), id, Packet::AnswerFinalTid { tid });
    for _ in 0..2 {
        let (nid, _) = asked_storage(&mut w);
        w.lose(nid);
    }
    w.next_timer();
    let id = asked(&mut w, m(1));
    // And the primary is lost again.
    w.lose(m(1));
    back(&mut w);
    assert_ne!(asked(&mut w, m(1)), id);
}

#[test]
fn a_second_loss_while_a_storage_is_asked() {
    let mut w = lost();
    let id = asked(&mut w, m(1));
    let tid = FinalTid::AskStorages;
    w.says(m(1), id, Packet::AnswerFinalTid { tid });
    asked_storage(&mut w);
    w.lose(m(1));
    back(&mut w);
    let id = asked(&mut w, m(1));
    let tid = FinalTid::NotCommitted;
    w.says(m(1), id, Packet::AnswerFinalTid { tid });
    w.events
        .retain(|event| matches!(event, Event::Reply { .. }));
    assert!(matches!(w.failure(), Error::NotReady(_)));
}

#[test]
fn when_nobody_answers_in_time_the_outcome_is_unknown() {
    let mut w = World::with_txn(1, 1);
    w.vote_all(&[s(1)]);
    w.finish();
    w.lose(m(1));
    w.events.clear();
    w.wait(Duration::from_secs(61));
    let error = w.failure();
    assert!(
        matches!(&error, Error::Unknown { txn: of, .. } if *of == txn(200)),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[test]
fn an_answer_after_the_deadline_still_invalidates() {
    let mut w = World::with_txn(1, 1);
    w.store_locked(&[s(1)], 5, 0, "a");
    w.vote_all(&[s(1)]);
    let id = w.finish();
    w.wait(Duration::from_secs(61));
    assert!(matches!(w.failure(), Error::Unknown { .. }));
    let tid = Tid(205);
    w.says(
        m(1),
        id,
        Packet::AnswerTransactionFinished { txn: txn(200), tid },
    );
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Committed {
            reply: None,
            tid: Tid(205),
            ..
        })
    ));
}

#[test]
fn a_refused_finish_is_no_commit() {
    let mut w = World::with_txn(1, 1);
    w.vote_all(&[s(1)]);
    let id = w.finish();
    w.error(m(1), id, ErrorCode::IncompleteTransaction);
    assert!(matches!(w.failure(), Error::IncompleteTransaction(_)));
    assert!(matches!(w.to(s(1)).1, Packet::AbortTransaction { .. }));
}

#[test]
fn an_abort_after_finish_is_ignored() {
    let mut w = World::with_txn(1, 1);
    w.vote_all(&[s(1)]);
    let id = w.finish();
    w.command(Command::Abort { txn: T });
    w.quiet();
    let tid = Tid(205);
    w.says(
        m(1),
        id,
        Packet::AnswerTransactionFinished { txn: txn(200), tid },
    );
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Committed { .. })
    ));
}

#[test]
fn a_storage_that_does_not_answer_is_not_waited_for_alone() {
    let mut w = lost();
    let id = asked(&mut w, m(1));
    let tid = FinalTid::AskStorages;
    w.says(m(1), id, Packet::AnswerFinalTid { tid });
    let (first, first_id) = asked_storage(&mut w);
    w.wait(Duration::from_secs(1));
    let (second, second_id) = asked_storage(&mut w);
    assert_ne!(first, second);
    // There is no third to ask.
    w.wait(Duration::from_secs(1));
    let tid = FinalTid::NotCommitted;
    w.says(second, second_id, Packet::AnswerFinalTid { tid });
    let events = std::mem::take(&mut w.events);
    let told = events.iter().filter(|event| {
        matches!(
            event,
            Event::Reply {
                id: R,
                result: Err(Error::NotReady(_))
            }
        )
    });
    assert_eq!(told.count(), 1);
    w.says(first, first_id, Packet::AnswerFinalTid { tid });
    w.quiet();
}
