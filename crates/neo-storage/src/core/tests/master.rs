//! The link to the primary: finding it, recovery, verification, tables, the end of service.

use neo_api::CellChange;

use super::*;

/// A connection to the next primary.
const NEXT: ConnId = ConnId(2);

fn recovery(world: &mut World, conn: ConnId) -> Box<neo_proto::Recovery> {
    world.ask(conn, Packet::AskRecovery {});
    match world.one(conn) {
        Packet::AnswerRecovery { recovery } => recovery,
        other => panic!("{other:?}"),
    }
}

fn locked(world: &mut World, conn: ConnId) -> Vec<(TxnId, Option<Tid>)> {
    let after = None;
    world.ask(conn, Packet::AskLockedTransactions { after });
    match world.one(conn) {
        Packet::AnswerLockedTransactions {
            transactions,
            more: false,
        } => transactions,
        other => panic!("{other:?}"),
    }
}

fn validate(world: &mut World, ttid: u64, tid: u64) {
    let (txn, tid) = (txn(ttid), Tid(tid));
    world.ask(MASTER, Packet::AskValidateTransaction { txn, tid });
    let answer = world.one(MASTER);
    assert_eq!(answer, Packet::AnswerTransactionValidated { txn });
}

#[test]
fn a_secondary_names_the_primary() {
    let mut world = World::with(settings(), memory());
    let (token, _) = world.connects.remove(0);
    world.give(Input::Connected { token, conn: NEXT });
    let id = world.take(NEXT)[0].id;
    let primary = Some(Address::new("m2", 2));
    let masters = vec![];
    world.answer(NEXT, id, Packet::NotPrimaryMaster { primary, masters });
    assert!(world.closed.contains_key(&NEXT));
    let (token, to) = world.connects.remove(0);
    assert_eq!(to, Address::new("m2", 2));
    // Nobody there: it is known as one of the masters now; after a pause, from the first.
    let mut attempt = token;
    for _ in 0..2 {
        let (token, error) = (attempt, "refused".to_owned());
        world.give(Input::ConnectFailed { token, error });
        if let Some((token, _)) = world.connects.pop() {
            attempt = token;
        }
    }
    world.join();
    let nid = storage(1);
    let known = vec![Address::new("m1", 1), Address::new("m2", 2)];
    let events = [
        StorageEvent::Masters(known),
        StorageEvent::Identified { nid },
    ];
    assert_eq!(world.events, events);
}

#[test]
fn another_cluster_ends_the_node_and_a_conflict_is_tried_again() {
    for (code, ends) in [
        (ErrorCode::OtherCluster, true),
        (ErrorCode::IdConflict, false),
        (ErrorCode::NotReady, false),
    ] {
        let mut world = World::with(settings(), memory());
        let (token, _) = world.connects.remove(0);
        world.give(Input::Connected { token, conn: NEXT });
        let id = world.take(NEXT)[0].id;
        let message = "words".to_owned();
        world.answer(NEXT, id, Packet::Error { code, message });
        assert_eq!(world.stopped.is_some(), ends, "{code}");
        if !ends {
            world.join();
        }
    }
}

#[test]
fn a_master_that_does_not_answer_is_left() {
    let mut world = World::with(settings(), memory());
    let (token, _) = world.connects.remove(0);
    world.give(Input::Connected { token, conn: NEXT });
    world.sleep(Duration::from_secs(9));
    assert!(world.closed.is_empty());
    world.sleep(Duration::from_secs(1));
    assert!(world.closed.contains_key(&NEXT));
    world.join();
}

#[test]
fn what_is_remembered_is_told() {
    let mut world = World::with(settings(), memory());
    world.join();
    let nothing = recovery(&mut world, MASTER);
    assert_eq!((nothing.version, nothing.reign), (None, Reign(0)));
    world.ask(MASTER, Packet::AskPartitionTable {});
    let table_ = None;
    assert_eq!(
        world.one(MASTER),
        Packet::AnswerPartitionTable { table: table_ }
    );
    world.tell_table(table(2, 1, CellState::UpToDate));
    world.serve();
    for mark in [200, 100] {
        let mark = Oid(mark);
        world.ask(MASTER, Packet::AskStoreOidMark { mark });
        assert_eq!(world.one(MASTER), Packet::AnswerOidMarkStored { mark });
    }
    // The process starts again.
    let mut world = World::with(settings(), world.after_crash(world.synced()));
    world.join();
    let known = recovery(&mut world, MASTER);
    assert_eq!(known.version, Some(version(1)));
    assert_eq!((known.reign, known.oid_mark), (REIGN, Oid(200)));
    assert_eq!(known.identity, Some(identity()));
    let table = Some(Box::new(table(2, 1, CellState::UpToDate)));
    world.ask(MASTER, Packet::AskPartitionTable {});
    assert_eq!(world.one(MASTER), Packet::AnswerPartitionTable { table });
    assert_eq!(world.config("nid"), Some("S1".to_owned()));
    assert_eq!(world.config("cluster"), Some("test".to_owned()));
}

#[test]
fn a_database_of_another_cluster_is_not_opened() {
    let world = World::serving();
    let backend = world.after_crash(world.applied.len());
    let mut other = settings();
    other.cluster = "other".to_owned();
    let world = World::with(other, backend);
    let failure = world.stopped.flatten().unwrap();
    assert!(failure.contains("belongs to cluster \"test\""), "{failure}");
}

#[test]
fn a_table_is_durable_before_what_came_after_it_is_looked_at() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "before");
    world.hold_writes = true;
    let changes = vec![CellChange {
        partition: Partition(0),
        cell: Cell {
            nid: storage(2),
            state: CellState::OutOfDate,
            assigned: version(1),
        },
    }];
    let change = Packet::NotifyPartitionChanges {
        base: version(1),
        version: version(2),
        replicas: 1,
        changes,
    };
    world.notify(MASTER, change);
    // Whatever it is, from whomever.
    world.store(c, 12, 6, 0, "after");
    world.vote(c, 10, &[4], 1);
    world.load(c, 4, At::Latest);
    world.ask(MASTER, Packet::AskLastIds {});
    assert!(world.take(c).is_empty() && world.take(MASTER).is_empty());
    world.write_one();
    let version_ = version(2);
    let answers = world.packets(MASTER);
    let stored = Packet::NotifyPartitionTableStored { version: version_ };
    assert_eq!(answers[0], stored);
    world.release_writes();
    assert_eq!(world.take(c).len(), 3);
    let stored = now_or_never(world.backend.partition_table()).unwrap();
    assert_eq!(stored.unwrap().version, version(2));
}

#[test]
fn messages_that_wait_for_a_table_are_bounded_and_go_with_their_connection() {
    let mut settings = settings();
    settings.limits.held_messages_max = 2;
    let mut world = World::serving_with(settings);
    let (c, d) = (world.client(1), world.client(2));
    world.hold_writes = true;
    let table = Box::new(table(2, 2, CellState::UpToDate));
    let identity = None;
    world.notify(MASTER, Packet::SendPartitionTable { identity, table });
    world.load(c, 4, At::Latest);
    world.load(c, 6, At::Latest);
    world.load(d, 4, At::Latest);
    assert!(world.closed.contains_key(&d));
    world.lose(c);
    world.release_writes();
    assert!(world.take(c).is_empty() && world.take(d).is_empty());
}

#[test]
fn a_table_that_cannot_be_is_refused() {
    let older = table(2, 1, CellState::UpToDate);
    let narrower = table(1, 9, CellState::UpToDate);
    let mut nonsense = table(2, 9, CellState::UpToDate);
    nonsense.rows[0].reverse();
    for bad in [older, narrower, nonsense] {
        let mut world = World::with(settings(), memory());
        world.join();
        world.tell_table(table(2, 2, CellState::UpToDate));
        let table = Box::new(bad);
        let identity = None;
        world.notify(MASTER, Packet::SendPartitionTable { identity, table });
        assert!(world.closed.contains_key(&MASTER));
        assert!(world.stopped.is_none());
    }
    // Changes of a table that is not here: the node comes back for the whole.
    let mut world = World::serving();
    let c = world.client(1);
    let change = Packet::NotifyPartitionChanges {
        base: version(5),
        version: version(6),
        replicas: 1,
        changes: vec![],
    };
    world.notify(MASTER, change);
    assert!(world.closed.contains_key(&MASTER) && world.closed.contains_key(&c));
    assert_eq!(world.events.last(), Some(&StorageEvent::NotOperating));
}

#[test]
fn a_draft_makes_the_id_durable_and_fixes_nothing_else() {
    let mut world = World::with(settings(), memory());
    world.join();
    let mut draft = table(3, 0, CellState::UpToDate);
    draft.rows.iter_mut().for_each(Vec::clear);
    world.tell_table(draft);
    assert_eq!(world.config("nid").as_deref(), Some("S1"));
    assert!(world.config("cluster_id").is_some());
    // The attempt that succeeds is another one, with another number of partitions.
    world.tell_table(table(2, 1, CellState::UpToDate));
    world.serve();
}

#[test]
fn an_id_that_is_not_durable_ends_with_its_primary() {
    let mut world = World::with(settings(), memory());
    world.join();
    assert_eq!(world.core.nid(), Some(storage(1)));
    world.lose(MASTER);
    assert_eq!(world.core.nid(), None);
    world.join_at(NEXT);
    assert_eq!(world.core.nid(), Some(storage(1)));
    let mut world = World::serving();
    world.lose(MASTER);
    assert_eq!(world.core.nid(), Some(storage(1)));
}

#[test]
fn an_id_is_noted_with_the_first_table_that_gives_it_cells() {
    let mut world = World::with(settings(), memory());
    world.join();
    let mut of_others = table(2, 1, CellState::UpToDate);
    for row in &mut of_others.rows {
        row.retain(|cell| cell.nid != storage(1));
    }
    world.tell_table(of_others.clone());
    assert_eq!(world.config("nid"), None);
    assert!(
        world.config("cluster_id").is_some(),
        "it is no other cluster's"
    );
    world.lose(MASTER);
    assert_eq!(world.core.nid(), None);
    // What it knows of the cluster it tells; who it is, it does not know.
    let mut world = World::with(settings(), world.after_crash(world.synced()));
    assert_eq!(world.core.nid(), None);
    world.join();
    assert_eq!(recovery(&mut world, MASTER).version, Some(version(1)));
    world.tell_table(of_others.clone());
    let cell = Cell {
        nid: storage(1),
        state: CellState::OutOfDate,
        assigned: version(2),
    };
    let change = Packet::NotifyPartitionChanges {
        base: version(1),
        version: version(2),
        replicas: 1,
        changes: vec![CellChange {
            partition: Partition(0),
            cell,
        }],
    };
    world.notify(MASTER, change);
    let stored = Packet::NotifyPartitionTableStored {
        version: version(2),
    };
    assert_eq!(world.packets(MASTER), [stored]);
    assert_eq!(world.config("nid").as_deref(), Some("S1"));
    // From now on it keeps it, also when the cell goes.
    of_others.version = version(3);
    world.tell_table(of_others);
    let world = World::with(settings(), world.after_crash(world.synced()));
    assert_eq!(world.core.nid(), Some(storage(1)));
}

#[test]
fn an_older_table_of_a_newer_epoch_is_taken() {
    let mut world = World::with(settings(), memory());
    world.join();
    world.tell_table(table(2, 9, CellState::UpToDate));
    let mut identity = identity();
    let mut epoch = identity.epochs[0];
    epoch.number = 2;
    epoch.parent = Some(epoch.id);
    epoch.id = EpochId([9; 16]);
    identity.epochs.push(epoch);
    let table = Box::new(table(2, 2, CellState::OutOfDate));
    let identity = Some(identity);
    world.notify(MASTER, Packet::SendPartitionTable { identity, table });
    let version = version(2);
    let stored = Packet::NotifyPartitionTableStored { version };
    assert_eq!(world.one(MASTER), stored);
    assert_eq!(world.config("epochs").unwrap().lines().count(), 2);
}

#[test]
fn an_earlier_reign_does_not_start() {
    let mut world = World::serving();
    world.lose(MASTER);
    world.join_at(NEXT);
    let reign = Reign(2);
    world.ask(NEXT, Packet::AskStartReign { reign });
    assert_error(&world.one(NEXT), ErrorCode::Protocol);
    assert!(world.closed.contains_key(&NEXT));
}

#[test]
fn losing_the_primary_ends_the_service() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "voted");
    world.voted(c, 10, &[4]);
    world.stored(c, 12, 6, 0, "not voted");
    world.lose(MASTER);
    assert!(world.closed.contains_key(&c));
    assert!(!world.core.is_operating());
    // It comes back, and tells what is voted; what it voted for nobody is gone when it serves.
    world.join_at(NEXT);
    assert_eq!(locked(&mut world, NEXT), [(txn(10), None)]);
    world.serve_in(NEXT, Reign(4));
    assert!(world.unfinished().is_empty() && world.loose() == 0);
    let reign = Reign(4);
    let conn = ConnId(150);
    let from = Address::new("c", 1);
    world.give(Input::Accepted { conn, from });
    let mut identification = Box::new(world.identification(1, 10));
    identification.session = Some((reign, SessionId(10)));
    world.ask(conn, Packet::RequestIdentification { identification });
    assert!(matches!(
        world.one(conn),
        Packet::AcceptIdentification { .. }
    ));
    world.load(conn, 4, At::Latest);
    let (oid, answer) = (Oid(4), ObjectAnswer::Unknown);
    assert_eq!(world.one(conn), Packet::AnswerObject { oid, answer });
}

#[test]
fn recovery_waits_for_the_writes_of_the_service_before() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "voted");
    world.voted(c, 10, &[4]);
    world.hold_writes = true;
    world.lock(10, 20);
    world.lose(MASTER);
    world.join_at(NEXT);
    let after = None;
    world.ask(NEXT, Packet::AskLockedTransactions { after });
    assert!(world.take(NEXT).is_empty());
    world.release_writes();
    let transactions = vec![(txn(10), Some(Tid(20)))];
    let more = false;
    assert_eq!(
        world.one(NEXT),
        Packet::AnswerLockedTransactions { transactions, more }
    );
    assert!(world.packets(MASTER).is_empty());
}

#[test]
fn a_lock_of_what_has_not_voted_is_a_disagreement() {
    for ask in [
        Packet::AskLockInformation {
            txn: txn(10),
            tid: Tid(20),
        },
        // The partition of the tid is not that of the ttid.
        Packet::AskLockInformation {
            txn: txn(12),
            tid: Tid(21),
        },
    ] {
        let mut world = World::serving();
        let c = world.client(1);
        world.stored(c, 10, 4, 0, "not voted");
        world.stored(c, 12, 6, 0, "voted");
        world.voted(c, 12, &[6]);
        world.ask(MASTER, ask);
        assert_error(&world.one(MASTER), ErrorCode::Protocol);
        assert!(world.closed.contains_key(&MASTER) && world.closed.contains_key(&c));
    }
    let mut world = World::serving();
    world.unlock(10);
    assert!(world.closed.contains_key(&MASTER));
}

#[test]
fn a_validation_survives_a_crash_at_every_batch() {
    let mut world = World::serving();
    let c = world.client(1);
    let oids: Vec<u64> = (0..2_500).map(|n| n * 2).collect();
    for oid in &oids {
        world.stored(c, 10, *oid, 0, "value");
    }
    world.voted(c, 10, &oids);
    let voted = world.applied.len();
    // The whole, and each beginning of it.
    let mut first = World::with(settings(), world.after_crash(voted));
    first.join();
    validate(&mut first, 10, 20);
    assert_eq!(first.applied.last().unwrap().1, Durability::Synced);
    let batches = first.applied.clone();
    assert!(batches.len() > 3);
    for n in 0..=batches.len() {
        let backend = world.after_crash(voted);
        for (batch, durability) in &batches[..n] {
            now_or_never(backend.apply(batch.clone(), *durability)).unwrap();
        }
        let mut again = World::with(settings(), backend);
        again.join();
        let known = locked(&mut again, MASTER);
        let expected = match n {
            0 => vec![(txn(10), None)],
            n if n < batches.len() => vec![(txn(10), Some(Tid(20)))],
            _ => vec![],
        };
        assert_eq!(known, expected, "after {n} batches");
        validate(&mut again, 10, 20);
        validate(&mut again, 10, 20);
        again.serve();
        let c = again.client(1);
        for oid in [oids[0], oids[1_500], oids[2_499]] {
            assert_eq!(again.loaded(c, oid, At::Latest).unwrap().0, 20);
        }
        assert!(again.unfinished().is_empty() && again.loose() == 0);
    }
}

#[test]
fn a_crash_during_an_unlock_leaves_a_locked_transaction() {
    let mut world = World::serving();
    let c = world.client(1);
    let oids: Vec<u64> = (0..2_500).map(|n| n * 2).collect();
    for oid in &oids {
        world.stored(c, 10, *oid, 0, "value");
    }
    world.voted(c, 10, &oids);
    world.locked(10, 20);
    let least = world.applied.len();
    world.unlock(10);
    assert_eq!(world.synced(), least);
    for n in least..=world.applied.len() {
        let mut again = World::with(settings(), world.after_crash(n));
        again.join();
        let known = locked(&mut again, MASTER);
        let moved = n == world.applied.len();
        assert_eq!(known.is_empty(), moved);
        let txn = txn(10);
        again.ask(MASTER, Packet::AskFinalTid { txn });
        let tid = FinalTid::Committed(Tid(20));
        assert_eq!(again.one(MASTER), Packet::AnswerFinalTid { tid });
        validate(&mut again, 10, 20);
        again.serve();
        let c = again.client(1);
        assert_eq!(again.loaded(c, 4_998, At::Latest).unwrap().0, 20);
    }
}

#[test]
fn a_truncation_removes_everything_after_a_tid() {
    let mut world = World::serving();
    let c = world.client(1);
    for n in 1..=3 {
        let ttid = n * 10;
        let serial = if n == 1 { 0 } else { ttid - 5 };
        world.commit(c, ttid, 4, serial, ttid + 4 + ttid % 2);
        world.commit(c, ttid + 1, 4, ttid + 4, ttid + 5);
        world.commit(c, ttid + 2, 5 + 2 * n, 0, ttid + 8);
    }
    world.lose(MASTER);
    world.join_at(NEXT);
    let after = Tid(24);
    world.ask(NEXT, Packet::AskTruncate { after });
    assert_eq!(world.one(NEXT), Packet::AnswerTruncated { after });
    assert_eq!(world.applied.last().unwrap().1, Durability::Synced);
    world.ask(NEXT, Packet::AskLastIds {});
    let Packet::AnswerLastIds { ids, .. } = world.one(NEXT) else {
        panic!("no last ids");
    };
    assert_eq!(ids.last_tid, Some(Tid(24)));
    assert_eq!((ids.first_tid, ids.last_oid), (Some(Tid(14)), Some(Oid(7))));
    let left = now_or_never(world.backend.load(Partition(0), Oid(4), At::Latest)).unwrap();
    assert!(matches!(left, neo_api::Loaded::Found(r) if r.serial == Tid(24)));
}

#[test]
fn last_ids_are_those_of_readable_partitions() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.commit(c, 31, 5, 0, 41);
    world.commit(c, 50, 5, 41, 60);
    let mut cells = table(2, 2, CellState::UpToDate);
    cells.rows[1][0].state = CellState::OutOfDate;
    world.tell_table(cells);
    world.ask(MASTER, Packet::AskLastIds {});
    let Packet::AnswerLastIds { ids, cells, .. } = world.one(MASTER) else {
        panic!("no last ids");
    };
    assert_eq!((ids.last_tid, ids.last_oid), (Some(Tid(60)), Some(Oid(4))));
    // The last transaction has its metadata here, and its object in the other partition.
    let end = (Partition(0), Some(Tid(60)), Some(Tid(20)));
    assert_eq!(cells, [end.into()]);
}

#[test]
fn what_a_crash_left_loose_is_collected_but_not_what_is_new() {
    let mut settings_ = settings();
    settings_.limits.transaction_buffered_bytes_max = 0;
    let mut world = World::serving_with(settings_.clone());
    let c = world.client(1);
    for n in 0..1_200 {
        world.stored(c, 10, n * 2, 0, "loose");
    }
    assert_eq!(world.loose(), 1_200);
    let backend = world.after_crash(world.applied.len());
    let mut world = World::with(settings_, backend);
    world.join();
    // It serves at once, before it has cleaned up.
    let reign = Reign(4);
    world.ask(MASTER, Packet::AskStartReign { reign });
    world.hold_reads = true;
    let operation = 1;
    world.notify(MASTER, Packet::StartOperation { operation });
    assert_eq!(
        world.packets(MASTER).last(),
        Some(&Packet::NotifyReady { operation })
    );
    let put = WriteOp::PutData {
        id: neo_api::DataId(9_999_999),
        owner: Some(TxnId {
            reign,
            ttid: Tid(50),
        }),
        record: neo_api::Record::raw(Bytes::from_static(b"in use")),
    };
    now_or_never(world.backend.apply(vec![put].into(), Durability::Buffered)).unwrap();
    world.release_reads();
    assert_eq!(world.loose(), 1);
}

#[test]
fn a_node_that_is_told_that_it_is_down_ends() {
    for state in [NodeState::Down, NodeState::Unknown] {
        let mut world = World::serving();
        let mut own = World::node(storage(1), 1);
        own.state = state;
        let nodes = vec![own];
        world.notify(MASTER, Packet::NotifyNodeInformation { full: false, nodes });
        assert_eq!(world.stopped, Some(None));
    }
    let mut world = World::serving();
    world.give(Input::Command(StorageCommand::Stop));
    assert_eq!(world.stopped, Some(None));
}

#[test]
fn stop_operation_sends_clients_away_and_service_can_start_again() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.notify(MASTER, Packet::StopOperation {});
    assert!(world.closed.contains_key(&c));
    let conn = ConnId(160);
    world.connect(conn, 1, 10);
    assert_error(&world.one(conn), ErrorCode::NotReady);
    world.serve_in(MASTER, REIGN);
    world.client(2);
}

#[test]
fn an_identification_waits_until_the_primary_tells() {
    let mut world = World::serving();
    // Not known yet.
    let (early, late) = (ConnId(201), ConnId(202));
    world.connect(early, 7, 70);
    world.connect(late, 8, 80);
    assert!(world.take(early).is_empty());
    let nodes = vec![World::node(client(7), 70)];
    world.notify(MASTER, Packet::NotifyNodeInformation { full: false, nodes });
    assert!(matches!(
        world.one(early),
        Packet::AcceptIdentification { .. }
    ));
    world.sleep(Duration::from_secs(5));
    assert_error(&world.one(late), ErrorCode::NotReady);
    assert!(world.closed.contains_key(&late));
    // A former life of a client whose id another one has now.
    let old = ConnId(203);
    world.connect(old, 7, 69);
    assert_error(&world.one(old), ErrorCode::NotReady);
    // The client comes back: its former connection is closed.
    let nodes = vec![World::node(client(7), 71)];
    world.notify(MASTER, Packet::NotifyNodeInformation { full: false, nodes });
    assert!(world.closed.contains_key(&early));
}

#[test]
fn who_is_no_client_of_this_cluster_is_refused() {
    let mut world = World::serving();
    let good = world.identification(1, 10);
    let mut other = good.clone();
    other.cluster = "other".to_owned();
    let mut other_id = good.clone();
    other_id.identity.as_mut().unwrap().id = ClusterId([9; 16]);
    let mut reign = good.clone();
    reign.session = Some((Reign(2), SessionId(10)));
    let mut storage_ = good.clone();
    storage_.node_type = NodeType::Storage;
    let mut nobody = good;
    nobody.session = None;
    for (n, (identification, code)) in (300..).zip([
        (other, ErrorCode::OtherCluster),
        (other_id, ErrorCode::OtherCluster),
        (reign, ErrorCode::NotReady),
        (storage_, ErrorCode::Denied),
        (nobody, ErrorCode::Protocol),
    ]) {
        let conn = ConnId(n);
        let from = Address::new("c", 1);
        world.give(Input::Accepted { conn, from });
        let identification = Box::new(identification);
        world.ask(conn, Packet::RequestIdentification { identification });
        assert_error(&world.one(conn), code);
        assert!(world.closed.contains_key(&conn));
    }
}

#[test]
fn nonsense_closes_the_connection_and_nothing_else() {
    let mut world = World::serving();
    let c = world.client(1);
    let stranger = ConnId(400);
    let from = Address::new("c", 1);
    world.give(Input::Accepted {
        conn: stranger,
        from,
    });
    world.load(stranger, 4, At::Latest);
    assert_error(&world.one(stranger), ErrorCode::Protocol);
    world.ask(c, Packet::AskRecovery {});
    assert_error(&world.one(c), ErrorCode::Protocol);
    assert!(world.closed.contains_key(&c) && world.closed.contains_key(&stranger));
    // Nobody says anything: closed after a while.
    let silent = ConnId(401);
    let from = Address::new("c", 1);
    world.give(Input::Accepted { conn: silent, from });
    world.sleep(Duration::from_secs(10));
    assert!(world.closed.contains_key(&silent));
    assert!(world.core.is_operating());
}

#[test]
fn a_client_that_only_reads_writes_nothing() {
    let mut world = World::serving();
    let conn = ConnId(500);
    let from = Address::new("c", 1);
    world.give(Input::Accepted { conn, from });
    let mut identification = Box::new(world.identification(1, 10));
    identification.read_only = true;
    world.ask(conn, Packet::RequestIdentification { identification });
    world.packets(conn);
    world.store(conn, 10, 4, 0, "four");
    assert_error(&world.one(conn), ErrorCode::ReadOnly);
    assert_eq!(world.consumed[&conn], 4);
    world.load(conn, 4, At::Latest);
    assert!(matches!(world.one(conn), Packet::AnswerObject { .. }));
}
