//! Replication that is interrupted, badly served, or in the way of clients.

use super::replication::*;
use super::*;

#[test]
fn late_answers_of_an_aborted_replication_are_ignored() {
    let mut pair = Pair::with(&commits(9), memory());
    pair.register(10_017, &[]);
    pair.hold = true;
    pair.run();
    // It is let in, and told how far the source is packed.
    pair.step();
    pair.step();
    let late = std::mem::take(&mut pair.held);
    assert!(matches!(late[0].packet, Packet::AnswerTransactions { .. }));
    // The cell is assigned anew: what was asked is given up, and asked again, of the same source.
    pair.replica
        .tell_table(table_of(3, CellState::OutOfDate, 3));
    pair.source.tell_table(table_of(3, CellState::OutOfDate, 3));
    pair.register(10_017, &[]);
    pair.run();
    pair.step();
    pair.step();
    let new = std::mem::replace(&mut pair.held, late);
    assert!(!new.is_empty());
    pair.held.extend(new);
    pair.hold = false;
    pair.run();
    let (cell, tid) = (cell(3), Tid(10_017));
    assert_eq!(pair.done(), [Packet::NotifyReplicationDone { cell, tid }]);
    pair.assert_equal();
    // Each was fetched once.
    let puts = pair
        .replica
        .applied
        .iter()
        .flat_map(|(batch, _)| &batch.ops);
    let puts = puts.filter(|op| matches!(op, WriteOp::PutObject { .. }));
    assert_eq!(puts.count(), 9);
}

#[test]
fn a_source_that_is_lost_is_replaced_and_nothing_is_fetched_twice() {
    let mut pair = Pair::with(&commits(3_000), memory());
    pair.register(15_999, &[]);
    pair.hold = true;
    pair.run();
    // It is let in; then the first window, and a part of the next one.
    for _ in 0..5 {
        pair.step();
    }
    pair.break_link();
    pair.asked.clear();
    pair.hold = false;
    pair.run();
    assert!(
        pair.asked.is_empty(),
        "the only source failed: it is let alone for a moment"
    );
    pair.replica.sleep(Duration::from_millis(100));
    pair.run();
    let first = pair.asked.iter().find_map(|packet| match packet {
        Packet::AskTransactions { min, .. } => Some(min.0),
        _ => None,
    });
    assert!(first > Some(10_001), "{first:?}");
    assert_eq!(pair.done(), [caught_up(15_999)]);
    pair.assert_equal();
}

#[test]
fn a_source_that_loses_the_partition_is_left() {
    let mut pair = Pair::with(&commits(9), memory());
    pair.register(10_017, &[]);
    // It knows before the replica does.
    let mut cells = table_of(3, CellState::OutOfDate, 1);
    cells.rows[1][1].state = CellState::OutOfDate;
    pair.source.tell_table(cells);
    pair.run();
    assert_eq!(rows(&pair.replica).0, []);
    pair.source.tell_table(table_of(4, CellState::OutOfDate, 1));
    pair.replica.sleep(Duration::from_secs(1));
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_017)]);
}

#[test]
fn a_damaged_value_is_not_taken() {
    let mut pair = Pair::with(&commits(3), memory());
    pair.register(10_005, &[]);
    pair.hold = true;
    let spoil = |message: &mut Message| {
        let mut bytes = message.payload.to_vec();
        match bytes.first_mut() {
            Some(byte) => *byte ^= 1,
            None => return false,
        }
        message.payload = bytes.into();
        true
    };
    pair.run();
    let mut spoilt = 0;
    while spoilt == 0 {
        pair.step();
        assert!(!pair.held.is_empty());
        spoilt = pair
            .held
            .iter_mut()
            .map(spoil)
            .filter(|spoilt| *spoilt)
            .count();
    }
    assert_eq!(spoilt, 1);
    pair.hold = false;
    pair.run();
    assert_eq!(rows(&pair.replica).0, [], "nothing of it is written");
    assert_eq!(pair.done(), []);
    // Later, the value is well.
    pair.replica.sleep(Duration::from_secs(1));
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_005)]);
    pair.assert_equal();
}

#[test]
fn a_crash_at_any_write_loses_nothing_and_what_is_remembered_is_there() {
    let all = commits(2_500);
    let mut whole = Pair::with(&all, memory());
    whole.register(14_999, &[]);
    whole.run();
    let writes = whole.replica.applied.len();
    assert!(writes > 5, "{writes}");
    let (revisions, tids) = rows(&whole.source);
    for n in 3..=writes {
        let backend = whole.replica.after_crash(n);
        let mut pair = Pair::with(&[], backend);
        // What is remembered as complete is.
        if let Some(text) = pair.replica.config("replicated/1") {
            let upto: Tid = text.rsplit(' ').next().unwrap().parse().unwrap();
            let complete = |(r, t): (Vec<_>, Vec<Tid>)| {
                let r: Vec<neo_api::FetchedRevision> = r;
                let r: Vec<_> = r.into_iter().filter(|r| r.id.tid <= upto).collect();
                let t: Vec<_> = t.into_iter().filter(|t| *t <= upto).collect();
                (r, t)
            };
            let here = complete(rows(&pair.replica));
            assert_eq!(
                here,
                complete((revisions.clone(), tids.clone())),
                "after {n}"
            );
        }
        // Once in a while, to the end.
        if n % 3 == 0 {
            pair.source = std::mem::replace(&mut whole.source, World::with(settings(), memory()));
            pair.register(14_999, &[]);
            pair.run();
            assert_eq!(pair.done(), [caught_up(14_999)], "after {n}");
            pair.assert_equal();
            whole.source = pair.source;
            // Its connections are those of another life.
            for n in 0..5 {
                whole.source.lose(ConnId(LINK.0 + n));
            }
        }
    }
}

#[test]
fn a_disk_that_refuses_is_tried_again_later() {
    let mut pair = Pair::with(&commits(9), memory());
    pair.replica.fails = Some((
        |op| matches!(op, WriteOp::PutData { .. }),
        || BackendError::Full,
    ));
    pair.register(10_017, &[]);
    pair.run();
    assert_eq!(pair.replica.stopped, None);
    let told = Packet::NotifySpace { is_full: true };
    assert_eq!(pair.done(), [told]);
    pair.replica.fails = None;
    pair.replica.sleep(Duration::from_secs(1));
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_017)]);
    pair.assert_equal();
}

#[test]
fn the_loss_of_the_primary_ends_it_and_it_goes_on_from_there() {
    let mut pair = Pair::with(&commits(2_500), memory());
    pair.register(14_999, &[]);
    pair.hold = true;
    pair.run();
    for _ in 0..5 {
        pair.step();
    }
    pair.hold = false;
    assert!(pair.replica.config("replicated/1").is_some());
    pair.replica.lose(MASTER);
    pair.run();
    pair.asked.clear();
    pair.replica.join();
    pair.replica.serve_in(MASTER, REIGN);
    pair.register(14_999, &[]);
    pair.run();
    let first = pair.asked.iter().find_map(|packet| match packet {
        Packet::AskTransactions { min, .. } => Some(min.0),
        _ => None,
    });
    assert!(first > Some(10_001), "{first:?}");
    assert_eq!(pair.done(), [caught_up(14_999)]);
    pair.assert_equal();
}

fn slowly(settings: &mut StorageSettings) {
    settings.limits.replication_bytes_per_s_min = 1000;
}

#[test]
fn a_source_reads_for_replicas_when_no_client_waits_or_it_is_due() {
    let mut pair = Pair::start(&commits(30), memory(), slowly);
    let c = pair.source.client(2);
    pair.source.hold_reads = true;
    pair.source.load(c, 5, At::Latest);
    pair.register(10_059, &[]);
    pair.run();
    // The first ones are due at once; then the rate is reached.
    for _ in ["how far it is packed", "transactions"] {
        assert_eq!(pair.source.reads.len(), 2);
        pair.source.read_one(1);
        pair.run();
    }
    assert_eq!(pair.source.reads.len(), 1, "only the client's");
    // Some seconds later it is due again.
    let due = pair.source.core.poll_timeout().unwrap();
    assert!(due.0 > pair.source.mono);
    pair.source.sleep(Duration::from_secs(8));
    assert_eq!(pair.source.reads.len(), 2);
    // And at once when nobody waits.
    pair.source.release_reads();
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_059)]);
}

#[test]
fn a_replica_writes_when_no_client_waits_or_it_is_due() {
    let mut pair = Pair::start(&commits(1_500), memory(), slowly);
    let c = pair.replica.client(2);
    pair.replica.hold_reads = true;
    // Of the partition that is readable.
    pair.replica.load(c, 4, At::Latest);
    pair.replica.hold_reads = false;
    let client = pair.replica.reads.remove(0);
    pair.register(12_999, &[]);
    pair.run();
    let written = rows(&pair.replica).1.len();
    assert!(written < 1_500, "{written}");
    assert_eq!(pair.done(), []);
    let mut waits = 0;
    while pair.done().is_empty() {
        waits += 1;
        assert!(waits < 50);
        pair.replica.sleep(Duration::from_secs(400));
        pair.run();
    }
    assert!(waits > 1, "{waits}");
    pair.assert_equal();
    let (token, query) = client;
    let result = now_or_never(execute_query(&pair.replica.backend, query));
    pair.replica.done(Done::Read { token, result });
    assert_eq!(pair.replica.take(c).len(), 1);
}

/// A storage node identifies at S1.
pub(super) fn visit(world: &mut World, conn: ConnId, session: u64) {
    let from = Address::new("s2", 1);
    world.give(Input::Accepted { conn, from });
    let identification = Box::new(Identification {
        node_type: NodeType::Storage,
        nid: Some(storage(2)),
        ..world.identification(1, session)
    });
    world.ask(conn, Packet::RequestIdentification { identification });
}

#[test]
fn a_storage_node_is_let_in_when_the_primary_knows_it() {
    let mut world = World::serving();
    let conn = ConnId(900);
    visit(&mut world, conn, 7);
    assert_eq!(world.packets(conn), []);
    let nodes = vec![World::node(storage(2), 7)];
    world.notify(MASTER, Packet::NotifyNodeInformation { full: false, nodes });
    assert!(matches!(
        world.one(conn),
        Packet::AcceptIdentification { .. }
    ));
    // A former life of it is not.
    let old = ConnId(901);
    visit(&mut world, old, 2);
    assert_error(&world.one(old), ErrorCode::NotReady);
    // When the primary says that it is gone, so is its connection.
    let nodes = vec![NodeInfo {
        state: NodeState::Down,
        ..World::node(storage(2), 7)
    }];
    world.notify(MASTER, Packet::NotifyNodeInformation { full: false, nodes });
    assert!(world.closed.contains_key(&conn));
}

#[test]
fn a_storage_node_may_ask_for_what_it_lacks_and_nothing_else() {
    let mut world = World::serving();
    let partition = Partition(0);
    let min = (Tid::ZERO, Oid::ZERO).into();
    let (max, entries, bytes) = (Tid::MAX, 10, 10);
    let allowed = [
        Packet::AskTransactions {
            partition,
            min: Tid::ZERO,
            max,
            entries,
            order: neo_api::Order::Ascending,
        },
        Packet::AskRevisions {
            partition,
            min,
            max,
            bytes,
        },
        Packet::AskRevisionIds {
            partition,
            min,
            max,
            entries,
        },
    ];
    let conn = ConnId(900);
    visit(&mut world, conn, 2);
    world.take(conn);
    for packet in allowed {
        world.ask(conn, packet);
        assert!(world.one(conn).is_answer());
    }
    let c = world.client(1);
    world.ask(
        c,
        Packet::AskRevisionIds {
            partition,
            min,
            max,
            entries,
        },
    );
    assert_error(&world.one(c), ErrorCode::Protocol);
    let at = At::Latest;
    world.ask(conn, Packet::AskObject { oid: Oid(4), at });
    assert_error(&world.one(conn), ErrorCode::Protocol);
    assert!(world.closed.contains_key(&conn));
}

#[test]
fn a_source_waits_for_what_is_locked_at_or_below_what_is_asked() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.voted(c, 10, &[4]);
    world.locked(10, 20);
    let conn = ConnId(900);
    visit(&mut world, conn, 2);
    world.take(conn);
    let partition = Partition(0);
    let min = (Tid::ZERO, Oid::ZERO).into();
    let mut ask = |max| {
        let packet = Packet::AskRevisionIds {
            partition,
            min,
            max: Tid(max),
            entries: 10,
        };
        world.ask(conn, packet);
        world.packets(conn)
    };
    let none = Packet::AnswerRevisionIds {
        ids: vec![],
        complete: true,
    };
    assert_eq!(ask(19), [none]);
    assert_eq!(ask(20), []);
    world.unlock(10);
    let ids = vec![(Tid(20), Oid(4)).into()];
    let complete = true;
    assert_eq!(world.one(conn), Packet::AnswerRevisionIds { ids, complete });
}

#[test]
fn unlocks_are_written_in_the_order_of_the_primary() {
    let mut world = World::serving();
    let c = world.client(1);
    for n in 0..2_500 {
        world.stored(c, 10, 2 * n, 0, "x");
    }
    world.voted(c, 10, &(0..2_500).map(|n| 2 * n).collect::<Vec<_>>());
    world.stored(c, 12, 5_001, 0, "y");
    world.voted(c, 12, &[5_001]);
    world.locked(10, 20);
    world.locked(12, 22);
    world.hold_writes = true;
    let before = world.applied.len();
    world.unlock(10);
    world.unlock(12);
    world.release_writes();
    let tids: Vec<u64> = world.applied[before..]
        .iter()
        .flat_map(|(batch, _)| &batch.ops)
        .filter_map(|op| match op {
            WriteOp::PutObject { id, .. } => Some(id.tid.0),
            _ => None,
        })
        .collect();
    assert_eq!(tids.len(), 2_501);
    assert!(tids.is_sorted(), "{tids:?}");
}

#[test]
fn how_far_a_cell_goes_is_known_before_it_is_out_of_date() {
    // S1 has voted for a transaction that was never unlocked here: it may lack it.
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 11, 5, 0, 21);
    world.stored(c, 13, 7, 0, "seven");
    world.voted(c, 13, &[7]);
    world.stored(c, 15, 9, 0, "nine");
    world.voted(c, 15, &[9]);
    world.locked(13, 23);
    world.locked(15, 25);
    world.lose(MASTER);
    world.join();
    world.tell_table(table_of(2, CellState::OutOfDate, 1));
    let remembered = world.config("replicated/1").unwrap();
    assert_eq!(
        remembered,
        format!("3 1 {}", Tid(12)),
        "before the least that is unfinished"
    );
    let (batch, durability) = world.applied.last().unwrap();
    assert_eq!(*durability, Durability::Synced);
    let table = |op: &WriteOp| matches!(op, WriteOp::SetPartitionTable(_));
    assert!(batch.ops.iter().any(table), "in one batch with the table");
}
