//! Masters that do not see each other, and masters that stand still: two that lead, and what they
//! can't do.

use std::time::Duration;

use neo_api::{CellState, ClusterState};
use neo_testkit::sim::{PATIENCE, SimClient, World, WorldSettings, c, m, p, s};

use super::forced::{cells_of, last_words, order_start_at, value, write};
use super::masters::{agree, crash, nids, of, stuck_at, until_running, waiting};
use super::{change, check_and_crash, objects, settle};

#[test]
fn two_sides_before_there_is_a_cluster_become_one() {
    let mut world = World::new(of(2));
    let sides = [[m(1), s(1)], [m(2), s(2)]];
    world.block(&sides[0], &sides[1]);
    world.block(&sides[1], &sides[0]);
    for name in sides.concat() {
        world.start(name);
    }
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.leaders().count(), 2);
    assert_eq!(nids(&world, 2), ["M1", "M1"]);
    assert_eq!(world.nid(s(1)), world.nid(s(2)));
    world.end_faults();
    until_running(&mut world);
    agree(&mut world);
    settle(&mut world);
    let mut nids = nids(&world, 2);
    nids.sort();
    assert_eq!(nids, ["M1", "M2"]);
    assert_ne!(world.nid(s(1)), world.nid(s(2)));
    world.start_all();
    until_running(&mut world);
    objects(&mut world, c(1), 4);
    check_and_crash(&mut world);
}

#[test]
fn two_clusters_that_were_created_apart_do_not_mix() {
    let mut world = World::new(WorldSettings {
        tune_master: |settings| settings.autostart = Some(1),
        ..of(2)
    });
    let sides = [[m(1), s(1)], [m(2), s(2)]];
    world.block(&sides[0], &sides[1]);
    world.block(&sides[1], &sides[0]);
    for name in sides.concat() {
        world.start(name);
    }
    world.run_for(Duration::from_secs(20));
    world.end_faults();
    world.run_for(Duration::from_secs(20));
    let running = |world: &World, n| {
        let state = world.master(m(n)).and_then(|master| master.cluster_state());
        state == Some(ClusterState::Running)
    };
    assert!(running(&world, 1) && running(&world, 2));
    assert!(world.is_serving(s(1)) && world.is_serving(s(2)));
    crash(&mut world, m(2));
    let words = last_words(&mut world, s(2));
    assert!(
        words.contains("belongs to another one of the same name"),
        "{words}"
    );
    assert!(running(&world, 1));
}

#[test]
fn a_primary_that_stands_still_is_replaced_and_commits_nothing_when_it_goes_on() {
    for still in [5, 11, 60] {
        let mut world = World::booted(WorldSettings {
            clients: 2,
            ..of(3)
        });
        let (oids, _) = objects(&mut world, c(1), 2);
        let first = agree(&mut world);
        let oid = oids[1];
        // Somebody is about to commit by it.
        let late = world.run_script(c(2), async move |client: SimClient| {
            client.sync().await?;
            let (serial, _) = client.load(oid).await?.expect("it exists");
            change(&client, oid, serial, "late").await
        });
        world.run_for(Duration::from_micros(300));
        world.freeze(first);
        world.run_for(Duration::from_secs(still));
        let replaced = still > 10;
        if replaced {
            let patience = Duration::from_secs(6);
            let other = world.run_until("another primary", patience, |world| {
                world.is_running() && world.primary() != Some(first)
            });
            other.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
            write(&mut world, c(1), oids[0], "by another");
        }
        let by_others = world.oracle().borrow().counts();
        world.thaw(first);
        let primary = agree(&mut world);
        assert_eq!(primary != first, replaced, "after {still} s");
        let ended = world.run_until("the late commit", PATIENCE, |_| late.is_done());
        ended.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
        assert!(world.oracle().borrow().counts().0 >= by_others.0);
        until_running(&mut world);
        settle(&mut world);
        write(&mut world, c(2), oids[1], "later");
        check_and_crash(&mut world);
    }
}

#[test]
fn of_two_that_lead_only_one_commits() {
    let mut world = World::booted(WorldSettings {
        clients: 2,
        ..of(2)
    });
    let (oids, _) = objects(&mut world, c(1), 2);
    let first = agree(&mut world);
    let other = if first == m(1) { m(2) } else { m(1) };
    let rest = [other, s(1), s(2), c(2)];
    world.block(&[first], &rest);
    world.block(&rest, &[first]);
    let oid = oids[0];
    let tries = world.run_script(c(1), async move |client: SimClient| {
        let mut committed = 0;
        for _ in 0..200 {
            let attempt = async {
                client.sync().await?;
                let (serial, _) = client.load(oid).await?.expect("it exists");
                change(&client, oid, serial, "try").await
            };
            committed += u32::from(attempt.await.is_ok());
            client.sleep(Duration::from_millis(100)).await;
        }
        committed
    });
    let two = world.run_until("two that lead", PATIENCE, |world| {
        world.leaders().count() == 2
    });
    two.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
    let other_runs = world.run_until("the other one serves", PATIENCE, |world| {
        let state = world
            .master(other)
            .and_then(|master| master.cluster_state());
        state == Some(ClusterState::Running) && world.is_serving(c(2))
    });
    other_runs.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
    write(&mut world, c(2), oids[1], "by the other");
    world.end_faults();
    assert_eq!(agree(&mut world), other);
    let done = world.run_until("the tries", PATIENCE, |_| tries.is_done());
    done.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
    settle(&mut world);
    assert_eq!(value(&mut world, c(1), oids[1]), "by the other");
    check_and_crash(&mut world);
}

#[test]
fn a_side_that_was_started_by_force_leaves_the_other_primary_behind() {
    for went_on in [false, true] {
        let mut world = World::booted(WorldSettings {
            clients: 2,
            puppets: 1,
            ..of(2)
        });
        let (oids, _) = objects(&mut world, c(1), 1);
        let oid = oids[0];
        let first = agree(&mut world);
        let other = if first == m(1) { m(2) } else { m(1) };
        let here = [first, s(1), c(1)];
        let there = [other, s(2), c(2), p(1)];
        world.block(&here, &there);
        world.block(&there, &here);
        world.run_for(Duration::from_secs(30));
        assert_eq!(world.leaders().count(), 2);
        let words = waiting(&world, other);
        assert!(words.starts_with("waiting for "), "{words}");
        if went_on {
            write(&mut world, c(1), oid, "lost");
        }
        let words = order_start_at(&mut world, other).unwrap();
        assert!(words.contains("by force"), "{words}");
        let runs = world.run_until("the other side serves", PATIENCE, |world| {
            world.is_serving(s(2)) && world.is_serving(c(2))
        });
        runs.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
        write(&mut world, c(2), oid, "kept");

        world.end_faults();
        assert_eq!(agree(&mut world), other);
        if went_on {
            let words = last_words(&mut world, s(1));
            assert!(words.contains("on its own"), "{words}");
        } else {
            let joined = world.run_until("the one left behind catches up", PATIENCE, |world| {
                cells_of(world, s(1)) == [CellState::UpToDate; 4]
            });
            joined.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
        }
        assert_eq!(value(&mut world, c(1), oid), "kept");
        assert_eq!(value(&mut world, c(2), oid), "kept");
    }
}

#[test]
fn two_sides_that_were_started_by_force_under_a_master_each_do_not_mix() {
    let mut world = World::booted(WorldSettings {
        clients: 2,
        puppets: 1,
        ..of(2)
    });
    let (oids, _) = objects(&mut world, c(1), 1);
    world.crash_all();
    let sides = [[m(1), s(1), c(1)], [m(2), s(2), c(2)]];
    world.block(&sides[0], &sides[1]);
    world.block(&sides[1], &sides[0]);
    for name in sides.concat() {
        world.start(name);
    }
    world.run_for(Duration::from_secs(20));
    for n in [1, 2] {
        order_start_at(&mut world, m(n)).unwrap();
        let runs = world.run_until("it serves", PATIENCE, |world| world.is_serving(c(n)));
        runs.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
    }
    write(&mut world, c(1), oids[0], "on the first side");
    write(&mut world, c(2), oids[0], "on the second side");
    world.end_faults();
    world.run_for(Duration::from_secs(30));
    for n in [1, 2] {
        let state = world.master(m(n)).and_then(|master| master.cluster_state());
        assert_eq!(state, Some(ClusterState::Running));
    }
    assert_eq!(value(&mut world, c(1), oids[0]), "on the first side");
    assert_eq!(value(&mut world, c(2), oids[0]), "on the second side");
    crash(&mut world, m(2));
    let words = last_words(&mut world, s(2));
    assert!(words.contains("started by force on two sides"), "{words}");
    assert_eq!(value(&mut world, c(1), oids[0]), "on the first side");
}
