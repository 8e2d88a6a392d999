//! Stores, votes, locks and unlocks that go well, or are refused.

use super::*;

#[test]
fn a_transaction_is_stored_voted_locked_unlocked_and_read() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.stored(c, 10, 5, 0, "five");
    let before = world.applied.len();
    world.voted(c, 10, &[4, 5]);
    // One durable barrier for the vote, one for the lock; the unlock shares a later one.
    let durability = |w: &World| {
        w.applied[before..]
            .iter()
            .map(|(_, d)| *d)
            .collect::<Vec<_>>()
    };
    assert_eq!(durability(&world), [Durability::Synced]);
    assert_eq!(world.unfinished(), [(txn(10), None)]);
    world.locked(10, 20);
    assert_eq!(durability(&world), [Durability::Synced; 2]);
    assert_eq!(world.unfinished(), [(txn(10), Some(Tid(20)))]);
    world.unlock(10);
    assert_eq!(durability(&world)[2..], [Durability::Buffered]);
    assert!(world.unfinished().is_empty() && world.core.is_idle() && world.loose() == 0);
    let four = (20, None, "four".to_owned());
    assert_eq!(world.loaded(c, 4, At::Latest), Some(four));
    assert_eq!(world.loaded(c, 4, At::Before(Tid(20))), None);
    world.ask(c, Packet::AskTransactionInformation { tid: Tid(20) });
    let Packet::AnswerTransactionInformation {
        transaction: Some(transaction),
    } = world.one(c)
    else {
        panic!("the transaction is not found");
    };
    assert_eq!(transaction.oids, Oids(vec![Oid(4), Oid(5)]));
    assert_eq!(transaction.txn, Some(txn(10)));
    assert_eq!(world.consumed[&c], 8);
}

#[test]
fn the_primary_hears_of_a_vote_when_its_client_does() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.hold_writes = true;
    world.vote(c, 10, &[4], 1);
    assert_eq!(world.votes, []);
    world.release_writes();
    assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
    let vote = |ttid, metadata, partition| Packet::NotifyVoted {
        txn: txn(ttid),
        metadata,
        objects: vec![(Partition(partition), 1)],
    };
    assert_eq!(world.votes, [vote(10, true, 0)]);
    world.check(c, 12, 7, 0);
    assert_eq!(world.one(c), CHECKED);
    let (txn_, objects) = (txn(12), 1);
    world.ask(c, Packet::AskVoteTransaction { txn: txn_, objects });
    assert_eq!(world.votes, [vote(10, true, 0), vote(12, false, 1)]);
    assert_eq!(world.one(c), Packet::AnswerVoteTransaction {});
    // A vote that is refused is none.
    world.stored(c, 14, 5, 0, "five");
    world.vote(c, 14, &[5], 2);
    assert_eq!(world.votes.len(), 2);
}

#[test]
fn only_the_primary_takes_a_vote_back() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.voted(c, 10, &[4]);
    world.abort(c, 10);
    assert_eq!(world.unfinished(), [(txn(10), None)]);
    world.locked(10, 20);
    world.unlock(10);
    world.stored(c, 30, 4, 20, "four again");
    world.voted(c, 30, &[4]);
    world.abort(MASTER, 30);
    assert!(world.core.is_idle() && world.unfinished().is_empty());
}

#[test]
fn an_answer_waits_for_the_disk() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.hold_writes = true;
    world.vote(c, 10, &[4], 1);
    assert!(world.packets(c).is_empty());
    world.release_writes();
    assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
    world.hold_writes = true;
    world.lock(10, 20);
    assert!(world.packets(MASTER).is_empty());
    world.release_writes();
    let txn = txn(10);
    assert_eq!(world.one(MASTER), Packet::AnswerInformationLocked { txn });
    // The lock ends when the new revision is visible, not when unlock arrives.
    world.hold_writes = true;
    world.unlock(10);
    let id = world.store(c, 12, 4, 20, "again");
    assert_eq!(world.one(c), delayed(id, 10));
    world.release_writes();
    assert_eq!(world.one(c), LOCKED);
}

#[test]
fn what_is_stale_is_a_conflict_and_stays_locked() {
    let mut world = World::serving();
    let (c, d) = (world.client(1), world.client(2));
    world.commit(c, 10, 4, 0, 20);
    world.store(c, 30, 4, 0, "stale");
    assert_eq!(world.one(c), conflict(20));
    // Nobody younger comes between: the merge would be outrun.
    let id = world.store(d, 32, 4, 20, "fresh");
    assert_eq!(world.one(d), delayed(id, 30));
    // Nothing is stored before it is resolved.
    world.vote(c, 30, &[4], 1);
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    // The same object again, with the serial that was told.
    world.stored(c, 30, 4, 20, "resolved");
    world.voted(c, 30, &[4]);
    world.locked(30, 40);
    world.unlock(30);
    let resolved = (40, None, "resolved".to_owned());
    assert_eq!(world.loaded(c, 4, At::Latest), Some(resolved));
    assert_eq!(world.one(d), conflict(40));
}

#[test]
fn an_object_stored_twice_keeps_the_last_value() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 4, 20, "one");
    world.stored(c, 30, 4, 20, "two");
    // Both at once: they keep their order though the first looks at the serial.
    world.hold_reads = true;
    world.store(c, 30, 6, 0, "first");
    world.store(c, 30, 6, 0, "second");
    world.release_reads();
    assert_eq!(world.packets(c), [LOCKED, LOCKED]);
    world.voted(c, 30, &[4, 6]);
    world.locked(30, 40);
    world.unlock(30);
    assert_eq!(world.loaded(c, 4, At::Latest).unwrap().2, "two");
    assert_eq!(world.loaded(c, 6, At::Latest).unwrap().2, "second");
    assert_eq!(world.loose(), 0);
}

#[test]
fn a_second_store_from_an_older_serial_is_a_conflict() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 4, 20, "one");
    world.store(c, 30, 4, 10, "older");
    assert_eq!(world.one(c), conflict(20));
    world.vote(c, 30, &[4], 1);
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
}

#[test]
fn undo_repeats_an_earlier_value_and_a_deletion_has_none() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.commit(c, 22, 4, 20, 24);
    let repeat = |oid, serial, kind| Packet::AskStoreObject {
        txn: txn(30),
        oid: Oid(oid),
        serial: Tid(serial),
        kind,
    };
    world.ask(c, repeat(4, 24, StoreKind::SameAs(Tid(99))));
    assert_error(&world.one(c), ErrorCode::MissingRevision);
    world.ask(c, repeat(4, 24, StoreKind::SameAs(Tid(20))));
    assert_eq!(world.one(c), LOCKED);
    // A second undo in the transaction starts from what the first repeats.
    world.ask(c, repeat(4, 20, StoreKind::SameAs(Tid(20))));
    assert_eq!(world.one(c), LOCKED);
    world.voted(c, 30, &[4]);
    world.locked(30, 40);
    world.unlock(30);
    assert_eq!(
        world.loaded(c, 4, At::Latest),
        Some((40, None, "4@20".to_owned()))
    );
    let deletion = Packet::AskStoreObject {
        txn: txn(50),
        oid: Oid(4),
        serial: Tid(40),
        kind: StoreKind::Deletion,
    };
    world.ask(c, deletion);
    assert_eq!(world.one(c), LOCKED);
    world.voted(c, 50, &[4]);
    world.locked(50, 60);
    world.unlock(50);
    world.load(c, 4, At::Latest);
    let (serial, next_serial) = (Tid(60), None);
    let answer = ObjectAnswer::Deleted {
        serial,
        next_serial,
    };
    let oid = Oid(4);
    assert_eq!(world.one(c), Packet::AnswerObject { oid, answer });
}

#[test]
fn a_node_that_only_checks_writes_nothing() {
    let mut world = World::serving();
    let (c, d) = (world.client(1), world.client(2));
    world.commit(c, 10, 4, 0, 20);
    let before = world.applied.len();
    world.check(c, 31, 4, 20);
    assert_eq!(world.one(c), CHECKED);
    let (txn_, objects) = (txn(31), 1);
    world.ask(c, Packet::AskVoteTransaction { txn: txn_, objects });
    assert_eq!(world.one(c), Packet::AnswerVoteTransaction {});
    let id = world.store(d, 32, 4, 20, "waits");
    assert_eq!(world.one(d), delayed(id, 31));
    // Readers of an object that is only checked do not wait.
    world.locked(31, 41);
    assert!(world.loaded(c, 4, At::Latest).is_some());
    world.unlock(31);
    assert_eq!(world.one(d), LOCKED);
    assert_eq!(world.applied.len(), before);
    world.check(d, 33, 6, 7);
    assert_eq!(world.one(d), check_conflict(0));
}

#[test]
fn a_node_of_the_metadata_alone_votes_too() {
    let mut world = World::serving();
    let c = world.client(1);
    world.vote(c, 10, &[4], 0);
    assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
    world.locked(10, 20);
    world.unlock(10);
    world.ask(c, Packet::AskTransactionInformation { tid: Tid(20) });
    let found = world.one(c);
    assert!(
        matches!(
            &found,
            Packet::AnswerTransactionInformation {
                transaction: Some(_)
            }
        ),
        "{found:?}"
    );
    // Without metadata there must be something to vote for.
    let (txn, objects) = (txn(12), 0);
    world.ask(c, Packet::AskVoteTransaction { txn, objects });
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
}

#[test]
fn a_client_that_lost_its_locks_cannot_vote_for_the_rest() {
    let mut world = World::serving();
    let (c, d) = (world.client(1), world.client(2));
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 4, 20, "increment by 2");
    // The connection breaks and comes back; meanwhile another transaction passes.
    world.lose(c);
    world.commit(d, 32, 4, 20, 34);
    let again = ConnId(200);
    world.connect(again, 1, 10);
    world.packets(again);
    world.store(again, 30, 6, 0, "another object");
    assert_error(&world.one(again), ErrorCode::UnknownTransaction);
    world.vote(again, 30, &[4, 6], 2);
    assert_error(&world.one(again), ErrorCode::UnknownTransaction);
    assert!(world.unfinished().is_empty());
}

#[test]
fn a_vote_of_more_objects_than_are_here_is_refused() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.vote(c, 10, &[4], 2);
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    world.voted(c, 10, &[4]);
    // Once.
    world.vote(c, 10, &[4], 1);
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    world.store(c, 10, 6, 0, "late");
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
}

#[test]
fn another_reign_is_refused() {
    let mut world = World::serving();
    let c = world.client(1);
    let txn = TxnId {
        reign: Reign(2),
        ttid: Tid(10),
    };
    let (oid, serial) = (Oid(4), Tid(0));
    let kind = StoreKind::Deletion;
    world.ask(
        c,
        Packet::AskStoreObject {
            txn,
            oid,
            serial,
            kind,
        },
    );
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    world.ask(c, Packet::AskCheckCurrentSerial { txn, oid, serial });
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    world.ask(c, Packet::AskVoteTransaction { txn, objects: 0 });
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    let (meta, oids) = (TransactionMeta::default(), Oids::default());
    let objects = 0;
    world.ask(
        c,
        Packet::AskStoreTransaction {
            txn,
            meta,
            oids,
            objects,
            pack: None,
            packed: false,
        },
    );
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
}

#[test]
fn what_cannot_be_stored_is_refused_and_its_credit_comes_back() {
    let mut world = World::serving();
    let c = world.client(1);
    let store = |oid, kind| Packet::AskStoreObject {
        txn: txn(10),
        oid: Oid(oid),
        serial: Tid(0),
        kind,
    };
    let kind = StoreKind::Value {
        compression: Compression::None,
        checksum: Checksum::of(b"data"),
    };
    world.ask_with(c, store(4, kind), Bytes::from_static(b"dada"));
    assert_error(&world.one(c), ErrorCode::Checksum);
    world.ask_with(
        c,
        store(4, StoreKind::Deletion),
        Bytes::from_static(b"data"),
    );
    assert_error(&world.one(c), ErrorCode::Protocol);
    let big = Bytes::from(vec![0; neo_api::OBJECT_BYTES_MAX + 1]);
    let kind = StoreKind::Value {
        compression: Compression::None,
        checksum: Checksum::of(&big),
    };
    world.ask_with(c, store(4, kind), big.clone());
    assert_error(&world.one(c), ErrorCode::TooLarge);
    assert_eq!(world.consumed[&c], 8 + big.len() as u64);
}

#[test]
fn large_values_are_written_at_once_and_give_their_credit_back_then() {
    let mut settings = settings();
    settings.limits.transaction_buffered_bytes_max = 10;
    let mut world = World::serving_with(settings);
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "12345678");
    assert_eq!(world.consumed[&c], 8);
    world.hold_writes = true;
    world.stored(c, 10, 6, 0, "12345678");
    world.stored(c, 10, 8, 0, "dropped soon");
    assert_eq!(world.consumed[&c], 8);
    // The vote waits for them.
    world.vote(c, 10, &[4, 6, 8], 3);
    assert!(world.packets(c).is_empty());
    world.release_writes();
    assert_eq!(world.consumed[&c], 28);
    assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
    world.locked(10, 20);
    world.unlock(10);
    assert_eq!(world.loaded(c, 6, At::Latest).unwrap().2, "12345678");
    // A transaction that is aborted leaves nothing.
    world.stored(c, 30, 4, 20, "1234567890123");
    world.stored(c, 30, 4, 20, "another one that is long");
    assert_eq!(world.loose(), 1);
    world.abort(c, 30);
    assert_eq!(world.loose(), 0);
}

#[test]
fn a_cell_that_is_not_here_refuses() {
    let mut world = World::with(settings(), memory());
    world.join();
    let mut cells = table(2, 1, CellState::UpToDate);
    cells.rows[1].remove(0);
    world.tell_table(cells);
    world.serve();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.store(c, 10, 5, 0, "five");
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
    world.check(c, 10, 5, 0);
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
    world.vote(c, 11, &[5], 0);
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
    world.load(c, 5, At::Latest);
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
}

#[test]
fn a_big_transaction_is_voted_and_unlocked_in_pages() {
    let mut world = World::serving();
    let c = world.client(1);
    let oids: Vec<u64> = (0..10_500).map(|n| n * 2).collect();
    for oid in &oids {
        world.stored(c, 10, *oid, 0, "x");
    }
    let before = world.applied.len();
    world.voted(c, 10, &oids);
    for (batch, _) in &world.applied[before..] {
        for op in &batch.ops {
            if let WriteOp::PutUnfinishedObjects { objects, .. } = op {
                assert!(objects.len() <= 10_000);
            }
        }
    }
    let synced: Vec<_> = world.applied[before..].iter().map(|(_, d)| *d).collect();
    assert_eq!(synced, [Durability::Buffered, Durability::Synced]);
    world.locked(10, 20);
    let before = world.applied.len();
    world.unlock(10);
    let sizes = world.applied[before..].iter().map(|(b, _)| b.ops.len());
    let sizes: Vec<_> = sizes.collect();
    // The first one also notes in which reign it was committed.
    assert_eq!((sizes.len(), sizes[0], sizes[10]), (11, 1001, 502));
    assert_eq!(world.loaded(c, 20_998, At::Latest).unwrap().0, 20);
    assert!(world.unfinished().is_empty() && world.loose() == 0);
}

#[test]
fn a_vote_names_at_most_so_many_objects() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.vote(c, 10, &vec![4; neo_api::TRANSACTION_OIDS_MAX + 1], 1);
    assert_error(&world.one(c), ErrorCode::TooLarge);
    // Nothing else is wrong with it.
    world.voted(c, 10, &[4]);
}
