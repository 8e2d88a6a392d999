//! The gate: what waits, what does not, what is not readable.

use neo_api::Order;

use super::*;

fn tids(packet: &Packet) -> (Vec<u64>, bool) {
    match packet {
        Packet::AnswerTransactions {
            transactions,
            complete,
        } => (transactions.iter().map(|t| t.tid.0).collect(), *complete),
        other => panic!("{other:?}"),
    }
}

fn transactions(partition: u32, min: u64, max: u64, entries: u32) -> Packet {
    Packet::AskTransactions {
        partition: Partition(partition),
        min: Tid(min),
        max: Tid(max),
        entries,
        order: Order::Ascending,
    }
}

#[test]
fn a_reader_waits_from_lock_to_unlock_and_sees_the_new_revision() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 4, 20, "new");
    world.voted(c, 30, &[4]);
    // Until it is locked nobody waits.
    assert_eq!(world.loaded(c, 4, At::Latest).unwrap().0, 20);
    // From the moment the lock arrives, not when it is durable.
    world.hold_writes = true;
    world.lock(30, 40);
    world.load(c, 4, At::Latest);
    world.load(c, 4, At::Before(Tid(41)));
    world.load(c, 4, At::Exact(Tid(40)));
    assert!(world.take(c).is_empty());
    // Readers of other objects do not wait.
    world.load(c, 6, At::Latest);
    assert_eq!(world.take(c).len(), 1);
    world.release_writes();
    world.hold_writes = true;
    world.unlock(30);
    assert!(world.take(c).is_empty());
    world.release_writes();
    let answers: Vec<_> = world.take(c).into_iter().map(found).collect();
    assert_eq!(answers, vec![Some((40, None, "new".to_owned())); 3]);
}

/// Its client may know that the locked transaction is committed: an answer that names no next
/// revision would stay in its cache as the newest.
#[test]
fn a_reader_of_the_past_is_told_of_the_change_that_is_locked() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.commit(c, 22, 4, 20, 24);
    world.stored(c, 30, 4, 24, "new");
    world.voted(c, 30, &[4]);
    world.locked(30, 40);
    // What has a next revision already is answered at once.
    assert_eq!(world.loaded(c, 4, At::Before(Tid(24))).unwrap().0, 20);
    assert_eq!(world.loaded(c, 4, At::Exact(Tid(20))).unwrap().0, 20);
    // What is the newest waits for its next.
    world.load(c, 4, At::Before(Tid(40)));
    world.load(c, 4, At::Exact(Tid(24)));
    assert!(world.take(c).is_empty());
    world.unlock(30);
    let answers: Vec<_> = world.take(c).into_iter().map(found).collect();
    let told: Vec<_> = answers
        .into_iter()
        .map(|found| found.map(|(serial, next, _)| (serial, next)))
        .collect();
    assert_eq!(told, vec![Some((24, Some(40))); 2]);
}

/// Its client may have created the object just now.
#[test]
fn a_reader_of_what_was_before_a_creation_that_is_locked_hears_that_the_object_exists() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 6, 0, "new");
    world.voted(c, 30, &[6]);
    world.locked(30, 40);
    world.load(c, 6, At::Before(Tid(40)));
    let objects = [4, 6].map(|oid| (Oid(oid), At::Before(Tid(21)))).to_vec();
    world.ask(c, Packet::AskObjects { objects });
    assert!(world.take(c).is_empty());
    world.unlock(30);
    let answers = world.packets(c);
    let [
        Packet::AnswerObject { answer, .. },
        Packet::AnswerObjects { answers: many },
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(*answer, ObjectAnswer::NotYet);
    assert_eq!(many[1].0, ObjectAnswer::NotYet);
}

#[test]
fn a_listing_never_skips_a_locked_transaction_and_is_not_starved() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 6, 0, "six");
    world.voted(c, 30, &[6]);
    world.locked(30, 40);
    // Below the locked tid: at once.
    world.ask(c, transactions(0, 0, 39, 10));
    assert_eq!(tids(&world.one(c)), (vec![20], true));
    world.ask(c, transactions(0, 0, Tid::MAX.0, 10));
    let all = Packet::AskRevisions {
        partition: Partition(0),
        min: RevisionId {
            tid: Tid(0),
            oid: Oid(0),
        },
        max: Tid::MAX,
        bytes: 1000,
    };
    world.ask(c, all);
    world.ask(c, Packet::AskTransactionInformation { tid: Tid(40) });
    assert!(world.take(c).is_empty());
    // Another one is locked before the first is unlocked: it is not waited for.
    world.stored(c, 50, 8, 0, "eight");
    world.voted(c, 50, &[8]);
    world.locked(50, 60);
    world.unlock(30);
    let answers = world.packets(c);
    assert_eq!(answers.len(), 3, "{answers:?}");
    let listed = answers.iter().find_map(|answer| match answer {
        Packet::AnswerTransactions { .. } => Some(tids(answer)),
        _ => None,
    });
    assert_eq!(listed, Some((vec![20, 40], true)));
    let revisions = answers.iter().find_map(|answer| match answer {
        Packet::AnswerRevisions { revisions, .. } => {
            Some(revisions.iter().map(|r| r.id.tid.0).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(revisions, Some(vec![20, 40]));
}

#[test]
fn listings_come_in_pages() {
    let mut world = World::serving();
    let c = world.client(1);
    for n in 1..=5 {
        world.commit(c, n * 10, n * 2, 0, n * 10 + 2);
    }
    world.ask(c, transactions(0, 13, Tid::MAX.0, 3));
    assert_eq!(tids(&world.one(c)), (vec![22, 32, 42], false));
    world.ask(c, transactions(0, 43, Tid::MAX.0, 3));
    assert_eq!(tids(&world.one(c)), (vec![52], true));
    world.ask(c, transactions(0, 12, 32, 3));
    assert_eq!(tids(&world.one(c)), (vec![12, 22, 32], true));
    let page = |tid, oid, bytes| Packet::AskRevisions {
        partition: Partition(0),
        min: RevisionId {
            tid: Tid(tid),
            oid: Oid(oid),
        },
        max: Tid::MAX,
        bytes,
    };
    world.ask(c, page(0, 0, 6));
    let message = world.take(c).remove(0);
    let Packet::AnswerRevisions {
        revisions,
        complete: false,
    } = message.packet
    else {
        panic!("{message:?}");
    };
    let values = neo_proto::split_payload(&revisions, &message.payload).unwrap();
    assert_eq!(
        values,
        [Some(Bytes::from("2@12")), Some(Bytes::from("4@22"))]
    );
    world.ask(c, page(22, 5, 1000));
    let message = world.take(c).remove(0);
    let complete = matches!(
        message.packet,
        Packet::AnswerRevisions { complete: true, .. }
    );
    assert!(complete && message.payload == "6@328@4210@52");
}

#[test]
fn a_partition_that_goes_while_it_is_read_is_not_a_missing_object() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.hold_reads = true;
    world.load(c, 4, At::Latest);
    world.load(c, 5, At::Latest);
    let mut cells = table(2, 2, CellState::UpToDate);
    cells.rows[0].remove(0);
    world.tell_table(cells);
    world.release_reads();
    let answers = world.packets(c);
    assert_error(&answers[0], ErrorCode::NonReadableCell);
    assert!(matches!(
        answers[1],
        Packet::AnswerObject {
            answer: ObjectAnswer::Unknown,
            ..
        }
    ));
    world.load(c, 4, At::Latest);
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
}

#[test]
fn a_partition_that_goes_and_comes_back_while_it_is_read_is_not_readable_either() {
    let mut world = World::serving();
    let c = world.client(1);
    world.hold_reads = true;
    world.load(c, 4, At::Latest);
    world.tell_table(table(2, 2, CellState::OutOfDate));
    world.tell_table(table(2, 3, CellState::UpToDate));
    world.release_reads();
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
    world.load(c, 4, At::Latest);
    assert!(matches!(world.one(c), Packet::AnswerObject { .. }));
}

#[test]
fn reads_of_one_connection_are_bounded() {
    let mut settings = settings();
    settings.limits.running_reads_max = 2;
    settings.limits.waiting_reads_max = 3;
    let mut world = World::serving_with(settings);
    let (c, d) = (world.client(1), world.client(2));
    world.hold_reads = true;
    for oid in 0..5 {
        world.load(c, oid, At::Latest);
    }
    assert_eq!(world.reads.len(), 2);
    world.load(c, 5, At::Latest);
    assert_error(&world.one(c), ErrorCode::TooLarge);
    // Others are not in their way.
    world.load(d, 1, At::Latest);
    assert_eq!(world.reads.len(), 3);
    // In any order.
    world.read_one(1);
    assert_eq!((world.reads.len(), world.take(c).len()), (3, 1));
    world.lose(c);
    world.release_reads();
    assert!(world.take(c).is_empty());
    assert_eq!(world.take(d).len(), 1);
}

#[test]
fn nothing_is_read_for_a_peer_that_does_not_take_its_answers() {
    let mut world = World::serving();
    let (c, d) = (world.client(1), world.client(2));
    world.stored(c, 10, 4, 0, &"x".repeat(6 << 20));
    world.voted(c, 10, &[4]);
    world.locked(10, 20);
    world.unlock(10);
    world.take(c);
    world.hold_reads = true;
    // A few at first, then as many as are worth a window.
    for _ in 0..20 {
        world.load(c, 4, At::Latest);
    }
    assert_eq!(world.reads.len(), 4);
    world.read_one(0);
    assert_eq!(world.reads.len(), 3);
    world.read_one(0);
    assert_eq!(world.reads.len(), 2);
    // What runs is answered; no more is begun, and others are not concerned.
    world.congested(c, true);
    world.release_reads();
    assert_eq!(world.take(c).len(), 4);
    world.hold_reads = true;
    world.load(c, 4, At::Latest);
    assert_eq!(world.reads.len(), 0);
    world.load(d, 4, At::Latest);
    assert_eq!(world.reads.len(), 1);
    world.congested(c, false);
    assert_eq!(world.reads.len(), 3);
    world.release_reads();
    assert_eq!((world.take(c).len(), world.take(d).len()), (17, 1));
}

#[test]
fn a_final_tid_is_found_in_memory_and_in_the_database() {
    let mut world = World::serving();
    let c = world.client(1);
    let ask = |world: &mut World, ttid| {
        let txn = txn(ttid);
        world.ask(c, Packet::AskFinalTid { txn });
        match world.one(c) {
            Packet::AnswerFinalTid { tid } => tid,
            other => panic!("{other:?}"),
        }
    };
    world.stored(c, 10, 4, 0, "four");
    assert_eq!(ask(&mut world, 10), FinalTid::NotCommitted);
    world.voted(c, 10, &[4]);
    assert_eq!(ask(&mut world, 10), FinalTid::NotCommitted);
    world.locked(10, 20);
    assert_eq!(ask(&mut world, 10), FinalTid::Committed(Tid(20)));
    world.unlock(10);
    assert_eq!(ask(&mut world, 10), FinalTid::Committed(Tid(20)));
    // The same ttid in another reign is another transaction.
    let txn = TxnId {
        reign: Reign(2),
        ttid: Tid(10),
    };
    world.ask(c, Packet::AskFinalTid { txn });
    let tid = FinalTid::NotCommitted;
    assert_eq!(world.one(c), Packet::AnswerFinalTid { tid });
}

#[test]
fn stores_of_objects_that_are_new_or_were_seen_lately_read_nothing() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.commit(c, 12, 6, 0, 22);
    let backend = world.after_crash(world.applied.len());
    let mut again = World::with(settings(), backend);
    again.join();
    again.serve();
    let c = again.client(1);
    assert_eq!(again.loaded(c, 6, At::Latest).unwrap().0, 22);
    again.hold_reads = true;
    // New, read, and written by this very service.
    again.stored(c, 30, 8, 0, "new");
    again.stored(c, 30, 6, 22, "seen");
    again.voted(c, 30, &[6, 8]);
    again.locked(30, 40);
    again.unlock(30);
    again.stored(c, 50, 8, 40, "again");
    // Not seen since the node started.
    again.store(c, 50, 4, 20, "old");
    assert!(again.packets(c).is_empty());
    again.release_reads();
    assert_eq!(again.one(c), LOCKED);
}
