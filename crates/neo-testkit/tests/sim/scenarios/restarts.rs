//! Nodes and clusters that stop and start.

use std::time::Duration;

use neo_api::{CellState, ClusterState, Oid, Tid};
use neo_client::Error;
use neo_master::Command;
use neo_testkit::sim::{Ended, InFlight, Keep, SimClient, World, c, m, s};

use super::{caught_up, change, check, check_and_crash, objects, replicated, run, settle, wait};

/// A replica is lost, the other goes on: when the lost one is back, it gets what it missed, and is
/// read, before and after a restart of everything.
#[test]
fn a_replica_that_missed_commits_is_read_when_it_has_them() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 4);
    world.crash(&[s(1)], Keep::None, InFlight::Lost);
    let later = oids.clone();
    let second = run(&mut world, c(1), async move |client: SimClient| {
        let txn = client.begin().await?;
        for oid in later {
            txn.store(oid, first, "second").await?;
        }
        txn.commit().await
    });
    let second = second.unwrap();
    for crash in [false, true] {
        if crash {
            world.crash_all();
        }
        world.heal().unwrap();
        let table = world.partition_table().expect("a table");
        let mut cells = table.rows.iter().flatten();
        assert!(cells.all(|cell| cell.state == CellState::UpToDate));
        assert_eq!(caught_up(&world, s(1)), 4);
        let names = oids.clone();
        let read = run(&mut world, c(1), async move |client: SimClient| {
            client.wait_ready(Duration::from_secs(60)).await?;
            client.sync().await?;
            for oid in names {
                let (serial, _) = client.load(oid).await?.expect("it exists");
                assert_eq!(serial, second);
            }
            Ok::<_, Error>(())
        });
        read.unwrap();
        check(&world);
    }
}

/// The copy that went on is down: the other one alone does not start the cluster.
#[test]
fn a_cluster_does_not_start_without_the_copy_that_went_on() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    world.crash(&[s(1)], Keep::None, InFlight::Lost);
    let done = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    done.unwrap();
    settle(&mut world);
    world.crash_all();
    world.start(m(1));
    world.start(s(1));
    world.run_for(Duration::from_secs(60));
    // It can't know that it is behind; but the table that it has names the other copy too.
    assert_eq!(world.cluster_state(), Some(ClusterState::Recovering));
    world.start(s(2));
    check_and_crash(&mut world);
}

/// The master falls back to RECOVERING when the last copy is gone, and goes on when it is back.
#[test]
fn the_master_waits_for_the_last_copy() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    world.crash(&[s(1)], Keep::None, InFlight::Lost);
    let done = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    let second = done.unwrap();
    settle(&mut world);
    world.crash(&[s(2)], Keep::None, InFlight::Lost);
    world.start(s(1));
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.cluster_state(), Some(ClusterState::Recovering));
    world.start(s(2));
    world.wait_running().unwrap();
    let done = run(&mut world, c(1), async move |client: SimClient| {
        client.wait_ready(Duration::from_secs(60)).await?;
        change(&client, oid, second, "third").await
    });
    done.unwrap();
    check_and_crash(&mut world);
}

/// The cluster is stopped in the middle of a commit: the commit ends, later ones are refused, and
/// nothing is outdated after a restart.
#[test]
fn a_shutdown_lets_a_commit_end() {
    for micros in [50, 200, 400, 600, 900, 1200, 1500] {
        let mut world = World::booted(replicated(2));
        let (oids, first) = objects(&mut world, c(1), 2);
        let (a, b) = (oids[0], oids[1]);
        let commit = world.run_script(c(1), async move |client: SimClient| {
            change(&client, a, first, "second").await
        });
        world.run_for(Duration::from_micros(micros));
        world.command_master(m(1), Command::StopCluster);
        world.run_for(Duration::from_micros(300));
        let refused = world.run_script(c(2), async move |client: SimClient| {
            change(&client, b, first, "refused").await
        });
        let stopped = world.run_until("stopped", Duration::from_secs(60), |world| {
            [m(1), s(1), s(2)].iter().all(|name| !world.is_up(*name))
        });
        stopped.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(100)));
        for name in [m(1), s(1), s(2)] {
            assert_eq!(world.ended(name), Some(&Ended::Cleanly), "{name}");
        }
        world.start_all();
        let commit = wait(&mut world, "the commit", &commit);
        if micros > 200 {
            // It had begun.
            commit.unwrap();
        }
        // It waits for the cluster to come back, or is refused: never half done.
        drop(wait(&mut world, "the other", &refused));
        world.heal().unwrap();
        let table = world.partition_table().expect("a table");
        let cells = table.rows.iter().flatten();
        for cell in cells {
            assert_eq!(cell.state, CellState::UpToDate, "after {micros} us");
        }
        check_and_crash(&mut world);
    }
}

/// Oids are given once, whatever restarts, and however soon.
#[test]
fn no_oid_is_given_twice() {
    let mut world = World::booted(replicated(2));
    let mut greatest = Oid::ZERO;
    for round in 0..6 {
        for name in [c(1), c(2)] {
            let oids = run(&mut world, name, async move |client: SimClient| {
                client.wait_ready(Duration::from_secs(60)).await?;
                client.new_oids(3 + round).await
            });
            let oids = oids.unwrap();
            assert!(oids.iter().all(|oid| *oid > greatest));
            greatest = *oids.last().expect("some");
        }
        match round % 3 {
            0 => world.crash(&[m(1)], Keep::None, InFlight::Lost),
            1 => world.crash_all(),
            _ => world.crash(&[m(1), s(1), s(2)], Keep::None, InFlight::Lost),
        }
        world.heal().unwrap();
        check(&world);
    }
}

/// An object stored under an oid of the client's own choosing moves the mark.
#[test]
fn an_oid_that_was_stored_is_never_given() {
    let mut world = World::booted(replicated(1));
    let chosen = Oid(1_234_567);
    let stored = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, chosen, Tid::ZERO, "mine").await
    });
    stored.unwrap();
    for crash in [false, true] {
        if crash {
            world.crash_all();
            world.heal().unwrap();
        }
        let given = run(&mut world, c(1), async move |client: SimClient| {
            client.wait_ready(Duration::from_secs(60)).await?;
            client.new_oids(1).await
        });
        assert!(given.unwrap()[0] > chosen);
    }
    settle(&mut world);
    check(&world);
}
