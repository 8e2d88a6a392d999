//! Loads of many objects: one request to each node, each load on its own.

use neo_api::Loaded;
use neo_proto::{ObjectAnswer, Oids};

use super::*;

fn load_many(w: &mut World, oids: &[u64]) {
    let loads = oids
        .iter()
        .map(|oid| (ReplyId(*oid), Oid(*oid), At::Latest));
    let loads = loads.collect();
    w.command(Command::LoadMany { loads });
}

/// Which objects a node is asked for.
fn asked(w: &mut World, nid: NodeId) -> (MsgId, Vec<u64>) {
    match w.to(nid) {
        (id, Packet::AskObjects { objects }) => {
            assert!(objects.iter().all(|(_, at)| *at == At::Before(Tid(101))));
            (id, objects.iter().map(|(oid, _)| oid.0).collect())
        }
        other => panic!("{other:?}"),
    }
}

/// Answers with a value each: the name of the object.
fn answer(w: &mut World, nid: NodeId, id: MsgId, oids: &[u64]) {
    let mut payload = Vec::new();
    let answers = oids.iter().map(|oid| {
        let data = oid.to_string();
        payload.extend_from_slice(data.as_bytes());
        let record = record(&data);
        let answer = ObjectAnswer::Found {
            serial: Tid(90),
            next_serial: None,
            compression: record.compression,
            checksum: record.checksum,
            data_serial: None,
        };
        (answer, data.len() as u32)
    });
    let answers = answers.collect();
    w.says_with(nid, id, Packet::AnswerObjects { answers }, payload.into());
}

/// The next object that is found, its waiters and how it may be kept.
fn found(w: &mut World) -> (u64, Vec<u64>, Validity) {
    match w.events.pop_front() {
        Some(Event::Loaded {
            oid,
            waiters,
            loaded: Loaded::Found(found),
            validity,
        }) => {
            assert_eq!(found.record.data, oid.0.to_string());
            (oid.0, waiters.iter().map(|id| id.0).collect(), validity)
        }
        other => panic!("{other:?}"),
    }
}

fn current(oid: u64) -> (u64, Vec<u64>, Validity) {
    (oid, vec![oid], Validity::Current)
}

#[test]
fn each_node_is_asked_once_for_what_it_has() {
    let discarded = CellState::Discarded;
    let mut w = World::with_cells(2, 2, &[(0, 2, discarded), (1, 1, discarded)]);
    load_many(&mut w, &[1, 2, 3, 4, 6]);
    let (first, even) = asked(&mut w, s(1));
    let (second, odd) = asked(&mut w, s(2));
    assert_eq!((&even[..], &odd[..]), (&[2, 4, 6][..], &[1, 3][..]));
    w.quiet();
    answer(&mut w, s(2), second, &odd);
    assert_eq!([found(&mut w), found(&mut w)], [current(1), current(3)]);
    answer(&mut w, s(1), first, &even);
    assert_eq!([found(&mut w), found(&mut w)], [current(2), current(4)]);
    assert_eq!(found(&mut w), current(6));
    assert_eq!(w.consumed, 5);
    assert!(w.core.timers.next().is_none() && w.core.batches.is_empty());
}

#[test]
fn what_an_answer_leaves_out_is_asked_again() {
    let mut w = World::new(1, 1);
    load_many(&mut w, &[1, 2, 3]);
    let (id, all) = asked(&mut w, s(1));
    assert_eq!(all, [1, 2, 3]);
    answer(&mut w, s(1), id, &[1]);
    assert_eq!(found(&mut w), current(1));
    let (id, rest) = asked(&mut w, s(1));
    assert_eq!(rest, [2, 3]);
    answer(&mut w, s(1), id, &[2]);
    assert_eq!(found(&mut w), current(2));
    // The last one is a load like any other.
    let (_, _, at) = w.asked_object();
    assert_eq!(at, At::Before(Tid(101)));
}

#[test]
fn a_load_that_is_on_its_way_is_not_asked_twice() {
    let mut w = World::new(1, 1);
    w.load(9, 2, At::Latest);
    load_many(&mut w, &[1, 2, 3, 1]);
    w.asked_object();
    let (id, asked) = asked(&mut w, s(1));
    assert_eq!(asked, [1, 3]);
    let oids = Oids(vec![Oid(3), Oid(7)]);
    let tid = Tid(110);
    w.notify(m(1), Packet::InvalidateObjects { tid, oids });
    w.events.clear();
    answer(&mut w, s(1), id, &[1, 3]);
    assert_eq!(found(&mut w), (1, vec![1, 1], Validity::Current));
    // A change came between: what was found ends with it.
    assert_eq!(found(&mut w), (3, vec![3], Validity::Until(Tid(110))));
}

#[test]
fn a_node_that_is_lost_leaves_all_to_another() {
    let mut w = World::new(2, 1);
    let all: Vec<u64> = (1..=20).collect();
    load_many(&mut w, &all);
    // Both have a share of them, by chance.
    let (_, mut of_first) = asked(&mut w, s(1));
    let (id, of_second) = asked(&mut w, s(2));
    answer(&mut w, s(2), id, &of_second);
    w.lose(s(1));
    let (id, again) = asked(&mut w, s(2));
    of_first.sort_unstable();
    assert_eq!(again, of_first);
    answer(&mut w, s(2), id, &again);
    let mut seen: Vec<u64> = all.iter().map(|_| found(&mut w).0).collect();
    seen.sort_unstable();
    assert_eq!(seen, all);
    w.quiet();
}

/// Another replica is asked for all that is late, in one request too, and the node counts as slow
/// once.
#[test]
fn a_slow_node_is_overtaken_for_all_that_it_was_asked() {
    let mut w = World::new(2, 1);
    let all: Vec<u64> = (1..=20).collect();
    load_many(&mut w, &all);
    let (slow, of_first) = asked(&mut w, s(1));
    let (id, of_second) = asked(&mut w, s(2));
    answer(&mut w, s(2), id, &of_second);
    for _ in &of_second {
        found(&mut w);
    }
    let before = w.core.patience[2].delay();
    w.next_timer();
    let (id, again) = asked(&mut w, s(2));
    assert_eq!(again, of_first);
    assert_eq!(w.core.patience[2].delay(), before + before / 10);
    answer(&mut w, s(2), id, &again);
    for oid in &of_first {
        assert_eq!(found(&mut w), current(*oid));
    }
    assert_eq!(w.cancelled.len(), 1);
    assert_eq!(w.cancelled[0].1, slow);
    w.quiet();
}

#[test]
fn an_answer_that_does_not_fit_is_a_broken_protocol() {
    for wrong in 0..4 {
        let mut w = World::new(1, 1);
        load_many(&mut w, &[1, 2]);
        let (id, _) = asked(&mut w, s(1));
        let not_yet = (ObjectAnswer::NotYet, 0);
        let (packet, payload) = match wrong {
            0 => (Packet::AnswerObjects { answers: vec![] }, Bytes::new()),
            1 => {
                let answers = vec![not_yet; 3];
                (Packet::AnswerObjects { answers }, Bytes::new())
            }
            2 => {
                let answers = vec![not_yet; 2];
                (Packet::AnswerObjects { answers }, Bytes::from_static(b"x"))
            }
            _ => (Packet::AnswerVoteTransaction {}, Bytes::new()),
        };
        w.says_with(s(1), id, packet, payload);
        assert_eq!(w.closed.len(), 1, "{wrong}");
        assert!(w.core.batches.is_empty());
    }
}

#[test]
fn a_value_that_is_damaged_is_asked_of_another_replica() {
    let mut w = World::new(2, 1);
    let all: Vec<u64> = (1..=20).collect();
    load_many(&mut w, &all);
    let (id, of_first) = asked(&mut w, s(1));
    let (_, _) = asked(&mut w, s(2));
    let record = record("data");
    let answer = ObjectAnswer::Found {
        serial: Tid(90),
        next_serial: None,
        compression: record.compression,
        checksum: record.checksum,
        data_serial: None,
    };
    let answers = vec![(ObjectAnswer::Unknown, 0), (answer, 4)];
    let payload = Bytes::from_static(b"date");
    w.says_with(s(1), id, Packet::AnswerObjects { answers }, payload);
    match w.events.pop_front() {
        Some(Event::Loaded { oid, loaded, .. }) => {
            assert_eq!((oid.0, loaded), (of_first[0], Loaded::Unknown));
        }
        other => panic!("{other:?}"),
    }
    // That one goes to the other; those that had no answer yet go anywhere.
    let mut to_second = Vec::new();
    while let Some((_, packet)) = w.try_to(s(2)) {
        match packet {
            Packet::AskObjects { objects } => to_second.extend(objects),
            Packet::AskObject { oid, at } => to_second.push((oid, at)),
            other => panic!("{other:?}"),
        }
    }
    assert!(to_second.iter().any(|(oid, _)| oid.0 == of_first[1]));
    assert!(w.events.is_empty());
}
