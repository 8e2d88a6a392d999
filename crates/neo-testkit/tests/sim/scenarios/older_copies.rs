//! An older copy of one storage node's disk is put back: what it lacks is found out.

use std::time::Duration;

use neo_api::{CellState, ClusterState, Oid, Tid};
use neo_client::Error;
use neo_testkit::sim::{InFlight, Keep, PATIENCE, SimClient, World, WorldSettings, c, s};

use super::forced::cells_of;
use super::{caught_up, change, check, check_and_crash, heal, objects, replicated, run, settle};

/// Everything crashes, an older disk of the first storage node is put back, and all starts again:
/// until the cluster runs.
fn restart_with_older_copy(world: &mut World) {
    world.crash_all();
    world.put_disk_back(s(1));
    world.start_all();
    let running = |world: &World| world.cluster_state() == Some(ClusterState::Running);
    if let Err(stuck) = world.run_until("RUNNING", PATIENCE, running) {
        panic!("{stuck}\n{}", world.trace().tail(100));
    }
}

/// Changes objects, one transaction each, from the revision that each has.
fn change_all(world: &mut World, oids: &[Oid], serial: Tid, value: &'static str) -> Vec<Tid> {
    let oids = oids.to_vec();
    let done = run(world, c(1), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        let mut tids = Vec::new();
        for oid in oids {
            tids.push(change(&client, oid, serial, value).await?);
        }
        Ok::<_, Error>(tids)
    });
    done.unwrap()
}

fn assert_serials(world: &mut World, oids: &[Oid], serials: &[Tid]) {
    let (oids, serials) = (oids.to_vec(), serials.to_vec());
    let read = run(world, c(1), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        client.sync().await?;
        for (oid, expected) in oids.into_iter().zip(serials) {
            let (serial, _) = client.load(oid).await?.expect("it exists");
            assert_eq!(serial, expected, "{oid}");
        }
        Ok::<_, Error>(())
    });
    read.unwrap();
}

/// The cluster starts with an older disk of one node: the node's cells are out of date before
/// anything is read from them, and catch up.
#[test]
fn an_older_disk_is_found_out_at_the_start_and_catches_up() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 8);
    world.copy_disk(s(1));
    let serials = change_all(&mut world, &oids, first, "second");
    settle(&mut world);
    restart_with_older_copy(&mut world);
    assert_eq!(cells_of(&world, s(1)), [CellState::OutOfDate; 4]);
    assert_eq!(cells_of(&world, s(2)), [CellState::UpToDate; 4]);
    heal(&mut world);
    assert_eq!(caught_up(&world, s(1)), 4);
    check(&world);
    assert_serials(&mut world, &oids, &serials);
    // What it says now is believed: the other one may be lost.
    world.crash(&[s(2)], Keep::None, InFlight::Lost);
    assert_serials(&mut world, &oids, &serials);
    check_and_crash(&mut world);
}

/// All that a cell lacks is the metadata of one transaction, whose object is in another partition.
#[test]
fn a_cell_that_lacks_metadata_alone_is_found_out() {
    let mut world = World::booted(WorldSettings {
        partitions: 2,
        ..replicated(1)
    });
    let (oids, mut serial) = objects(&mut world, c(1), 2);
    let oid = oids.into_iter().find(|oid| oid.0 % 2 == 0);
    let oid = oid.expect("one of two numbers in a row is even");
    loop {
        world.copy_disk(s(1));
        serial = change_all(&mut world, &[oid], serial, "more")[0];
        settle(&mut world);
        if serial.0 % 2 == 1 {
            break;
        }
    }
    restart_with_older_copy(&mut world);
    assert_eq!(cells_of(&world, s(1)), [CellState::OutOfDate; 2]);
    heal(&mut world);
    check(&world);
    assert_serials(&mut world, &[oid], &[serial]);
    check_and_crash(&mut world);
}

/// A partition in which nothing was committed since the copy is not touched.
#[test]
fn cells_that_an_older_disk_has_in_full_stay_readable() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 4);
    world.copy_disk(s(1));
    let serials = change_all(&mut world, &oids[..1], first, "second");
    settle(&mut world);
    let changed = [oids[0].0 % 4, serials[0].0 % 4];
    restart_with_older_copy(&mut world);
    let expected = (0..4).map(|partition| match changed.contains(&partition) {
        true => CellState::OutOfDate,
        false => CellState::UpToDate,
    });
    let expected: Vec<CellState> = expected.collect();
    assert_eq!(cells_of(&world, s(1)), expected);
    check_and_crash(&mut world);
}

/// The copy was made at any moment of a commit: what had voted there is completed, or dropped, and
/// what came later is fetched.
#[test]
fn a_disk_that_was_copied_in_the_middle_of_a_commit_is_completed() {
    for micros in (0..2400).step_by(150) {
        let mut world = World::booted(replicated(1));
        let (oids, first) = objects(&mut world, c(1), 4);
        let oid = oids[0];
        let commit = world.run_script(c(1), async move |client: SimClient| {
            change(&client, oid, first, "second").await
        });
        world.run_for(Duration::from_micros(micros));
        world.copy_disk(s(1));
        let second = super::wait(&mut world, "the commit", &commit).unwrap();
        let later = change_all(&mut world, &oids[1..], first, "third");
        settle(&mut world);
        restart_with_older_copy(&mut world);
        heal(&mut world);
        check(&world);
        assert_serials(&mut world, &oids[..1], &[second]);
        assert_serials(&mut world, &oids[1..], &later);
    }
}

/// A node that comes with an older disk to a cluster that runs is out of date already.
#[test]
fn an_older_disk_comes_to_a_cluster_that_runs() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 4);
    world.copy_disk(s(1));
    let second = change_all(&mut world, &oids[..2], first, "second");
    settle(&mut world);
    world.crash(&[s(1)], Keep::None, InFlight::Lost);
    let third = change_all(&mut world, &oids[2..], first, "third");
    world.put_disk_back(s(1));
    heal(&mut world);
    check(&world);
    world.crash(&[s(2)], Keep::None, InFlight::Lost);
    assert_serials(&mut world, &oids, &[second, third].concat());
    check_and_crash(&mut world);
}

/// The node with the older disk, or the primary, is lost while the cells are being outdated.
#[test]
fn a_start_with_an_older_disk_may_be_cut_short_anywhere() {
    for micros in (0..6000).step_by(600) {
        for lost in [s(1), s(2), neo_testkit::sim::m(1)] {
            let mut world = World::booted(replicated(1));
            let (oids, first) = objects(&mut world, c(1), 4);
            world.copy_disk(s(1));
            let serials = change_all(&mut world, &oids, first, "second");
            settle(&mut world);
            world.crash_all();
            world.put_disk_back(s(1));
            world.start_all();
            world.run_for(Duration::from_micros(micros));
            world.crash(&[lost], Keep::None, InFlight::Lost);
            heal(&mut world);
            check(&world);
            assert_serials(&mut world, &oids, &serials);
        }
    }
}
