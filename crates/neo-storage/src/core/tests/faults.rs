//! Disks that are full, slow or broken.

use super::*;

const FULL: fn() -> BackendError = || BackendError::Full;

fn any(_: &WriteOp) -> bool {
    true
}

const NO_SPACE: Packet = Packet::NotifySpace { is_full: true };

fn puts_data(op: &WriteOp) -> bool {
    matches!(op, WriteOp::PutData { .. })
}

#[test]
fn a_full_disk_refuses_votes_and_reads_go_on() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 4, 20, "too much");
    world.fails = Some((puts_data, FULL));
    world.vote(c, 30, &[4], 1);
    assert_error(&world.one(c), ErrorCode::NoSpace);
    // It can only be aborted, and that frees its locks.
    world.store(c, 30, 6, 0, "more");
    assert_error(&world.one(c), ErrorCode::NoSpace);
    world.vote(c, 30, &[4], 1);
    assert_error(&world.one(c), ErrorCode::NoSpace);
    assert_eq!(world.loaded(c, 4, At::Latest).unwrap().0, 20);
    world.abort(c, 30);
    assert_eq!(world.packets(MASTER), [NO_SPACE]);
    world.fails = None;
    world.commit(c, 32, 4, 20, 42);
    assert_eq!(world.stopped, None);
}

#[test]
fn a_full_node_says_so_once_and_comes_back_ever_later_when_it_is_sent_away() {
    const SECOND: u64 = 1_000_000_000;
    let mut world = World::serving();
    let c = world.client(1);
    world.fails = Some((puts_data, FULL));
    for (ttid, oid) in [(10, 4), (12, 6)] {
        world.stored(c, ttid, oid, 0, "too much");
        world.vote(c, ttid, &[oid], 1);
        assert_error(&world.one(c), ErrorCode::NoSpace);
    }
    assert_eq!(world.packets(MASTER), [NO_SPACE]);
    let mut away = Vec::new();
    for _ in 0..8 {
        world.lose(MASTER);
        let at = world.core.poll_timeout().unwrap().0;
        away.push((at - world.mono) / SECOND);
        assert!(world.join_at(MASTER).is_full);
    }
    assert_eq!(away, [1, 2, 4, 8, 16, 32, 60, 60]);

    world.fails = None;
    world.serve();
    let c = world.client(1);
    world.stored(c, 14, 4, 0, "it fits");
    world.vote(c, 14, &[4], 1);
    assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
    let told = Packet::NotifySpace { is_full: false };
    assert_eq!(world.packets(MASTER), [told]);
    // It stayed for a while.
    world.sleep(Duration::from_secs(60));
    world.lose(MASTER);
    assert!(world.core.poll_timeout().unwrap().0 - world.mono < SECOND);
    assert!(!world.join_at(MASTER).is_full);
}

#[test]
fn a_small_value_that_finds_place_beside_a_large_one_is_no_news() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "too much");
    world.fails = Some((puts_data, FULL));
    world.vote(c, 10, &[4], 1);
    assert_error(&world.one(c), ErrorCode::NoSpace);
    assert_eq!(world.packets(MASTER), [NO_SPACE]);
    world.fails = None;
    world.stored(c, 12, 6, 0, "small");
    world.vote(c, 12, &[6], 1);
    assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
    assert_eq!(world.packets(MASTER), []);
}

#[test]
fn a_value_that_does_not_fit_makes_the_vote_fail() {
    let mut settings = settings();
    settings.limits.transaction_buffered_bytes_max = 0;
    let mut world = World::serving_with(settings);
    let c = world.client(1);
    world.fails = Some((puts_data, FULL));
    world.stored(c, 10, 4, 0, "too much");
    assert_eq!(world.consumed[&c], 8);
    world.fails = None;
    world.vote(c, 10, &[4], 1);
    assert_error(&world.one(c), ErrorCode::NoSpace);
    world.abort(c, 10);
    assert!(world.core.is_idle() && world.unfinished().is_empty());
}

#[test]
fn one_vote_that_does_not_fit_takes_no_other_with_it() {
    let mut world = World::serving();
    let (a, b) = (world.client(1), world.client(2));
    world.stored(a, 10, 4, 0, "small");
    world.stored(b, 12, 6, 0, "too much");
    world.fails = Some((
        |op| matches!(op, WriteOp::PutData { record, .. } if &record.data[..] == b"too much"),
        FULL,
    ));
    world.hold_writes = true;
    world.vote(a, 10, &[4], 1);
    world.vote(b, 12, &[6], 1);
    world.release_writes();
    assert_eq!(world.one(a), Packet::AnswerStoreTransaction {});
    assert_error(&world.one(b), ErrorCode::NoSpace);
}

#[test]
fn votes_that_wait_share_one_durable_write() {
    let mut world = World::serving();
    let clients: Vec<_> = (1..=4).map(|n| world.client(n)).collect();
    for (n, conn) in clients.iter().enumerate() {
        world.stored(*conn, 10 + 2 * n as u64, 20 + 2 * n as u64, 0, "value");
    }
    let before = world.applied.len();
    world.hold_writes = true;
    for (n, conn) in clients.iter().enumerate() {
        world.vote(*conn, 10 + 2 * n as u64, &[20 + 2 * n as u64], 1);
    }
    world.release_writes();
    assert_eq!(world.applied.len(), before + 1);
    for conn in clients {
        assert_eq!(world.one(conn), Packet::AnswerStoreTransaction {});
    }
}

#[test]
fn a_lock_and_an_unlock_are_tried_until_there_is_space() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.voted(c, 10, &[4]);
    world.fails = Some((any, FULL));
    world.lock(10, 20);
    assert_eq!(world.packets(MASTER), [NO_SPACE]);
    world.sleep(Duration::from_secs(1));
    assert!(world.packets(MASTER).is_empty());
    world.fails = None;
    world.sleep(Duration::from_secs(1));
    let txn = txn(10);
    assert_eq!(world.one(MASTER), Packet::AnswerInformationLocked { txn });
    world.fails = Some((any, FULL));
    world.unlock(10);
    world.load(c, 4, At::Latest);
    world.sleep(Duration::from_secs(1));
    assert!(world.take(c).is_empty());
    world.fails = None;
    world.sleep(Duration::from_secs(1));
    assert_eq!(found(world.take(c).remove(0)).unwrap().0, 20);
}

#[test]
fn a_disk_that_stays_full_or_stuck_makes_the_node_fail() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.voted(c, 10, &[4]);
    world.fails = Some((any, FULL));
    world.lock(10, 20);
    for _ in 0..29 {
        world.sleep(Duration::from_secs(1));
    }
    assert_eq!(world.stopped, None);
    world.sleep(Duration::from_secs(1));
    let failure = world.stopped.clone().flatten().unwrap();
    assert!(failure.contains("longer than 30 s"), "{failure}");

    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.hold_writes = true;
    world.vote(c, 10, &[4], 1);
    assert_eq!(
        world.core.poll_timeout(),
        Some(world.now().mono + Duration::from_secs(30))
    );
    world.sleep(Duration::from_secs(30));
    assert!(world.stopped.clone().flatten().is_some());
}

#[test]
fn a_broken_disk_ends_the_node() {
    let errors: [fn() -> BackendError; 3] = [
        || BackendError::Corrupt("a page".to_owned()),
        || BackendError::Closed("sync failed".to_owned()),
        || BackendError::Failed {
            what: "sync".to_owned(),
            source: "input/output error".into(),
        },
    ];
    for error in errors {
        let mut world = World::serving();
        let c = world.client(1);
        world.stored(c, 10, 4, 0, "four");
        world.fails = Some((any, error));
        world.vote(c, 10, &[4], 1);
        let failure = world.stopped.clone().flatten().unwrap();
        assert!(failure.starts_with("a write failed: "), "{failure}");
        // Nothing is answered any more.
        assert!(world.packets(c).is_empty());
        world.load(c, 4, At::Latest);
        assert!(world.packets(c).is_empty());
    }
}

#[test]
fn a_full_disk_does_not_keep_the_node_from_another_primary() {
    let mut world = World::serving();
    let c = world.client(1);
    world.stored(c, 10, 4, 0, "four");
    world.voted(c, 10, &[4]);
    world.fails = Some((any, FULL));
    world.lock(10, 20);
    // A table is given up with the primary that sent it.
    let cells = Box::new(table(2, 2, CellState::OutOfDate));
    let identity = None;
    let table = cells;
    world.notify(MASTER, Packet::SendPartitionTable { identity, table });
    world.lose(MASTER);
    let next = ConnId(2);
    world.join_at(next);
    world.ask(next, Packet::AskRecovery {});
    let Packet::AnswerRecovery { recovery } = world.one(next) else {
        panic!("no recovery");
    };
    assert_eq!(recovery.version, Some(version(1)));
    world.ask(next, Packet::AskLastIds {});
    assert!(matches!(world.one(next), Packet::AnswerLastIds { .. }));
}

#[test]
fn mutations_break_what_they_say() {
    let mut settings = settings();
    settings.mutations.vote_not_durable = true;
    settings.mutations.no_conflicts = true;
    settings.mutations.no_read_lock = true;
    let mut world = World::serving_with(settings);
    let c = world.client(1);
    let before = world.applied.len();
    world.commit(c, 10, 4, 0, 20);
    assert_eq!(world.applied[before].1, Durability::Buffered);
    world.stored(c, 30, 4, 0, "stale");
    world.voted(c, 30, &[4]);
    world.locked(30, 40);
    assert_eq!(world.loaded(c, 4, At::Latest).unwrap().0, 20);
}

#[test]
fn a_write_of_a_transaction_that_was_forgotten_is_not_of_its_second_life() {
    let mut settings = settings();
    settings.limits.transaction_buffered_bytes_max = 4;
    let mut world = World::serving_with(settings);
    let c = world.client(1);
    world.hold_writes = true;
    world.stored(c, 11, 4, 0, "much of it");
    world.abort(c, 11);
    // That it ended is remembered for a while only.
    for ttid in 0..10_000 {
        world.abort(c, 1_001 + 2 * ttid);
    }
    world.stored(c, 11, 4, 0, "x");
    world.release_writes();
    world.hold_writes = true;
    world.stored(c, 11, 6, 0, "much of it");
    world.release_writes();
    world.voted(c, 11, &[4, 6]);
}
