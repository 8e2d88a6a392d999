//! Replication whose cells, or nodes, change before it is done, and what must go on in spite of it.

use super::replication::*;
use super::replication_faults::visit;
use super::*;

/// S1 has no cell of partition 1.
fn without_cell(ptid: u64) -> PartitionTable {
    let mut cells = table_of(ptid, CellState::UpToDate, 1);
    cells.rows[1].remove(0);
    cells
}

/// A node that asks to register partition 1.
fn registering() -> (World, MsgId) {
    let mut world = World::with(settings(), memory());
    world.join();
    world.tell_table(table_of(2, CellState::OutOfDate, 1));
    world.serve();
    let (id, _) = world.registrations.pop().unwrap();
    (world, id)
}

/// No timer is due for ever.
#[track_caller]
fn assert_rests(world: &World) {
    let at = world.core.poll_timeout();
    assert!(at.is_none_or(|at| at > world.now().mono), "{at:?}");
}

#[test]
fn a_pause_of_cells_that_are_gone_ends() {
    let (mut world, id) = registering();
    let (code, message) = (ErrorCode::NotReady, "later".to_owned());
    world.answer(MASTER, id, Packet::Error { code, message });
    world.tell_table(without_cell(3));
    world.sleep(Duration::from_secs(20));
    assert_rests(&world);
}

#[test]
fn a_fetch_of_a_cell_that_is_gone_keeps_nobody_waiting() {
    let mut pair = Pair::with(&commits(3), memory());
    pair.register(10_005, &[]);
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_005)]);
    let world = &mut pair.replica;
    world.tell_table(table_of(3, CellState::OutOfDate, 3));
    let (id, _) = world.registrations.remove(0);
    let answer = Packet::AnswerUnfinishedTransactions {
        committed_in: Reign(3),
        last_tid: Tid(10_005),
        pending: vec![],
    };
    world.hold_reads = true;
    world.answer(MASTER, id, answer);
    // It reads what is here; no source is asked yet.
    assert_eq!((world.reads.len(), world.connects.len()), (1, 0));
    world.tell_table(without_cell(4));
    world.release_reads();
    assert!(world.core.is_idle());
    // What is left of the cell is deleted: nothing else waits.
    assert_eq!(rows(world), (vec![], vec![]));
}

#[test]
fn a_refusal_that_an_earlier_table_earned_does_not_count_for_this_one() {
    let (mut world, id) = registering();
    // The primary changed the table before it saw the request; this cell stays as it is.
    world.tell_table(table_of(3, CellState::OutOfDate, 1));
    let (code, message) = (ErrorCode::Replication, "another table".to_owned());
    world.answer(MASTER, id, Packet::Error { code, message });
    world.sleep(Duration::from_secs(1));
    assert_eq!(world.registrations.pop().unwrap().1, [cell(1)]);
}

#[test]
fn a_source_that_can_not_be_reached_is_given_up() {
    let mut pair = Pair::with(&commits(3), memory());
    pair.register(10_005, &[]);
    assert_eq!(pair.replica.connects.len(), 1);
    // Nothing comes of it, not even a refusal.
    let (token, _) = pair.replica.connects.pop().unwrap();
    pair.replica.sleep(Duration::from_secs(10));
    pair.replica.sleep(Duration::from_secs(1));
    assert_eq!(pair.replica.connects.len(), 1);
    // When it comes after all, nobody waits for it any more.
    let conn = ConnId(700);
    pair.replica.give(Input::Connected { token, conn });
    assert!(pair.replica.closed.remove(&conn).is_some());
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_005)]);
}

#[test]
fn what_can_not_be_compared_now_is_compared_later() {
    let mut pair = Pair::with(&commits(7), memory());
    let c = pair.replica.client(2);
    pair.replica.store(c, 51, 5, 10_001, "current");
    pair.register(10_013, &[]);
    pair.hold = true;
    pair.run();
    let compares = |(_, query): &(Token, Query)| matches!(query, Query::LastSerials { .. });
    pair.replica.hold_reads = true;
    while !pair.replica.reads.iter().any(compares) {
        if pair.replica.reads.is_empty() {
            pair.step();
        } else {
            pair.replica.read_one(0);
            pair.replica.work();
        }
    }
    let world = &mut pair.replica;
    let at = world.reads.iter().position(compares).unwrap();
    let (token, _) = world.reads.remove(at);
    let result = Err(BackendError::Unavailable("locked".into()));
    world.done(Done::Read { token, result });
    assert!(!world.reads.iter().any(compares), "not at once");
    assert_rests(world);
    world.sleep(Duration::from_secs(1));
    world.release_reads();
    assert_eq!(pair.done(), [caught_up(10_013)]);
}

#[test]
fn what_an_earlier_service_left_is_looked_for_again_when_it_can_not_be_listed() {
    let mut world = World::serving();
    world.lose(MASTER);
    world.join();
    world.ask(MASTER, Packet::AskStartReign { reign: REIGN });
    world.take(MASTER);
    world.hold_reads = true;
    world.notify(MASTER, Packet::StartOperation { operation: 8 });
    let lists = |(_, query): &(Token, Query)| matches!(query, Query::LooseData { .. });
    let at = world.reads.iter().position(lists).unwrap();
    let (token, _) = world.reads.remove(at);
    let result = Err(BackendError::Unavailable("locked".into()));
    world.done(Done::Read { token, result });
    world.release_reads();
    assert_eq!(world.packets(MASTER), []);
    world.sleep(Duration::from_secs(10));
    assert_eq!(
        world.packets(MASTER),
        [Packet::NotifyReady { operation: 8 }]
    );
    assert_rests(&world);
}

#[test]
fn a_replica_that_waits_for_its_turn_does_not_keep_a_node_busy_that_is_not_ready() {
    let mut world = World::serving();
    world.lose(MASTER);
    world.join();
    world.ask(MASTER, Packet::AskStartReign { reign: REIGN });
    world.take(MASTER);
    world.hold_reads = true;
    world.notify(MASTER, Packet::StartOperation { operation: 8 });
    let nodes = vec![World::node(client(1), 10), World::node(storage(2), 2)];
    world.notify(MASTER, Packet::NotifyNodeInformation { full: true, nodes });
    let c = world.client(1);
    world.load(c, 4, At::Latest);
    let replica = ConnId(900);
    visit(&mut world, replica, 2);
    world.take(replica);
    let lists = |(_, query): &(Token, Query)| matches!(query, Query::Transactions { .. });
    for _ in 0..2 {
        world.ask(
            replica,
            Packet::AskTransactions {
                partition: Partition(0),
                min: Tid::ZERO,
                max: Tid::MAX,
                entries: 10,
                order: neo_api::Order::Ascending,
            },
        );
    }
    world.sleep(Duration::from_secs(10));
    assert_rests(&world);
    assert!(!world.reads.iter().any(lists));
    world.release_reads();
    assert_eq!(world.packets(replica).len(), 2);
}
