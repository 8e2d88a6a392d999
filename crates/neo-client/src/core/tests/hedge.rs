//! Reads of slow and silent nodes, which another replica answers.

use neo_api::{Loaded, RevisionId};
use neo_proto::{ObjectAnswer, Oids};

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

fn loaded(w: &mut World) -> (u64, Option<u64>, Validity) {
    match w.events.pop_front() {
        Some(Event::Loaded {
            loaded: Loaded::Found(found),
            validity,
            ..
        }) => (found.serial.0, found.next_serial.map(|tid| tid.0), validity),
        other => panic!("{other:?}"),
    }
}

/// Connected to every node, with a short delay: loads that were answered at once.
fn warm(storages: u32) -> World {
    let mut w = World::new(storages, 1);
    for n in 0..2_000 {
        w.load(n, 5, At::Latest);
        let (nid, id, _) = w.asked_object();
        w.now.mono = w.now.mono + Duration::from_micros(100);
        found(&mut w, nid, id, 5, 90, None);
        loaded(&mut w);
    }
    assert_eq!(w.core.patience[0].delay(), Duration::from_millis(10));
    w.consumed = 0;
    w
}

/// The node that is asked second, when the first one lets a load wait.
fn hedged(w: &mut World) -> ((NodeId, MsgId), (NodeId, MsgId)) {
    w.load(1, 5, At::Latest);
    let (first, first_id, _) = w.asked_object();
    w.quiet();
    w.next_timer();
    let (second, second_id, _) = w.asked_object();
    assert_ne!(first, second);
    ((first, first_id), (second, second_id))
}

#[test]
fn a_slow_node_is_overtaken_by_another_replica() {
    let mut w = warm(2);
    let began = w.now.mono;
    let (first, second) = hedged(&mut w);
    assert_eq!(w.now.mono.since(began), Duration::from_millis(10));
    found(&mut w, second.0, second.1, 5, 90, None);
    assert_eq!(loaded(&mut w), (90, None, Validity::Current));
    // The other answer is dropped; the sender gets its credit back for both.
    found(&mut w, first.0, first.1, 5, 90, None);
    w.quiet();
    assert_eq!(w.consumed, 8);
    assert!(w.core.requests.is_empty() && w.core.timers.next().is_none());
}

#[test]
fn the_first_node_may_still_be_the_first_to_answer() {
    let mut w = warm(2);
    let (first, second) = hedged(&mut w);
    found(&mut w, first.0, first.1, 5, 90, Some(130));
    assert_eq!(loaded(&mut w), (90, Some(130), Validity::Until(Tid(130))));
    found(&mut w, second.0, second.1, 5, 90, None);
    w.quiet();
}

#[test]
fn a_bad_answer_of_one_leaves_the_other() {
    for code in [ErrorCode::NonReadableCell, ErrorCode::Checksum] {
        for which in 0..2 {
            let mut w = warm(3);
            let (first, second) = hedged(&mut w);
            let (bad, good) = if which == 0 {
                (first, second)
            } else {
                (second, first)
            };
            w.error(bad.0, bad.1, code);
            // No third is asked while there is one.
            w.quiet();
            found(&mut w, good.0, good.1, 5, 90, None);
            assert_eq!(loaded(&mut w).0, 90);
        }
    }
}

#[test]
fn when_both_fail_a_third_is_asked() {
    let mut w = warm(3);
    let (first, second) = hedged(&mut w);
    w.lose(first.0);
    w.error(second.0, second.1, ErrorCode::NonReadableCell);
    let (third, id, _) = w.asked_object();
    assert!(third != first.0 && third != second.0);
    found(&mut w, third, id, 5, 90, None);
    assert_eq!(loaded(&mut w).0, 90);
}

#[test]
fn a_load_has_one_hedge_at_most() {
    let mut w = warm(3);
    hedged(&mut w);
    while w.events.is_empty() {
        w.next_timer();
        assert!(w.sent.values().all(VecDeque::is_empty));
    }
    let words = w.failure().to_string();
    assert!(words.contains(" or S"), "{words}");
    assert!(w.core.requests.is_empty());
}

#[test]
fn what_is_heard_since_the_first_was_asked_counts_for_both() {
    for which in 0..2 {
        let mut w = warm(2);
        w.load(1, 5, At::Latest);
        let (first, first_id, _) = w.asked_object();
        let tid = Tid(110);
        let oids = Oids(vec![Oid(5)]);
        w.notify(m(1), Packet::InvalidateObjects { tid, oids });
        w.events.clear();
        w.next_timer();
        let (second, second_id, at) = w.asked_object();
        // As of what was known at first.
        assert_eq!(at, At::Before(Tid(101)));
        let (nid, id) = [(first, first_id), (second, second_id)][which];
        found(&mut w, nid, id, 5, 90, None);
        assert_eq!(
            loaded(&mut w),
            (90, Some(110), Validity::Until(Tid(110))),
            "{which}"
        );
    }
}

#[test]
fn a_gap_counts_for_both() {
    let mut w = warm(2);
    w.load(1, 5, At::Latest);
    w.asked_object();
    w.notify(m(1), Packet::InvalidateAll { tid: Tid(150) });
    w.events.clear();
    w.next_timer();
    let (second, id, _) = w.asked_object();
    found(&mut w, second, id, 5, 90, None);
    assert_eq!(loaded(&mut w).2, Validity::AtLeast(Tid(101)));
}

#[test]
fn a_slow_node_is_preferred_less_for_a_while() {
    let mut w = warm(2);
    let (first, second) = hedged(&mut w);
    found(&mut w, second.0, second.1, 5, 90, None);
    loaded(&mut w);
    for n in 0..20 {
        w.load(n, 5, At::Latest);
        let (nid, id, _) = w.asked_object();
        assert_eq!(nid, second.0);
        found(&mut w, nid, id, 5, 90, None);
        loaded(&mut w);
    }
    w.wait(Duration::from_millis(1001));
    let mut again = false;
    for n in 0..20 {
        w.load(n, 5, At::Latest);
        let (nid, id, _) = w.asked_object();
        again |= nid == first.0;
        found(&mut w, nid, id, 5, 90, None);
        loaded(&mut w);
    }
    assert!(again, "it is tried again");
}

#[test]
fn only_so_many_reads_are_hedged() {
    let mut w = warm(2);
    // Everything is silent: 1000 loads at once, of different objects.
    for n in 0..1_000 {
        w.load(n, 1000 + n, At::Latest);
    }
    w.wait(Duration::from_millis(20));
    // What is asked of a node at one moment is one message.
    let objects = |message: &Message| match &message.packet {
        Packet::AskObjects { objects } => objects.len(),
        _ => 1,
    };
    let sent: usize = w.sent.values().flatten().map(objects).sum();
    // A hundred at once; then one of twenty reads that begin.
    assert_eq!(sent, 1_000 + 100);
    let delay = w.core.patience[0].delay();
    assert_eq!(delay, Duration::from_secs(1), "it waits longer then");
}

#[test]
fn a_client_that_slept_looks_at_the_answers_first() {
    let mut w = warm(2);
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    w.wait(Duration::from_secs(3));
    w.quiet();
    found(&mut w, nid, id, 5, 90, None);
    assert_eq!(loaded(&mut w).0, 90);
    assert!(w.core.storages[&nid].slow.is_none());
}

#[test]
fn without_another_replica_there_is_nothing_to_hedge() {
    let mut w = warm(1);
    w.load(1, 5, At::Latest);
    let (nid, id, _) = w.asked_object();
    for _ in 0..5 {
        w.next_timer();
    }
    w.quiet();
    // One comes.
    w.states.insert(s(2), NodeState::Running);
    w.set_state(s(2), NodeState::Running);
    w.change_cells(&[(0, 2, CellState::UpToDate)]);
    w.next_timer();
    let (other, ..) = w.asked_object();
    assert_eq!(other, s(2));
    found(&mut w, nid, id, 5, 90, None);
    assert_eq!(loaded(&mut w).0, 90);
}

#[test]
fn listings_are_hedged_with_a_delay_of_their_own() {
    let mut w = warm(2);
    let (tid, oid) = (Tid(1), Oid(0));
    w.command(Command::Page {
        reply: R,
        page: Page::Revisions {
            partition: Partition(0),
            min: RevisionId { tid, oid },
            max: Tid(90),
            bytes: 1000,
        },
    });
    let asked = |w: &mut World| {
        let mut nodes = NODES.into_iter();
        nodes.find_map(|nid| Some((nid, w.try_to(nid)?.0)))
    };
    let began = w.now.mono;
    let (first, _) = asked(&mut w).unwrap();
    w.next_timer();
    assert_eq!(w.now.mono.since(began), Duration::from_millis(100));
    let (second, id) = asked(&mut w).unwrap();
    assert_ne!(first, second);
    let packet = Packet::AnswerRevisions {
        revisions: Vec::new(),
        complete: true,
    };
    w.says(second, id, packet);
    assert!(matches!(w.reply(), (R, Ok(Reply::Revisions { .. }))));
}

#[test]
fn the_loss_of_the_primary_takes_both_back() {
    let mut w = warm(2);
    hedged(&mut w);
    w.lose(m(1));
    assert!(w.core.requests.is_empty() && w.conns.is_empty());
    w.wait(Duration::from_secs(61));
    w.events.pop_front();
    assert!(matches!(w.failure(), Error::NotReady(_)));
}
