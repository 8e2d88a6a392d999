//! Stores, checks and relocks of a cell that catches up.

use super::*;

/// Partition 1 (odd oids) of S1 is out of date.
fn catching_up() -> World {
    let mut world = World::with(settings(), memory());
    world.join();
    let mut cells = table(2, 1, CellState::UpToDate);
    cells.rows[1][0].state = CellState::OutOfDate;
    world.tell_table(cells);
    world.serve();
    world
}

const UNCHECKED: Packet = Packet::AnswerStoreObject {
    outcome: StoreOutcome::Unchecked,
};

#[test]
fn a_cell_that_catches_up_locks_and_compares_nothing() {
    let mut world = catching_up();
    let (c, d) = (world.client(1), world.client(2));
    // Whatever it starts from.
    world.store(c, 10, 5, 99, "five");
    assert_eq!(world.one(c), UNCHECKED);
    // Another one waits for the lock, as anywhere.
    let id = world.store(d, 11, 5, 98, "other");
    assert_eq!(world.one(d), delayed(id, 10));
    // An older one makes it give way.
    let id = world.store(d, 9, 5, 97, "older");
    assert_eq!(world.one(d), delayed(id, 10));
    assert_eq!(world.one(c), deadlock(10, 5));
    let relock = world.relock(c, 10, 5);
    assert_eq!(world.one(d), UNCHECKED);
    assert_eq!(world.one(c), delayed(relock, 9));
    world.abort(d, 9);
    assert_eq!(world.one(c), RELOCKED);
    let metadata = world.check(c, 10, 7, 96);
    let _ = metadata;
    assert_eq!(
        world.one(c),
        Packet::AnswerCheckCurrentSerial {
            outcome: StoreOutcome::Unchecked
        }
    );
    // It is not read.
    world.load(c, 5, At::Latest);
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
    world.voted(c, 10, &[5, 7]);
    world.locked(10, 20);
    world.unlock(10);
    let revision = now_or_never(world.backend.load(Partition(1), Oid(5), At::Latest)).unwrap();
    assert!(matches!(revision, neo_api::Loaded::Found(found) if found.serial == Tid(20)));
    // The one that waited has it now.
    assert_eq!(world.one(d), UNCHECKED);
}

#[test]
fn what_repeats_a_revision_that_may_not_be_here_is_left_to_be_fetched() {
    let mut world = catching_up();
    let c = world.client(1);
    let (txn, oid, serial) = (txn(10), Oid(5), Tid(9));
    let kind = StoreKind::SameAs(Tid(3));
    let packet = Packet::AskStoreObject {
        txn,
        oid,
        serial,
        kind,
    };
    world.ask(c, packet);
    assert_eq!(world.one(c), UNCHECKED);
    world.voted(c, 10, &[5]);
    world.locked(10, 20);
    world.unlock(10);
    assert_eq!(world.stopped, None);
    assert!(world.unfinished().is_empty());
    let revision = now_or_never(world.backend.load(Partition(1), Oid(5), At::Latest)).unwrap();
    assert_eq!(revision, neo_api::Loaded::Unknown);
}

#[test]
fn serials_that_are_known_are_not_believed_of_a_cell_that_catches_up() {
    let mut world = catching_up();
    let c = world.client(1);
    // A new oid of the readable partition needs no look; of the other one nothing is known.
    world.hold_reads = true;
    world.store(c, 10, 1_000, 0, "new");
    assert_eq!(world.one(c), LOCKED);
    world.store(c, 10, 1_001, 0, "new");
    assert_eq!(world.one(c), UNCHECKED);
    world.store(c, 10, 1_003, 77, "old");
    assert_eq!(world.one(c), UNCHECKED);
}
