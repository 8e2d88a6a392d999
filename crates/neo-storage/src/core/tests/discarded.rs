//! Cells that are discarded.

use super::*;

/// Both partitions, as they are in the backend: numbers of revisions and of transactions.
fn rows(world: &World) -> [(usize, usize); 2] {
    [0, 1].map(|n| {
        let min = (Tid::ZERO, Oid::ZERO).into();
        let revisions = world.backend.revisions(Partition(n), min, Tid::MAX, 10_000);
        let limit = neo_api::PageLimit::entries(10_000);
        let all = world.backend.transactions(
            Partition(n),
            Tid::ZERO,
            Tid::MAX,
            neo_api::Order::Ascending,
            limit,
        );
        (
            now_or_never(revisions).unwrap().len(),
            now_or_never(all).unwrap().len(),
        )
    })
}

/// Without the cell of partition 1.
fn without_one(ptid: u64) -> PartitionTable {
    let mut cells = table(2, ptid, CellState::UpToDate);
    cells.rows[1].remove(0);
    cells
}

fn commits(world: &mut World, c: ConnId) {
    let mut serial = 0;
    for n in 0..120 {
        let ttid = 10 + 2 * n;
        world.stored(c, ttid, 4, serial, "four");
        world.stored(c, ttid, 5, serial, "five");
        world.voted(c, ttid, &[4, 5]);
        world.locked(ttid, 1_000 + ttid);
        world.unlock(ttid);
        serial = 1_000 + ttid;
    }
}

#[test]
fn what_is_left_of_a_discarded_cell_is_deleted() {
    let mut world = World::serving();
    let c = world.client(1);
    commits(&mut world, c);
    assert_eq!(rows(&world), [(120, 120), (120, 0)]);
    let before = world.applied.len();
    world.tell_table(without_one(2));
    assert_eq!(rows(&world), [(120, 120), (0, 0)]);
    // In steps.
    let steps = world.applied[before..]
        .iter()
        .map(|(batch, _)| batch.ops.len());
    assert!(steps.clone().count() >= 2 && steps.max() <= Some(200));
    // What stays is read as before.
    assert!(world.loaded(c, 4, At::Latest).is_some());
    world.load(c, 5, At::Latest);
    assert_error(&world.one(c), ErrorCode::NonReadableCell);
}

#[test]
fn what_is_left_of_a_discarded_cell_stays_when_that_is_wanted() {
    let mut settings = settings();
    settings.drop_partitions = false;
    let mut world = World::serving_with(settings.clone());
    let c = world.client(1);
    commits(&mut world, c);
    world.tell_table(without_one(2));
    assert_eq!(rows(&world), [(120, 120), (120, 0)]);
    // After a start too; until it is not wanted any more.
    for (drop_partitions, left) in [(false, 120), (true, 0)] {
        settings.drop_partitions = drop_partitions;
        let backend = world.after_crash(world.applied.len());
        let mut again = World::with(settings.clone(), backend);
        again.join();
        again.tell_table(without_one(3));
        again.serve();
        assert_eq!(rows(&again)[1], (left, 0));
    }
}

#[test]
fn rows_are_deleted_only_while_nobody_waits() {
    let mut world = World::serving();
    let c = world.client(1);
    commits(&mut world, c);
    world.hold_reads = true;
    world.load(c, 4, At::Latest);
    world.tell_table(without_one(2));
    // Only the read of the client.
    assert_eq!(world.reads.len(), 1);
    world.read_one(0);
    assert_eq!(world.reads.len(), 1);
    assert!(matches!(
        world.reads[0].1,
        Query::Revisions { limit: 50, .. }
    ));
    world.release_reads();
    assert_eq!(rows(&world)[1], (0, 0));
}

#[test]
fn a_partition_that_is_assigned_again_is_not_deleted_any_more() {
    let mut world = World::serving();
    let c = world.client(1);
    commits(&mut world, c);
    world.hold_writes = true;
    world.hold_reads = true;
    let table = Box::new(without_one(2));
    world.notify(
        MASTER,
        Packet::SendPartitionTable {
            identity: Some(identity()),
            table,
        },
    );
    world.write_one();
    world.read_one(0);
    // A step is being written; the partition comes back.
    let mut cells = super::table(2, 3, CellState::UpToDate);
    cells.rows[1][0].state = CellState::OutOfDate;
    cells.rows[1][0].assigned = version(3);
    world.take(MASTER);
    world.notify(
        MASTER,
        Packet::SendPartitionTable {
            identity: Some(identity()),
            table: Box::new(cells),
        },
    );
    world.release_writes();
    world.release_reads();
    assert_eq!(rows(&world)[1], (70, 0));
    // It is replicated from the start: what is left of it is no matter.
    let cell = AssignedPartition {
        partition: Partition(1),
        assigned: version(3),
    };
    assert_eq!(world.registrations.pop().unwrap().1, [cell]);
    assert_eq!(world.config("replicated/1"), None);
}

#[test]
fn a_commit_that_overlaps_the_move_of_a_cell_leaves_no_rows() {
    // Before the vote, after it, after the lock; the client knows of the discard, or not.
    for (stage, knows) in [(0, false), (0, true), (1, false), (2, false)] {
        let mut world = World::serving();
        let (c, d) = (world.client(1), world.client(2));
        world.stored(c, 10, 4, 0, "four");
        world.stored(c, 10, 5, 0, "five");
        let waiting = world.store(d, 12, 5, 0, "waits");
        assert_eq!(world.one(d), delayed(waiting, 10));
        if stage == 1 {
            world.voted(c, 10, &[4, 5]);
        }
        if stage == 2 {
            world.voted(c, 10, &[4, 5]);
            world.locked(10, 20);
        }
        world.tell_table(without_one(2));
        // Nobody waits for a lock there.
        assert_error(&world.one(d), ErrorCode::NonReadableCell);
        world.store(d, 12, 5, 0, "five");
        assert_error(&world.one(d), ErrorCode::NonReadableCell);
        if stage == 0 {
            let objects = if knows { 1 } else { 2 };
            world.vote(c, 10, &[4, 5], objects);
            assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
            let Some(Packet::NotifyVoted { objects, .. }) = world.votes.pop() else {
                panic!("the vote is told");
            };
            assert_eq!(objects, [(Partition(0), 1)]);
        }
        if stage < 2 {
            world.locked(10, 20);
        }
        world.unlock(10);
        assert_eq!(rows(&world), [(1, 1), (0, 0)], "stage {stage}");
        assert!(world.unfinished().is_empty());
        assert_eq!(world.loose(), 0);
        assert_eq!(world.stopped, None);
    }
}
