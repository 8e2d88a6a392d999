//! Loads: replicas that fail, and transactions that come between.

use neo_api::{Compression, Loaded, RevisionId};
use neo_proto::{ObjectAnswer, Oids, WireRevision, WireValue};

use super::*;

fn found(w: &mut World, nid: NodeId, id: MsgId, oid: u64, serial: u64, next: Option<u64>) {
    let data = Bytes::from_static(b"data");
    let record = Record::raw(data.clone());
    let answer = ObjectAnswer::Found {
        serial: Tid(serial),
        next_serial: next.map(Tid),
        compression: record.compression,
        checksum: record.checksum,
        data_serial: None,
    };
    let oid = Oid(oid);
    w.says_with(nid, id, Packet::AnswerObject { oid, answer }, data);
}

/// Serial, next serial, validity and who waited.
fn loaded(w: &mut World) -> (u64, Option<u64>, Validity, Vec<u64>) {
    match w.events.pop_front() {
        Some(Event::Loaded {
            waiters,
            loaded: Loaded::Found(found),
            validity,
            ..
        }) => (
            found.serial.0,
            found.next_serial.map(|tid| tid.0),
            validity,
            waiters.into_iter().map(|id| id.0).collect(),
        ),
        other => panic!("{other:?}"),
    }
}

fn invalidate(w: &mut World, tid: u64, oids: &[u64]) {
    let oids = Oids(oids.iter().map(|oid| Oid(*oid)).collect());
    w.notify(
        m(1),
        Packet::InvalidateObjects {
            tid: Tid(tid),
            oids,
        },
    );
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Invalidated { .. })
    ));
}

#[test]
fn the_newest_is_as_of_the_last_tid() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Latest);
    let (nid, id, at) = w.asked_object();
    assert_eq!(at, At::Before(Tid(101)));
    found(&mut w, nid, id, 5, 90, None);
    assert_eq!(loaded(&mut w), (90, None, Validity::Current, vec![1]));
    assert_eq!(w.consumed, 4);
    assert!(w.core.timers.next().is_none());
}

#[test]
fn the_same_loads_are_one() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Latest);
    w.load(2, 5, At::Before(Tid(101)));
    w.load(3, 5, At::Before(Tid(100)));
    let (nid, id, _) = w.asked_object();
    found(&mut w, nid, id, 5, 90, None);
    assert_eq!(loaded(&mut w).3, [1, 2]);
    let (.., at) = w.asked_object();
    assert_eq!(at, At::Before(Tid(100)));
}

#[test]
fn an_answer_that_raced_with_an_invalidation_is_not_current() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    invalidate(&mut w, 110, &[4, 5]);
    invalidate(&mut w, 120, &[5]);
    found(&mut w, nid, id, 5, 90, None);
    assert_eq!(
        loaded(&mut w),
        (90, Some(110), Validity::Until(Tid(110)), vec![1])
    );
}

#[test]
fn an_answer_that_raced_with_an_own_commit_is_not_current() {
    let mut w = World::with_txn(1, 1);
    w.store_locked(&[s(1)], 5, 90, "mine");
    w.vote_all(&[s(1)]);
    let finish = w.finish();
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    let tid = Tid(205);
    w.says(
        m(1),
        finish,
        Packet::AnswerTransactionFinished { txn: txn(200), tid },
    );
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Committed { .. })
    ));
    found(&mut w, nid, id, 5, 90, None);
    assert_eq!(
        loaded(&mut w),
        (90, Some(205), Validity::Until(Tid(205)), vec![1])
    );
}

#[test]
fn the_storage_knows_of_a_change_before_the_client() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    found(&mut w, nid, id, 5, 90, Some(130));
    assert_eq!(
        loaded(&mut w),
        (90, Some(130), Validity::Until(Tid(130)), vec![1])
    );
}

#[test]
fn an_answer_over_a_gap_is_valid_up_to_it() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    w.notify(m(1), Packet::InvalidateAll { tid: Tid(150) });
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Resynced {
            known: Tid(100),
            tid: Tid(150)
        })
    ));
    // The object may have changed before this, too.
    invalidate(&mut w, 160, &[5]);
    found(&mut w, nid, id, 5, 90, None);
    assert_eq!(
        loaded(&mut w),
        (90, None, Validity::AtLeast(Tid(101)), vec![1])
    );
}

#[test]
fn an_exact_revision_is_not_current_when_it_changed_meanwhile() {
    // Not known yet: the primary is asked first, and tells of it before it answers.
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Exact(Tid(110)));
    let (id, packet) = w.to(m(1));
    assert_eq!(packet, Packet::AskLastTransaction {});
    invalidate(&mut w, 105, &[5]);
    invalidate(&mut w, 110, &[5]);
    w.says(m(1), id, Packet::AnswerLastTransaction { tid: Tid(110) });
    let (nid, id, at) = w.asked_object();
    assert_eq!(at, At::Exact(Tid(110)));
    invalidate(&mut w, 115, &[5]);
    found(&mut w, nid, id, 5, 110, None);
    assert_eq!(
        loaded(&mut w),
        (110, Some(115), Validity::Until(Tid(115)), vec![1])
    );
}

#[test]
fn no_storage_is_asked_about_the_future() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Before(Tid::MAX));
    w.load(2, 6, At::Exact(Tid(500)));
    w.load(3, 5, At::Latest);
    let (nid, three, at) = w.asked_object();
    assert_eq!(at, At::Before(Tid(101)));
    for _ in 0..2 {
        let (id, _) = w.to(m(1));
        w.says(m(1), id, Packet::AnswerLastTransaction { tid: Tid(100) });
    }
    // The first is now what the third is; nothing can have the second's serial.
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Loaded { loaded: Loaded::NotYet, waiters, .. }) if waiters == [ReplyId(2)]
    ));
    w.quiet();
    found(&mut w, nid, three, 5, 90, None);
    assert_eq!(loaded(&mut w).3, [3, 1]);
}

#[test]
fn another_replica_is_asked_when_one_fails() {
    let mut w = World::new(3, 1);
    w.load(1, 5, At::Latest);
    let (first, id, _) = w.asked_object();
    w.error(first, id, ErrorCode::NonReadableCell);
    let (second, ..) = w.asked_object();
    w.lose(second);
    let (third, id, _) = w.asked_object();
    assert!(first != second && second != third && third != first);
    found(&mut w, third, id, 5, 90, None);
    assert_eq!(loaded(&mut w).0, 90);
}

#[test]
fn a_node_that_the_primary_gives_up_is_not_waited_for() {
    let mut w = World::new(2, 1);
    w.load(1, 5, At::Latest);
    let (first, ..) = w.asked_object();
    let conn = w.conns[&first];
    w.set_state(first, NodeState::Down);
    assert!(w.closed.contains(&conn));
    let (second, id, _) = w.asked_object();
    assert_ne!(first, second);
    found(&mut w, second, id, 5, 90, None);
    loaded(&mut w);
}

#[test]
fn a_damaged_answer_goes_to_another_replica_then_to_the_caller() {
    let mut w = World::new(2, 1);
    w.load(1, 5, At::Latest);
    for round in 0..2 {
        let (nid, id, _) = w.asked_object();
        let answer = ObjectAnswer::Found {
            serial: Tid(90),
            next_serial: None,
            compression: Compression::None,
            checksum: record("data").checksum,
            data_serial: None,
        };
        let packet = Packet::AnswerObject {
            oid: Oid(5),
            answer,
        };
        w.says_with(nid, id, packet, Bytes::from_static(b"dato"));
        assert_eq!(w.events.is_empty(), round == 0);
    }
    assert!(matches!(
        w.failure(),
        Error::Checksum {
            oid: Oid(5),
            tid: Tid(101)
        }
    ));
}

/// What a node has is not what its checksum was made of.
fn damaged(w: &mut World, nid: NodeId, id: MsgId, compression: Compression, data: &'static [u8]) {
    let answer = ObjectAnswer::Found {
        serial: Tid(90),
        next_serial: None,
        compression,
        checksum: record("data").checksum,
        data_serial: None,
    };
    let packet = Packet::AnswerObject {
        oid: Oid(5),
        answer,
    };
    w.says_with(nid, id, packet, Bytes::from_static(data));
}

fn value(w: &mut World) -> (Record, Option<Tid>, Validity) {
    match w.events.pop_front() {
        Some(Event::Loaded {
            loaded: Loaded::Found(found),
            validity,
            ..
        }) => (found.record, found.next_serial, validity),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damaged_data_is_given_out_where_nobody_has_it_right_and_that_is_wanted() {
    let mut w = World::new(2, 1);
    w.core.settings.ignore_wrong_checksum = true;
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    invalidate(&mut w, 110, &[5]);
    damaged(&mut w, nid, id, Compression::None, b"dato");
    assert!(w.events.is_empty());
    let (nid, id, _) = w.asked_object();
    damaged(&mut w, nid, id, Compression::Zlib, b"data is no stream");
    // The last one that was asked; what can't be decompressed is nothing. It is not taken for
    // current, however it came.
    let (record, next, validity) = value(&mut w);
    assert!(record.is_intact() && record.data.is_empty());
    assert_eq!((next, validity), (None, Validity::AtLeast(Tid(91))));
    // One that is right is what counts.
    w.load(2, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    damaged(&mut w, nid, id, Compression::None, b"dato");
    let (nid, id, _) = w.asked_object();
    found(&mut w, nid, id, 5, 90, None);
    assert_eq!(value(&mut w).0.data, "data");
}

#[test]
fn damaged_data_has_the_next_serial_that_was_heard_of_meanwhile() {
    let mut w = World::new(1, 1);
    w.core.settings.ignore_wrong_checksum = true;
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    invalidate(&mut w, 110, &[5]);
    damaged(&mut w, nid, id, Compression::None, b"dato");
    let (record, next, validity) = value(&mut w);
    assert!(record.is_intact() && record.data == "dato");
    assert_eq!(next, Some(Tid(110)));
    assert_eq!(validity, Validity::Until(Tid(110)));
}

#[test]
fn damaged_data_of_a_page_is_given_out_if_that_is_wanted() {
    for ignore in [false, true] {
        let mut w = World::new(1, 1);
        w.core.settings.ignore_wrong_checksum = ignore;
        w.command(Command::Page {
            reply: ReplyId(1),
            page: Page::Current {
                partition: Partition(0),
                min: Oid(0),
                at: Tid(100),
                bytes: 1 << 20,
                values: true,
            },
        });
        let (id, _) = w.try_to(s(1)).unwrap();
        let revision = |oid, text: &str| WireRevision {
            id: RevisionId { tid: Tid(90), oid },
            value: Some(WireValue {
                compression: Compression::None,
                checksum: record(text).checksum,
                bytes: 4,
            }),
            data_serial: None,
        };
        let packet = Packet::AnswerCurrentRevisions {
            revisions: vec![revision(Oid(5), "data"), revision(Oid(6), "good")],
            next: None,
            packed: false,
        };
        w.says_with(s(1), id, packet, Bytes::from_static(b"datogood"));
        if !ignore {
            assert!(matches!(w.failure(), Error::Checksum { .. }));
            continue;
        }
        let Some(Event::Reply {
            result: Ok(Reply::Current { revisions, .. }),
            ..
        }) = w.events.pop_front()
        else {
            panic!("no page")
        };
        let told: Vec<_> = revisions
            .into_iter()
            .map(|(wire, data)| (wire.value.unwrap().checksum, data.unwrap()))
            .collect();
        let wanted = ["dato", "good"].map(|text| (record(text).checksum, Bytes::from(text)));
        assert_eq!(told, wanted);
    }
}

#[test]
fn an_answer_that_does_not_fit_the_question_is_not_believed() {
    let mut w = World::new(2, 1);
    w.load(1, 5, At::Before(Tid(50)));
    let (nid, id, _) = w.asked_object();
    found(&mut w, nid, id, 5, 50, None);
    let (other, id, _) = w.asked_object();
    assert_ne!(nid, other);
    found(&mut w, other, id, 5, 40, Some(49));
    assert!(matches!(w.failure(), Error::Checksum { .. }));
}

#[test]
fn without_a_readable_replica_it_waits_without_spinning() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Latest);
    let mut asked = 0;
    while w.now.mono < Instant(0) + Duration::from_secs(59) {
        if let Some((id, _)) = w.try_to(s(1)) {
            asked += 1;
            w.error(s(1), id, ErrorCode::NonReadableCell);
        }
        w.next_timer();
    }
    // 5 ms, doubling to 1 s: about 8 + 58.
    assert!((20..100).contains(&asked), "{asked}");
    w.wait(Duration::from_secs(2));
    let Error::Timeout(words) = w.failure() else {
        panic!("no timeout");
    };
    assert!(words.contains("object 0000000000000005"), "{words}");
}

#[test]
fn a_load_waits_for_the_primary_to_come_back() {
    let mut w = World::new(1, 1);
    w.load(1, 5, At::Latest);
    w.asked_object();
    w.lose(m(1));
    w.next_timer();
    while w.connecting.iter().all(|(_, to)| *to != address(m(1))) {
        let (token, _) = w.connecting.pop_front().unwrap();
        w.input(Input::ConnectFailed {
            token,
            error: "refused".into(),
        });
        w.next_timer();
    }
    w.last_tid = Tid(140);
    w.accept_master();
    assert!(matches!(w.events.pop_front(), Some(Event::NotReady { .. })));
    assert!(matches!(
        w.events.pop_front(),
        Some(Event::Resynced {
            known: Tid(100),
            tid: Tid(140)
        })
    ));
    assert!(matches!(w.events.pop_front(), Some(Event::Ready { .. })));
    let (nid, id, at) = w.asked_object();
    assert_eq!(at, At::Before(Tid(101)));
    found(&mut w, nid, id, 5, 90, Some(130));
    assert_eq!(loaded(&mut w).1, Some(130));
}

#[test]
fn a_page_of_revisions_is_checked() {
    let mut w = World::new(2, 1);
    let min = RevisionId {
        tid: Tid(1),
        oid: Oid(0),
    };
    w.command(Command::Page {
        reply: R,
        page: Page::Revisions {
            partition: Partition(0),
            min,
            max: Tid(90),
            bytes: 1000,
        },
    });
    let revision = |tid: u64, text: &str| WireRevision {
        id: RevisionId {
            tid: Tid(tid),
            oid: Oid(1),
        },
        value: Some(WireValue {
            compression: Compression::None,
            checksum: record(text).checksum,
            bytes: text.len() as u32,
        }),
        data_serial: None,
    };
    let next = |w: &mut World| {
        let found = [s(1), s(2)]
            .into_iter()
            .find_map(|n| Some((n, w.try_to(n)?.0)));
        found.expect("a storage is asked")
    };
    let (nid, id) = next(&mut w);
    let packet = Packet::AnswerRevisions {
        revisions: vec![revision(80, "one"), revision(70, "two")],
        complete: true,
    };
    w.says_with(nid, id, packet, Bytes::from_static(b"onetwo"));
    let (nid, id) = next(&mut w);
    let revisions = vec![revision(70, "two"), revision(80, "one")];
    let packet = Packet::AnswerRevisions {
        revisions: revisions.clone(),
        complete: true,
    };
    w.says_with(nid, id, packet, Bytes::from_static(b"twoone"));
    let values = [
        Some(Bytes::from_static(b"two")),
        Some(Bytes::from_static(b"one")),
    ];
    let revisions = revisions.into_iter().zip(values).collect();
    assert_eq!(
        w.reply(),
        (
            R,
            Ok(Reply::Revisions {
                revisions,
                complete: true
            })
        )
    );
}
