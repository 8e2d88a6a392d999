//! Several objects at once, and the past: histories, objects as they were, what an undo takes.

use neo_api::{HistoryEntry, Order};
use neo_proto::{UndoRevision, split_answers};

use super::*;

fn objects(list: &[(u64, At)]) -> Packet {
    let objects = list.iter().map(|(oid, at)| (Oid(*oid), *at));
    Packet::AskObjects {
        objects: objects.collect(),
    }
}

/// `serial..next value`, `serial deleted`, `not yet`, `unknown`.
fn answers(message: Message) -> Vec<String> {
    let Packet::AnswerObjects { answers } = message.packet else {
        panic!("{message:?}");
    };
    let split = split_answers(answers, &message.payload).unwrap();
    let line = |(answer, value): &(ObjectAnswer, Bytes)| match answer {
        ObjectAnswer::Found {
            serial,
            next_serial,
            ..
        } => {
            let next = next_serial.map_or_else(String::new, |tid| tid.0.to_string());
            let value = String::from_utf8_lossy(&value[..value.len().min(9)]).into_owned();
            format!("{}..{next} {value}", serial.0)
        }
        ObjectAnswer::Deleted { serial, .. } => format!("{} deleted", serial.0),
        ObjectAnswer::NotYet => "not yet".to_owned(),
        ObjectAnswer::Unknown => "unknown".to_owned(),
        ObjectAnswer::PackedAway => "packed away".to_owned(),
    };
    split.iter().map(line).collect()
}

fn one(world: &mut World, conn: ConnId) -> Message {
    let mut messages = world.take(conn);
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

const NEWEST: At = At::Latest;

#[test]
fn several_objects_are_answered_in_the_order_asked() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.commit(c, 22, 4, 20, 24);
    world.commit(c, 31, 5, 0, 41);
    let list = [
        (5, NEWEST),
        (4, At::Before(Tid(24))),
        (9, NEWEST),
        (4, NEWEST),
        (5, At::Before(Tid(41))),
        (4, At::Exact(Tid(20))),
    ];
    world.ask(c, objects(&list));
    assert_eq!(
        answers(one(&mut world, c)),
        [
            "41.. 5@41",
            "20..24 4@20",
            "unknown",
            "24.. 4@24",
            "not yet",
            "20..24 4@20"
        ]
    );
}

/// The answer ends with the one that reaches the bytes, and has one at least.
#[test]
fn an_answer_of_several_objects_is_bounded() {
    let mut world = World::serving();
    let c = world.client(1);
    for oid in [4, 6, 8] {
        world.stored(c, oid * 10, oid, 0, &"x".repeat(3 << 20));
        world.voted(c, oid * 10, &[oid]);
        world.locked(oid * 10, oid * 10 + 2);
        world.unlock(oid * 10);
    }
    world.take(c);
    world.ask(c, objects(&[(4, NEWEST), (6, NEWEST), (8, NEWEST)]));
    let found = answers(one(&mut world, c));
    assert_eq!(found, ["42.. xxxxxxxxx", "62.. xxxxxxxxx"]);
}

/// What is not readable here ends the answer, before it is read and after.
#[test]
fn an_answer_of_several_objects_stays_within_what_is_readable() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.commit(c, 31, 5, 0, 41);
    let both = [(5, NEWEST), (4, NEWEST)];
    // The partition of object 4 goes while both are read: neither is answered by this node.
    world.hold_reads = true;
    world.ask(c, objects(&both));
    let mut cells = table(2, 2, CellState::UpToDate);
    cells.rows[0].remove(0);
    world.tell_table(cells);
    world.release_reads();
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
    // It has gone: those before it are answered.
    world.ask(c, objects(&both));
    assert_eq!(answers(one(&mut world, c)), ["41.. 5@41"]);
    world.ask(c, objects(&[(4, NEWEST), (5, NEWEST)]));
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
}

#[test]
fn several_objects_wait_for_those_that_are_locked() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.commit(c, 30, 6, 0, 32);
    world.stored(c, 40, 4, 20, "new");
    world.voted(c, 40, &[4]);
    world.locked(40, 50);
    // Others are not concerned.
    world.ask(c, objects(&[(6, NEWEST)]));
    assert_eq!(answers(one(&mut world, c)), ["32.. 6@32"]);
    world.ask(c, objects(&[(6, NEWEST), (4, NEWEST)]));
    // Of the past, but what is found is the newest as long as the change is locked.
    world.ask(c, objects(&[(6, NEWEST), (4, At::Before(Tid(50)))]));
    assert!(world.take(c).is_empty());
    world.unlock(40);
    let mut found: Vec<_> = world.take(c).into_iter().map(answers).collect();
    found.sort();
    assert_eq!(
        found,
        [["32.. 6@32", "20..50 4@20"], ["32.. 6@32", "50.. new"]]
    );
}

fn history(oid: u64, before: u64, entries: u32) -> Packet {
    Packet::AskObjectHistory {
        oid: Oid(oid),
        before: Tid(before),
        entries,
    }
}

fn current(at: u64, values: bool) -> Packet {
    Packet::AskCurrentRevisions {
        partition: Partition(0),
        min: Oid(0),
        at: Tid(at),
        bytes: 1000,
        values,
    }
}

fn undo(undone: u64, before: u64, oids: &[u64]) -> Packet {
    let oids: Vec<Oid> = oids.iter().copied().map(Oid).collect();
    Packet::AskUndoRevisions {
        partition: Partition(0),
        undone: Tid(undone),
        before: Tid(before),
        oids: oids.into(),
    }
}

fn serials(packet: &Packet) -> (Vec<u64>, bool) {
    match packet {
        Packet::AnswerObjectHistory { entries, complete } => {
            (entries.iter().map(|e| e.serial.0).collect(), *complete)
        }
        other => panic!("{other:?}"),
    }
}

fn tids(packet: &Packet) -> Vec<u64> {
    match packet {
        Packet::AnswerTransactions { transactions, .. } => {
            transactions.iter().map(|t| t.tid.0).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_past_is_told_from_its_end() {
    let mut world = World::serving();
    let c = world.client(1);
    for (ttid, serial, tid) in [(10, 0, 20), (22, 20, 24), (30, 24, 32)] {
        world.commit(c, ttid, 4, serial, tid);
    }
    world.ask(c, history(4, u64::MAX, 2));
    let entry = |serial, bytes| HistoryEntry {
        serial: Tid(serial),
        data_serial: None,
        bytes: Some(bytes),
    };
    let expected = Packet::AnswerObjectHistory {
        entries: vec![entry(32, 4), entry(24, 4)],
        complete: false,
    };
    assert_eq!(world.one(c), expected);
    world.ask(c, history(4, 24, 2));
    assert_eq!(serials(&world.one(c)), (vec![20], true));
    world.ask(c, history(6, 24, 2));
    assert_eq!(serials(&world.one(c)), (vec![], true));
    let transactions = |min, max, entries| Packet::AskTransactions {
        partition: Partition(0),
        min: Tid(min),
        max: Tid(max),
        entries,
        order: Order::Descending,
    };
    let mut listed = |min, max, entries| {
        world.ask(c, transactions(min, max, entries));
        let packet = world.one(c);
        let complete = matches!(packet, Packet::AnswerTransactions { complete: true, .. });
        (tids(&packet), complete)
    };
    assert_eq!(listed(0, u64::MAX, 2), (vec![32, 24], false));
    assert_eq!(listed(0, 23, 2), (vec![20], true));
    assert_eq!(listed(24, 32, 2), (vec![32, 24], true));
    assert_eq!(listed(25, 31, 2), (vec![], true));
}

#[test]
fn the_past_waits_for_what_is_locked_in_it() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 4, 20, "new");
    world.voted(c, 30, &[4]);
    world.locked(30, 40);
    let down = Packet::AskTransactions {
        partition: Partition(0),
        min: Tid(0),
        max: Tid(40),
        entries: 9,
        order: Order::Descending,
    };
    // Before it: at once.
    for ask in [history(4, 40, 9), current(39, true), undo(20, 40, &[4])] {
        world.ask(c, ask);
        assert_eq!(world.packets(c).len(), 1);
    }
    let asked = [
        history(4, 41, 9),
        current(40, false),
        undo(20, 41, &[6, 4]),
        down,
    ];
    for ask in asked {
        world.ask(c, ask);
        assert!(world.take(c).is_empty());
    }
    world.unlock(30);
    let answers = world.packets(c);
    assert_eq!(answers.len(), 4, "{answers:?}");
    assert_eq!(serials(&answers[0]), (vec![40, 20], true));
    let Packet::AnswerCurrentRevisions {
        revisions,
        next,
        packed: false,
    } = &answers[1]
    else {
        panic!("{answers:?}");
    };
    let told: Vec<_> = revisions.iter().map(|r| (r.id.tid.0, r.value)).collect();
    assert_eq!((told, *next), (vec![(40, None)], None));
    let revision = UndoRevision {
        current: Tid(40),
        is_current: false,
        previous: None,
    };
    let expected = Packet::AnswerUndoRevisions {
        revisions: vec![None, Some(revision)],
        packed: false,
    };
    assert_eq!(answers[2], expected);
    assert_eq!(tids(&answers[3]), [40, 20]);
}

#[test]
fn objects_as_they_were_come_with_their_values() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.commit(c, 22, 6, 0, 24);
    world.commit(c, 30, 4, 20, 32);
    world.ask(c, current(24, true));
    let message = one(&mut world, c);
    let Packet::AnswerCurrentRevisions {
        revisions,
        next: None,
        packed: false,
    } = message.packet
    else {
        panic!("{message:?}");
    };
    let values = neo_proto::split_payload(&revisions, &message.payload).unwrap();
    assert_eq!(
        values,
        [Some(Bytes::from("4@20")), Some(Bytes::from("6@24"))]
    );
    let mut cells = table(2, 2, CellState::UpToDate);
    cells.rows[0].remove(0);
    world.tell_table(cells);
    for ask in [current(24, true), history(4, 9, 9), undo(20, 24, &[4])] {
        world.ask(c, ask);
        assert_error(&world.one(c), ErrorCode::NonReadableCell);
    }
}
