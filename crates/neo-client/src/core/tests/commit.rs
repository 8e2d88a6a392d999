//! Commits, and what can be lost on the way.

use super::*;

#[test]
fn a_commit_goes_to_every_replica_then_to_the_primary() {
    let mut w = World::with_txn(2, 4);
    w.store(5, 0, value("a"));
    for nid in [s(1), s(2)] {
        let (id, packet) = w.to(nid);
        assert!(
            matches!(&packet, Packet::AskStoreObject { txn: t, oid: Oid(5), serial: Tid(0), .. }
                if *t == txn(200)),
            "{packet:?}"
        );
        w.answer_store(nid, id, StoreOutcome::Locked);
    }
    assert_eq!(w.reply(), (ReplyId(1005), Ok(Reply::Done)));
    w.vote();
    for nid in [s(1), s(2)] {
        let (id, packet) = w.to(nid);
        let Packet::AskStoreTransaction { oids, objects, .. } = packet else {
            panic!("{packet:?}");
        };
        assert_eq!((oids.0, objects), (vec![Oid(5)], 1));
        w.says(nid, id, Packet::AnswerStoreTransaction {});
    }
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![]))));
    w.command(Command::Finish { txn: T, reply: R });
    let (id, packet) = w.to(m(1));
    assert_eq!(
        packet,
        Packet::AskFinishTransaction {
            txn: txn(200),
            oids: vec![Oid(5)].into(),
            partitions: vec![Partition(1)],
        }
    );
    w.quiet();
    let tid = Tid(204);
    w.says(
        m(1),
        id,
        Packet::AnswerTransactionFinished { txn: txn(200), tid },
    );
    let Some(Event::Committed {
        txn,
        reply,
        tid,
        changed,
        newest,
    }) = w.events.pop_front()
    else {
        panic!("not committed");
    };
    assert_eq!((txn, reply, tid, newest), (T, Some(R), Tid(204), true));
    assert_eq!(changed, [(Oid(5), Some(record("a")))]);
    assert_eq!(w.core.last_tid(), Tid(204));
    assert!(w.core.txns.is_empty() && w.core.timers.next().is_none());
    w.quiet();
}

#[test]
fn only_involved_nodes_vote_with_what_they_hold() {
    let mut w = World::cold(3, 3);
    // Partition n lives on S(n+1) alone; the metadata of ttid 200 in partition 2, on S3.
    for (n, row) in w.table.rows.iter_mut().enumerate() {
        row.retain(|cell| cell.nid == s(n as u32 + 1));
    }
    w.input(Input::Timer);
    w.accept_master();
    w.events.clear();
    w.begin(T, 200);
    w.store_locked(&[s(1)], 3, 0, "a");
    w.store_locked(&[s(1)], 6, 0, "b");
    w.vote();
    assert_eq!(w.asked_vote(s(1)).2, 2);
    let (_, metadata, objects) = w.asked_vote(s(3));
    assert!(metadata && objects == 0);
    assert!(!w.conns.contains_key(&s(2)));
}

#[test]
fn a_check_locks_votes_and_is_not_invalidated() {
    let mut w = World::with_txn(1, 1);
    w.store(5, 90, Change::Check);
    let (id, packet) = w.to(s(1));
    let serial = Tid(90);
    let oid = Oid(5);
    assert_eq!(
        packet,
        Packet::AskCheckCurrentSerial {
            txn: txn(200),
            oid,
            serial
        }
    );
    let outcome = StoreOutcome::Locked;
    w.says(s(1), id, Packet::AnswerCheckCurrentSerial { outcome });
    assert_eq!(w.reply(), (ReplyId(1005), Ok(Reply::Done)));
    w.vote();
    assert_eq!(w.asked_vote(s(1)).2, 1);
}

#[test]
fn an_empty_transaction_is_one() {
    let mut w = World::with_txn(2, 2);
    w.vote_all(&[s(1), s(2)]);
    w.finish();
}

#[test]
fn a_node_lost_between_store_and_vote_has_failed_even_when_it_is_back() {
    let mut w = World::with_txn(2, 1);
    w.store_locked(&[s(1), s(2)], 5, 0, "a");
    w.lose(s(2));
    // A read connects again; the transaction must not use that connection.
    w.load(9, 8, At::Latest);
    let (nid, id, _) = w.asked_object();
    w.error(nid, id, ErrorCode::NonReadableCell);
    w.asked_object();
    assert!(w.conns.contains_key(&s(2)));
    w.vote();
    w.answer_vote(s(1));
    assert_eq!(w.try_to(s(2)), None);
    let (id, packet) = w.to(m(1));
    assert_eq!(
        packet,
        Packet::AskFailedVote {
            txn: txn(200),
            nodes: vec![s(2)]
        }
    );
    assert!(w.events.is_empty());
    w.says(m(1), id, Packet::AnswerFailedVote {});
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![]))));
}

#[test]
fn a_node_lost_during_its_vote_is_judged_by_the_primary() {
    for code in [
        None,
        Some(ErrorCode::UnknownTransaction),
        Some(ErrorCode::NoSpace),
    ] {
        let mut w = World::with_txn(2, 1);
        w.store_locked(&[s(1), s(2)], 5, 0, "a");
        w.vote();
        w.answer_vote(s(1));
        match code {
            None => w.lose(s(2)),
            Some(code) => {
                let (id, ..) = w.asked_vote(s(2));
                w.error(s(2), id, code);
            }
        }
        let (id, packet) = w.to(m(1));
        assert_eq!(
            packet,
            Packet::AskFailedVote {
                txn: txn(200),
                nodes: vec![s(2)]
            }
        );
        w.error(m(1), id, ErrorCode::IncompleteTransaction);
        assert!(matches!(w.failure(), Error::IncompleteTransaction(_)));
        // Everybody is told, over the connections that the transaction used.
        assert!(matches!(w.to(s(1)).1, Packet::AbortTransaction { .. }));
        assert!(matches!(
            w.to(m(1)).1,
            Packet::AbortTransaction { nodes, .. } if nodes == [s(1), s(2)]
        ));
    }
}

#[test]
fn a_node_that_the_primary_has_given_up_needs_no_judgement() {
    let mut w = World::with_txn(2, 1);
    w.store_locked(&[s(1), s(2)], 5, 0, "a");
    w.set_state(s(2), NodeState::Down);
    w.vote();
    w.answer_vote(s(1));
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![]))));
}

#[test]
fn a_vote_that_was_answered_stands_without_the_connection() {
    let mut w = World::with_txn(2, 1);
    w.store_locked(&[s(1), s(2)], 5, 0, "a");
    w.vote();
    w.answer_vote(s(1));
    w.lose(s(1));
    w.answer_vote(s(2));
    assert_eq!(w.reply(), (R, Ok(Reply::Voted(vec![]))));
}

#[test]
fn full_disks_are_named() {
    let mut w = World::with_txn(2, 1);
    w.store(5, 0, value("a"));
    for nid in [s(1), s(2)] {
        let (id, _) = w.stored(nid, 5);
        w.error(nid, id, ErrorCode::NoSpace);
    }
    w.done();
    w.vote();
    assert!(matches!(w.failure(), Error::NoSpace(_)));
}

#[test]
fn what_is_wrong_with_a_request_fails_the_transaction_at_once() {
    let mut w = World::with_txn(2, 1);
    w.store(5, 0, value("a"));
    let (id, _) = w.stored(s(1), 5);
    w.error(s(1), id, ErrorCode::TooLarge);
    assert!(matches!(w.failure(), Error::TooLarge(_)));
    // The other's store is taken back if it waits for credit, then it is told.
    let conn = w.conns[&s(2)];
    assert_eq!(w.cancelled.len(), 1);
    assert_eq!(w.cancelled[0].0, conn);
    w.store(6, 0, value("b"));
    assert!(matches!(w.failure(), Error::TooLarge(_)));
    w.vote();
    assert!(matches!(w.failure(), Error::TooLarge(_)));
}

#[test]
fn an_abort_takes_back_stores_that_wait_for_credit() {
    let mut w = World::with_txn(1, 1);
    w.store(5, 0, value("a"));
    let (id, _) = w.stored(s(1), 5);
    w.command(Command::Abort { txn: T });
    assert_eq!(w.cancelled, [(w.conns[&s(1)], id)]);
    assert!(matches!(w.to(s(1)).1, Packet::AbortTransaction { .. }));
    assert!(matches!(w.to(m(1)).1, Packet::AbortTransaction { nodes, .. } if nodes == [s(1)]));
    assert!(matches!(w.failure(), Error::Misuse(_)));
    // Its answer, on its way already, is ignored.
    w.answer_store(s(1), id, StoreOutcome::Locked);
    assert!(w.core.txns.is_empty());
    w.quiet();
}

#[test]
fn a_transaction_given_up_while_it_begins_is_aborted() {
    let mut w = World::new(1, 1);
    w.command(Command::Begin {
        txn: T,
        reply: R,
        tid: None,
    });
    let (id, _) = w.to(m(1));
    w.command(Command::Abort { txn: T });
    w.failure();
    w.says(m(1), id, Packet::AnswerBeginTransaction { txn: txn(200) });
    assert!(matches!(w.to(m(1)).1, Packet::AbortTransaction { txn: t, .. } if t == txn(200)));
}

#[test]
fn the_primary_lost_before_finish_fails_the_transaction() {
    for voted in [false, true] {
        let mut w = World::with_txn(1, 1);
        w.store_locked(&[s(1)], 5, 0, "a");
        if voted {
            w.vote_all(&[s(1)]);
        } else {
            w.vote();
        }
        w.lose(m(1));
        if voted {
            assert!(matches!(w.events.pop_front(), Some(Event::NotReady { .. })));
            w.command(Command::Finish { txn: T, reply: R });
        }
        assert!(matches!(w.failure(), Error::NotReady(_)), "voted: {voted}");
    }
}

#[test]
fn a_begin_is_asked_again_of_the_next_primary() {
    let mut w = World::new(1, 1);
    w.command(Command::Begin {
        txn: T,
        reply: R,
        tid: None,
    });
    w.to(m(1));
    w.lose(m(1));
    w.events.clear();
    w.next_timer();
    // The first attempt goes to the next master.
    let (token, _) = w.connecting.pop_front().unwrap();
    w.input(Input::ConnectFailed {
        token,
        error: "refused".into(),
    });
    w.next_timer();
    w.accept_master();
    let (id, packet) = w.to(m(1));
    assert_eq!(packet, Packet::AskBeginTransaction { tid: None });
    w.says(m(1), id, Packet::AnswerBeginTransaction { txn: txn(300) });
    assert!(matches!(w.events.pop_front(), Some(Event::Ready { .. })));
    assert_eq!(w.reply(), (R, Ok(Reply::Begun(txn(300)))));
}

#[test]
fn nodes_that_started_later_are_not_written_to() {
    let mut w = World::cold(2, 1);
    w.states.insert(s(2), NodeState::Pending);
    w.input(Input::Timer);
    w.accept_master();
    w.events.clear();
    w.begin(T, 200);
    w.set_state(s(2), NodeState::Running);
    w.store_locked(&[s(1)], 5, 0, "a");
    w.vote_all(&[s(1)]);
}

#[test]
fn corrupted_cells_are_not_written_to() {
    let mut w = World::with_cells(2, 1, &[(0, 2, CellState::Corrupted)]);
    w.begin(T, 200);
    w.store_locked(&[s(1)], 5, 0, "a");
}

#[test]
fn an_unreachable_node_is_tried_a_few_times_before_it_is_given_up() {
    let mut w = World::with_txn(2, 1);
    w.unreachable = vec![s(2)];
    w.store(5, 0, value("a"));
    let (id, _) = w.stored(s(1), 5);
    w.answer_store(s(1), id, StoreOutcome::Locked);
    assert!(w.events.is_empty());
    w.wait(Duration::from_millis(10));
    // The second attempt succeeds: nothing is lost.
    w.unreachable.clear();
    w.wait(Duration::from_millis(100));
    let (id, _) = w.stored(s(2), 5);
    w.answer_store(s(2), id, StoreOutcome::Locked);
    assert_eq!(w.reply(), (ReplyId(1005), Ok(Reply::Done)));

    let mut w = World::with_txn(2, 1);
    w.unreachable = vec![s(2)];
    w.store(5, 0, value("a"));
    let (id, _) = w.stored(s(1), 5);
    w.answer_store(s(1), id, StoreOutcome::Locked);
    for _ in 0..3 {
        w.wait(Duration::from_millis(100));
    }
    assert_eq!(w.reply(), (ReplyId(1005), Ok(Reply::Done)));
    w.vote();
    w.answer_vote(s(1));
    assert!(matches!(w.to(m(1)).1, Packet::AskFailedVote { nodes, .. } if nodes == [s(2)]));
}

#[test]
fn a_node_whose_machine_is_gone_is_given_up_like_one_that_refuses() {
    let mut w = World::with_txn(2, 1);
    w.silent = vec![s(2)];
    w.store(5, 0, value("a"));
    let (id, _) = w.stored(s(1), 5);
    w.answer_store(s(1), id, StoreOutcome::Locked);
    let (late, _) = w.connecting.front().cloned().expect("it is connecting");
    for _ in 0..5 {
        assert!(w.events.is_empty());
        w.next_timer();
    }
    assert!(w.now.mono.since(Instant(0)) < Duration::from_secs(10));
    assert_eq!(w.reply(), (ReplyId(1005), Ok(Reply::Done)));
    // A connection that comes after all is not wanted any more.
    let conn = ConnId(99);
    w.input(Input::Connected { token: late, conn });
    assert_eq!(w.closed, [conn]);
    w.vote();
    w.answer_vote(s(1));
    assert!(matches!(w.to(m(1)).1, Packet::AskFailedVote { nodes, .. } if nodes == [s(2)]));
}

#[test]
fn a_silent_storage_does_not_hang_a_transaction_for_ever() {
    let mut w = World::with_txn(1, 1);
    w.store(5, 0, value("a"));
    let (id, _) = w.stored(s(1), 5);
    let holder = txn(199);
    w.notify(
        s(1),
        Packet::NotifyDelayed {
            request: id,
            holder,
        },
    );
    w.wait(Duration::from_secs(59));
    assert!(w.events.is_empty());
    w.wait(Duration::from_secs(2));
    let Error::Timeout(words) = w.failure() else {
        panic!("no timeout");
    };
    assert!(
        words.contains("S1") && words.contains(&holder.to_string()),
        "{words}"
    );
}

#[test]
fn closing_finishes_what_is_being_committed() {
    let mut w = World::with_txn(1, 1);
    w.vote_all(&[s(1)]);
    let id = w.finish();
    w.begin(TxnKey(2), 201);
    w.command(Command::Close);
    assert!(!w.stopped);
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
    assert!(w.stopped);
    w.command(Command::Sync { reply: R });
    assert!(matches!(w.failure(), Error::Closed));
}
