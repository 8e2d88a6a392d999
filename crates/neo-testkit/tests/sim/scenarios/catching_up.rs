//! Storage nodes that come back, and get what they missed.

use std::time::Duration;

use neo_api::{CellState, Oid, Tid};
use neo_client::Error;
use neo_testkit::sim::{
    Fault, Handle, InFlight, Keep, Name, NodeCopy, PATIENCE, Pattern, SimClient, When, World,
    WorldSettings, c, m, s,
};

use super::{caught_up, change, check_and_crash, heal, objects, replicated, run, settle, wait};

fn lose(world: &mut World, name: Name) {
    world.crash(&[name], Keep::None, InFlight::Lost);
    let table = |world: &World| {
        let table = world.partition_table().expect("a table");
        let mut cells = table.rows.iter().flatten();
        cells.any(|cell| cell.state == CellState::OutOfDate)
    };
    world
        .run_until("its cells to be out of date", PATIENCE, table)
        .unwrap();
}

/// Changes an object so many times.
async fn changes(client: &SimClient, oid: Oid, count: u32) -> Result<Tid, Error> {
    client.sync().await?;
    let (mut serial, _) = client.load(oid).await?.expect("it exists");
    for _ in 0..count {
        serial = change(client, oid, serial, "changed").await?;
    }
    Ok(serial)
}

fn commit(world: &mut World, oid: Oid, count: u32) {
    let done = run(world, c(1), async move |client: SimClient| {
        changes(&client, oid, count).await
    });
    done.unwrap_or_else(|error| panic!("{error}\n{}", world.trace().tail(200)));
}

fn copy(world: &World, name: Name) -> NodeCopy {
    NodeCopy::read(name, world.disk(name).backend(), world.partitions())
}

fn assert_same(world: &World, one: Name, other: Name) {
    assert_eq!(copy(world, one).cells, copy(world, other).cells);
}

#[test]
fn a_storage_node_that_was_away_catches_up() {
    let mut world = World::booted(replicated(1));
    let (oids, _) = objects(&mut world, c(1), 8);
    lose(&mut world, s(1));
    for oid in oids.clone() {
        commit(&mut world, oid, 3);
    }
    heal(&mut world);
    assert_eq!(caught_up(&world, s(1)), 4);
    assert_same(&world, s(1), s(2));
    // It is as good as the other one.
    world.crash(&[s(2)], Keep::None, InFlight::Lost);
    commit(&mut world, oids[0], 2);
    settle(&mut world);
    check_and_crash(&mut world);
}

/// Transactions are open, or finishing, when the node comes back; each is finished or aborted, in
/// each order, while the node catches up or waits for them.
#[test]
fn transactions_that_are_pending_when_it_begins_are_not_missed() {
    for outcome in 0..4u32 {
        for swapped in [false, true] {
            let mut world = World::booted(replicated(3));
            let (oids, first) = objects(&mut world, c(1), 8);
            lose(&mut world, s(1));
            commit(&mut world, oids[7], 2);
            let hold = Duration::from_millis(if swapped { 700 } else { 300 });
            let other = Duration::from_millis(1_000) - hold;
            let mut scripts: Vec<Handle<Result<(), Error>>> = Vec::new();
            for (n, (client, pause)) in [(c(2), hold), (c(3), other)].into_iter().enumerate() {
                let oid = oids[n];
                let finishes = outcome & (1 << n) != 0;
                scripts.push(world.run_script(client, async move |client: SimClient| {
                    let txn = client.begin().await?;
                    txn.store(oid, first, "pending").await?;
                    client.sleep(pause).await;
                    if finishes {
                        txn.commit().await?;
                    } else {
                        txn.abort();
                    }
                    Ok(())
                }));
            }
            world.run_for(Duration::from_millis(50));
            world.start(s(1));
            // It has all that was committed; it waits.
            world.run_for(Duration::from_millis(150));
            assert!(!world.is_caught_up());
            for script in &scripts {
                let done = wait(&mut world, "a pending transaction", script);
                done.unwrap_or_else(|error| panic!("{error}\n{}", world.trace().tail(200)));
            }
            heal(&mut world);
            assert_same(&world, s(1), s(2));
            check_and_crash(&mut world);
        }
    }
}

/// Clients go on changing objects all the time; the node that catches up takes part.
#[test]
fn a_storage_node_catches_up_under_load() {
    let mut world = World::booted(replicated(3));
    let (oids, _) = objects(&mut world, c(1), 6);
    lose(&mut world, s(2));
    commit(&mut world, oids[5], 5);
    let scripts: Vec<_> = (1..=3u8)
        .map(|n| {
            let oid = oids[usize::from(n)];
            world.run_script(c(n), async move |client: SimClient| {
                changes(&client, oid, 60).await
            })
        })
        .collect();
    world.run_for(Duration::from_millis(20));
    world.start(s(2));
    let up = world.run_until("UP_TO_DATE", PATIENCE, World::is_caught_up);
    up.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(200)));
    assert!(scripts.iter().any(|script| !script.is_done()), "under load");
    for script in &scripts {
        wait(&mut world, "a client", script).unwrap();
    }
    settle(&mut world);
    assert_same(&world, s(1), s(2));
    check_and_crash(&mut world);
}

/// The node that comes back has voted for a transaction that was aborted without it, and locked one
/// that was committed without it.
#[test]
fn unfinished_data_that_is_stale_comes_to_nothing() {
    for packet in [
        "AskStoreTransaction",
        "AskLockInformation",
        "NotifyUnlockInformation",
    ] {
        let mut world = World::booted(replicated(2));
        let (oids, first) = objects(&mut world, c(1), 4);
        let from = if packet == "AskStoreTransaction" {
            c(2)
        } else {
            m(1)
        };
        let fault = Fault::Crash {
            nodes: vec![s(1)],
            keep: Keep::All,
            in_flight: InFlight::Lost,
        };
        world.plan_at(Pattern::arrival(from, s(1), packet), When::After, fault);
        let oid = oids[0];
        let script = world.run_script(c(2), async move |client: SimClient| {
            change(&client, oid, first, "struck").await
        });
        world
            .run_until("the fault", PATIENCE, World::has_struck)
            .unwrap();
        drop(wait(&mut world, "its end", &script));
        commit(&mut world, oids[1], 3);
        heal(&mut world);
        assert_same(&world, s(1), s(2));
        assert!(copy(&world, s(1)).unfinished.is_empty(), "{packet}");
        check_and_crash(&mut world);
    }
}

fn three(clients: u8) -> WorldSettings {
    WorldSettings {
        storages: 3,
        replicas: 2,
        ..replicated(clients)
    }
}

/// The source is lost, while cells fetch and while they wait for pending transactions: another one
/// takes its place.
#[test]
fn another_source_takes_the_place_of_one_that_is_lost() {
    for packet in ["AskTransactions", "AskRevisionIds", "AskRevisions"] {
        for waits in [false, true] {
            let mut world = World::booted(three(2));
            let (oids, first) = objects(&mut world, c(1), 4);
            lose(&mut world, s(1));
            for oid in oids.clone() {
                commit(&mut world, oid, 2);
            }
            let oid = oids[0];
            let pending = world.run_script(c(2), async move |client: SimClient| {
                client.sync().await?;
                let (serial, _) = client.load(oid).await?.expect("it exists");
                let txn = client.begin().await?;
                txn.store(oid, serial, "pending").await?;
                if waits {
                    client.sleep(Duration::from_millis(800)).await;
                }
                txn.commit().await
            });
            // Whichever of the two it asks.
            for source in [s(2), s(3)] {
                let fault = Fault::Crash {
                    nodes: vec![source],
                    keep: Keep::None,
                    in_flight: InFlight::Lost,
                };
                let pattern = Pattern::arrival(s(1), source, packet).nth(2);
                world.plan_at(pattern, When::Before, fault);
            }
            world.start(s(1));
            let struck = world.run_until("the fault", PATIENCE, World::has_struck);
            if struck.is_err() {
                // Nothing is missing twice of that kind.
                continue;
            }
            drop(wait(&mut world, "the pending transaction", &pending));
            let _ = first;
            heal(&mut world);
            check_and_crash(&mut world);
        }
    }
}

/// The node is away twice: the second time before it has caught up.
#[test]
fn a_storage_node_that_is_interrupted_twice_goes_on() {
    let mut world = World::booted(replicated(1));
    let (oids, _) = objects(&mut world, c(1), 8);
    lose(&mut world, s(1));
    for round in 0..2u32 {
        for oid in oids.clone() {
            commit(&mut world, oid, 2);
        }
        world.start(s(1));
        let pattern = Pattern::arrival(s(2), s(1), "AnswerRevisions").nth(2);
        let fault = Fault::Crash {
            nodes: vec![s(1)],
            keep: if round == 0 { Keep::All } else { Keep::None },
            in_flight: InFlight::Lost,
        };
        world.plan_at(pattern, When::After, fault);
        world
            .run_until("the fault", PATIENCE, World::has_struck)
            .unwrap();
        world.run_for(Duration::from_millis(100));
    }
    commit(&mut world, oids[0], 1);
    heal(&mut world);
    assert_same(&world, s(1), s(2));
    check_and_crash(&mut world);
}

/// The cluster is stopped while a cell fetches: it goes on after the start.
#[test]
fn a_cluster_may_be_stopped_while_a_cell_catches_up() {
    let mut world = World::booted(replicated(1));
    let (oids, _) = objects(&mut world, c(1), 8);
    lose(&mut world, s(1));
    for oid in oids {
        commit(&mut world, oid, 2);
    }
    world.start(s(1));
    let asked = |world: &World| {
        let points = world.points().iter().rev().take(20);
        let mut names = points.map(|point| format!("{:?}", point.what));
        names.any(|what| what.contains("AskRevisions"))
    };
    world.run_until("the first fetch", PATIENCE, asked).unwrap();
    world.command_master(m(1), neo_master::Command::Stop);
    world.run_for(Duration::from_secs(10));
    assert!(!world.is_serving(s(1)));
    heal(&mut world);
    assert_same(&world, s(1), s(2));
    check_and_crash(&mut world);
}

/// A client can't reach one replica, but the cluster can: the replica that it names is behind for a
/// moment, and both of two writers of one object are there in the end.
#[test]
fn a_storage_node_that_lost_its_locks_loses_no_increment() {
    let mut world = World::booted(replicated(2));
    let counters = super::counters(&mut world, c(1), 1);
    let oid = counters[0];
    let fault = Fault::Cut {
        first: s(1),
        second: c(1),
        gap: Duration::from_millis(1),
        in_flight: InFlight::Delivered,
    };
    let vote = Pattern::arrival(s(1), c(1), "AnswerStoreObject");
    world.plan_at(vote, When::After, fault);
    let scripts: Vec<_> = [c(1), c(2)]
        .into_iter()
        .map(|client| {
            world.run_script(client, async move |client: SimClient| {
                super::increment(&client, oid).await
            })
        })
        .collect();
    for script in &scripts {
        wait(&mut world, "an increment", script).unwrap();
    }
    heal(&mut world);
    let value = run(&mut world, c(1), async move |client: SimClient| {
        client.sync().await?;
        client.load(oid).await
    });
    assert_eq!(value.unwrap().expect("it exists").1, "2");
    check_and_crash(&mut world);
}

/// When the other replica dies in a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dies {
    /// Before it hears of it.
    Untold,
    /// When it has said that it has noted it.
    HavingNoted,
}

/// A replica comes back and is complete; the other one, which went on alone, dies while it is told
/// so. Who goes on alone then, if anybody may, commits; then all end, and the one that died is the
/// first to be back. What was committed must be there. Whether somebody went on, and what is wrong.
fn lose_the_other_in_a_promotion(
    dies: Dies,
    tune: fn(&mut WorldSettings),
) -> (bool, Result<(), String>) {
    let mut settings = WorldSettings {
        // Or the other one would be missed for those that are not complete yet.
        partitions: 1,
        ..replicated(1)
    };
    tune(&mut settings);
    let mut world = World::booted(settings);
    let (oids, _) = objects(&mut world, c(1), 4);
    lose(&mut world, s(2));
    commit(&mut world, oids[0], 2);
    settle(&mut world);
    let crash = Fault::Crash {
        nodes: vec![s(1)],
        keep: Keep::None,
        in_flight: InFlight::Delivered,
    };
    // The first change of the table after the node is back is the promotion.
    let (at, when) = match dies {
        Dies::Untold => (
            Pattern::arrival(m(1), s(1), "NotifyPartitionChanges"),
            When::Before,
        ),
        Dies::HavingNoted => (
            Pattern::arrival(s(1), m(1), "NotifyPartitionTableStored"),
            When::After,
        ),
    };
    world.plan_at(at, when, crash);
    world.start(s(2));
    world
        .run_until("the crash", PATIENCE, |world| !world.is_up(s(1)))
        .unwrap();
    let oid = oids[1];
    let more = world.run_script(c(1), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        changes(&client, oid, 2).await
    });
    world.run_for(Duration::from_secs(2));
    let went_on = more.is_done();
    if !went_on {
        world.start(s(1));
    }
    wait(&mut world, "what is committed later", &more).unwrap();
    world.crash_all();
    for name in [m(1), s(1), c(1)] {
        world.start(name);
    }
    world.run_for(Duration::from_secs(5));
    let healed = world.heal().map_err(|stuck| stuck.to_string());
    (went_on, healed.and_then(|()| world.check()))
}

#[test]
fn a_cell_counts_as_complete_when_those_that_were_have_noted_it() {
    let (went_on, end) = lose_the_other_in_a_promotion(Dies::Untold, |_| {});
    assert!(!went_on, "nobody has all that there is");
    end.unwrap();
    let at_once = |world: &mut WorldSettings| {
        world.tune_master = |master| master.mutations.promote_at_once = true;
    };
    let (went_on, end) = lose_the_other_in_a_promotion(Dies::Untold, at_once);
    let wrong = end.unwrap_err();
    assert!(went_on && wrong.contains("acknowledged"), "{wrong}");
}

#[test]
fn what_is_noted_of_a_promotion_is_durable() {
    let (went_on, end) = lose_the_other_in_a_promotion(Dies::HavingNoted, |_| {});
    assert!(went_on, "the one that was promoted has all that there is");
    end.unwrap();
    let not_durable = |world: &mut WorldSettings| {
        world.tune_storage = |storage| storage.mutations.table_not_durable = true;
    };
    let (went_on, end) = lose_the_other_in_a_promotion(Dies::HavingNoted, not_durable);
    let wrong = end.unwrap_err();
    assert!(went_on && wrong.contains("acknowledged"), "{wrong}");
}
