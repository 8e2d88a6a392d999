//! Who waits for whom, and how a deadlock is avoided.

use super::*;

#[test]
fn requests_wait_in_the_order_of_their_transactions_and_are_told_once() {
    let mut world = World::serving();
    let (a, b, c) = (world.client(1), world.client(2), world.client(3));
    world.stored(a, 10, 4, 0, "a");
    let late = world.store(b, 14, 4, 0, "b");
    assert_eq!(world.one(b), delayed(late, 10));
    let early = world.store(c, 12, 4, 0, "c");
    assert_eq!(world.one(c), delayed(early, 10));
    // The older of those that wait has it next, and the other is not told again.
    world.abort(a, 10);
    assert_eq!(world.one(c), LOCKED);
    assert!(world.packets(b).is_empty());
    world.voted(c, 12, &[4]);
    world.locked(12, 22);
    world.unlock(12);
    assert_eq!(world.one(b), conflict(22));
}

#[test]
fn an_older_transaction_passes_a_younger_one_that_relocks() {
    let mut world = World::serving();
    let (old, young) = (world.client(1), world.client(2));
    world.stored(young, 12, 4, 0, "young");
    let id = world.store(old, 10, 4, 0, "old");
    assert_eq!(world.one(old), delayed(id, 12));
    assert_eq!(world.one(young), deadlock(12, 4));
    // Told once for this lock, whoever else comes.
    let third = world.client(3);
    world.store(third, 8, 4, 0, "third");
    assert!(world.packets(young).is_empty());
    world.packets(third);
    let relock = world.relock(young, 12, 4);
    assert_eq!(world.one(third), LOCKED);
    assert_eq!(world.one(young), delayed(relock, 8));
    world.abort(third, 8);
    assert_eq!(world.one(old), LOCKED);
    // The older one gives up: the relock finds nothing changed, and the stored value stands.
    world.abort(old, 10);
    assert_eq!(world.one(young), RELOCKED);
    world.voted(young, 12, &[4]);
    world.locked(12, 22);
    world.unlock(12);
    assert_eq!(world.loaded(young, 4, At::Latest).unwrap().2, "young");
}

#[test]
fn a_relock_after_a_commit_drops_what_was_stored() {
    let mut world = World::serving();
    let (old, young) = (world.client(1), world.client(2));
    world.stored(young, 12, 4, 0, "young");
    world.store(old, 10, 4, 0, "old");
    world.packets(old);
    world.packets(young);
    world.relock(young, 12, 4);
    world.packets(young);
    assert_eq!(world.one(old), LOCKED);
    world.voted(old, 10, &[4]);
    world.locked(10, 20);
    world.unlock(10);
    assert_eq!(world.one(young), relock_conflict(20));
    // Nothing of it counts until it is stored again, resolved.
    world.vote(young, 12, &[4], 1);
    assert_error(&world.one(young), ErrorCode::UnknownTransaction);
    world.stored(young, 12, 4, 20, "both");
    world.voted(young, 12, &[4]);
    world.locked(12, 22);
    world.unlock(12);
    assert_eq!(world.loaded(young, 4, At::Latest).unwrap().2, "both");
}

#[test]
fn a_relock_while_the_store_looks_at_the_serial_comes_after_it() {
    let mut world = World::serving();
    let (old, young) = (world.client(1), world.client(2));
    world.hold_reads = true;
    // Of an object that may have a revision: the node has to look.
    world.store(young, 12, 0, 0, "young");
    world.store(old, 10, 0, 0, "old");
    world.packets(old);
    assert_eq!(world.one(young), deadlock(12, 0));
    let relock = world.relock(young, 12, 0);
    assert!(world.packets(young).is_empty() && world.packets(old).is_empty());
    world.read_one(0);
    assert_eq!(world.packets(young), [LOCKED, delayed(relock, 10)]);
    world.release_reads();
    assert_eq!(world.one(old), LOCKED);
}

#[test]
fn a_relock_of_what_a_conflict_released_tells_the_serial() {
    let mut world = World::serving();
    let (a, b) = (world.client(1), world.client(2));
    world.commit(a, 10, 4, 0, 20);
    world.stored(b, 32, 6, 0, "six");
    world.store(b, 32, 4, 0, "stale");
    assert_eq!(world.one(b), conflict(20));
    world.relock(b, 32, 4);
    assert_eq!(world.one(b), relock_conflict(20));
    // An object of a transaction that is not known.
    world.relock(b, 34, 4);
    assert_error(&world.one(b), ErrorCode::UnknownTransaction);
}

#[test]
fn what_is_locked_in_conflict_is_let_go_of_for_an_older_transaction() {
    let mut world = World::serving();
    let (old, young) = (world.client(1), world.client(2));
    world.commit(old, 4, 4, 0, 6);
    world.store(young, 12, 4, 0, "stale");
    assert_eq!(world.one(young), conflict(6));
    let id = world.store(old, 10, 4, 6, "old");
    assert_eq!(world.one(old), delayed(id, 12));
    assert_eq!(world.one(young), deadlock(12, 4));
    let relock = world.relock(young, 12, 4);
    assert_eq!(world.one(old), LOCKED);
    assert_eq!(world.one(young), delayed(relock, 10));
    world.voted(old, 10, &[4]);
    world.locked(10, 20);
    world.unlock(10);
    // It has the lock again, and is told what to merge.
    assert_eq!(world.one(young), relock_conflict(20));
    let third = world.client(3);
    let id = world.store(third, 14, 4, 20, "third");
    assert_eq!(world.one(third), delayed(id, 12));
    // The end of the transaction is the end of the lock.
    world.abort(young, 12);
    assert_eq!(world.one(third), LOCKED);
}

/// Two replicas locked in opposite order: this node is one of them, twice.
#[test]
fn two_replicas_locked_in_opposite_order() {
    let (mut s1, mut s2) = (World::serving(), World::serving());
    let (old, young) = (s1.client(1), s1.client(2));
    assert_eq!((s2.client(1), s2.client(2)), (old, young));
    s1.stored(old, 10, 4, 0, "old");
    s2.stored(young, 12, 4, 0, "young");
    // On one node the young waits for the old: fine. On the other it is asked to give way.
    s1.store(young, 12, 4, 0, "young");
    s2.store(old, 10, 4, 0, "old");
    assert!(s1.packets(old).is_empty());
    assert_eq!(s2.one(young), deadlock(12, 4));
    s2.relock(young, 12, 4);
    assert_eq!(s2.packets(old).pop(), Some(LOCKED));
    for world in [&mut s1, &mut s2] {
        world.packets(young);
        world.voted(old, 10, &[4]);
        world.locked(10, 20);
        world.unlock(10);
    }
    assert_eq!(s1.one(young), conflict(20));
    assert_eq!(s2.one(young), relock_conflict(20));
    for world in [&mut s1, &mut s2] {
        world.stored(young, 12, 4, 20, "resolved");
        world.voted(young, 12, &[4]);
        world.locked(12, 22);
        world.unlock(12);
        assert_eq!(world.loaded(old, 4, At::Latest).unwrap().2, "resolved");
    }
}

/// 10 has a and wants b, 11 has b and wants c, 12 has c and wants a.
#[test]
fn a_circle_of_three() {
    let mut world = World::serving();
    let clients: Vec<_> = (1..=3).map(|n| world.client(n)).collect();
    for (n, oid) in [(0, 2), (1, 4), (2, 6)] {
        world.stored(clients[n], 10 + n as u64, oid, 0, "first");
    }
    for (n, oid) in [(0, 4), (1, 6), (2, 2)] {
        world.store(clients[n], 10 + n as u64, oid, 0, "second");
    }
    // The two youngest holders are asked to give way to older ones; the oldest is not.
    let told = |world: &mut World, n: usize| {
        let packets = world.packets(clients[n]);
        let deadlock = |p: &Packet| matches!(p, Packet::NotifyDeadlock { .. });
        packets.into_iter().filter(deadlock).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world, 0), []);
    assert_eq!(told(&mut world, 1), [deadlock(11, 4)]);
    assert_eq!(told(&mut world, 2), [deadlock(12, 6)]);
    world.relock(clients[1], 11, 4);
    world.relock(clients[2], 12, 6);
    assert_eq!(world.packets(clients[0]).pop(), Some(LOCKED));
    world.voted(clients[0], 10, &[2, 4]);
    world.locked(10, 20);
    world.unlock(10);
    // 11 has c now, and lost b to 10.
    let answers = world.packets(clients[1]);
    assert!(answers.contains(&LOCKED), "{answers:?}");
    assert!(answers.contains(&relock_conflict(20)), "{answers:?}");
    assert!(world.packets(clients[2]).contains(&conflict(20)));
    world.abort(clients[1], 11);
    assert_eq!(world.packets(clients[2]).pop(), Some(RELOCKED));
}

#[test]
fn who_voted_is_not_asked_to_give_way() {
    let mut world = World::serving();
    let (old, young) = (world.client(1), world.client(2));
    world.stored(young, 12, 4, 0, "young");
    world.voted(young, 12, &[4]);
    world.store(old, 10, 4, 0, "old");
    assert!(world.packets(young).is_empty());
    // A relock after the vote makes no sense.
    world.relock(young, 12, 4);
    assert_error(&world.one(young), ErrorCode::UnknownTransaction);
}

#[test]
fn checks_share_a_lock_and_one_of_them_can_store() {
    let mut world = World::serving();
    let (a, b, c) = (world.client(1), world.client(2), world.client(3));
    world.commit(a, 10, 4, 0, 20);
    for (conn, ttid) in [(a, 30), (b, 31)] {
        world.check(conn, ttid, 4, 20);
        assert_eq!(world.one(conn), CHECKED);
    }
    let id = world.store(c, 32, 4, 20, "younger");
    assert_eq!(world.one(c), delayed(id, 30));
    // The older check becomes a store: the younger one has to give way, and is in conflict then.
    let id = world.store(a, 30, 4, 20, "stored");
    assert_eq!(world.one(a), delayed(id, 31));
    assert_eq!(world.one(b), deadlock(31, 4));
    world.relock(b, 31, 4);
    assert_eq!(world.one(a), LOCKED);
    world.packets(b);
    // The object counts once, though it was checked and stored.
    world.voted(a, 30, &[4]);
    world.locked(30, 40);
    world.unlock(30);
    assert_eq!(world.one(b), relock_conflict(40));
    assert_eq!(world.one(c), conflict(40));
}

#[test]
fn a_check_of_what_the_transaction_stores_keeps_the_value() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.stored(c, 30, 4, 20, "stored");
    world.check(c, 30, 4, 20);
    assert_eq!(world.one(c), CHECKED);
    world.check(c, 30, 4, 10);
    assert_eq!(world.one(c), check_conflict(20));
    world.voted(c, 30, &[4]);
    world.locked(30, 40);
    world.unlock(30);
    assert_eq!(world.loaded(c, 4, At::Latest).unwrap().2, "stored");
}

#[test]
fn an_abort_answers_what_waits_and_lets_others_pass() {
    let mut world = World::serving();
    let (a, b, c) = (world.client(1), world.client(2), world.client(3));
    world.stored(a, 10, 4, 0, "a");
    world.stored(b, 11, 6, 0, "b");
    world.store(b, 11, 4, 0, "waits");
    world.store(c, 12, 6, 0, "waits for b");
    for conn in [b, c] {
        world.packets(conn);
    }
    // By the primary, for the client.
    world.abort(MASTER, 11);
    assert_error(&world.one(b), ErrorCode::UnknownTransaction);
    assert_eq!(world.one(c), LOCKED);
    // What was on its way when it was aborted is refused: nobody would ever free its locks.
    world.store(b, 11, 8, 0, "late");
    assert_error(&world.one(b), ErrorCode::UnknownTransaction);
    // Also when nothing of it had come yet.
    world.abort(b, 15);
    world.store(b, 15, 8, 0, "late");
    assert_error(&world.one(b), ErrorCode::UnknownTransaction);
    // Others' transactions are none of a client's business.
    world.abort(b, 12);
    world.voted(c, 12, &[6]);
}

#[test]
fn a_lost_client_frees_what_it_has_not_voted() {
    let mut world = World::serving();
    let (a, b) = (world.client(1), world.client(2));
    world.stored(a, 10, 4, 0, "voted");
    world.voted(a, 10, &[4]);
    world.stored(a, 12, 6, 0, "not voted");
    let id = world.store(b, 14, 4, 0, "waits for 10");
    assert_eq!(world.one(b), delayed(id, 10));
    world.store(b, 15, 6, 0, "waits for 12");
    world.packets(b);
    world.lose(a);
    assert_eq!(world.one(b), LOCKED);
    assert_eq!(world.unfinished(), [(txn(10), None)]);
    // The primary can still finish it.
    world.locked(10, 20);
    world.unlock(10);
    assert_eq!(world.one(b), conflict(20));
    assert_eq!(world.loaded(b, 4, At::Latest).unwrap().2, "voted");
}

#[test]
fn a_client_that_the_primary_forgot_is_aborted_unless_it_is_locked() {
    let mut world = World::serving();
    let (a, b) = (world.client(1), world.client(2));
    world.stored(a, 10, 4, 0, "locked");
    world.voted(a, 10, &[4]);
    world.locked(10, 20);
    world.stored(a, 12, 6, 0, "voted");
    world.voted(a, 12, &[6]);
    world.store(b, 14, 6, 0, "waits");
    world.packets(b);
    let mut gone = World::node(client(1), 10);
    gone.state = NodeState::Unknown;
    let nodes = vec![gone];
    world.notify(MASTER, Packet::NotifyNodeInformation { full: false, nodes });
    assert!(world.closed.contains_key(&a));
    assert_eq!(world.one(b), LOCKED);
    assert_eq!(world.unfinished(), [(txn(10), Some(Tid(20)))]);
    // An abort that crossed the lock changes nothing.
    world.abort(MASTER, 10);
    world.unlock(10);
    assert_eq!(world.loaded(b, 4, At::Latest).unwrap().2, "locked");
}

#[test]
fn a_client_lost_while_its_vote_is_written_leaves_nothing() {
    let mut world = World::serving();
    let (a, b) = (world.client(1), world.client(2));
    world.stored(a, 10, 4, 0, "a");
    world.hold_writes = true;
    world.vote(a, 10, &[4], 1);
    world.lose(a);
    world.stored(b, 12, 4, 0, "b");
    world.release_writes();
    assert!(world.unfinished().is_empty() && world.loose() == 0);
}

#[test]
fn unanswered_requests_and_transactions_are_bounded() {
    let mut settings = settings();
    settings.limits.unanswered_stores_max = 2;
    settings.limits.transactions_max = 3;
    let mut world = World::serving_with(settings);
    let (a, b) = (world.client(1), world.client(2));
    world.stored(a, 10, 4, 0, "a");
    for _ in 0..2 {
        world.store(b, 12, 4, 0, "waits");
    }
    world.packets(b);
    world.store(b, 12, 4, 0, "too many");
    assert_error(&world.one(b), ErrorCode::TooLarge);
    world.stored(a, 13, 6, 0, "third");
    world.store(a, 14, 8, 0, "fourth");
    assert_error(&world.one(a), ErrorCode::TooLarge);
    world.abort(a, 10);
    assert_eq!(world.packets(b), [LOCKED, LOCKED]);
    world.stored(b, 12, 8, 0, "again");
}
