//! Several masters: who leads, who follows, who takes over, and what two that lead can't do.

use std::time::Duration;

use neo_api::{CellState, ClusterState};
use neo_master::Command;
use neo_testkit::sim::{
    Ended, Fault, InFlight, Keep, Name, PATIENCE, Pattern, SimClient, When, World, WorldSettings,
    c, m, p, s,
};

use super::forced::{cells_of, last_words, order_start_at, value, write};
use super::{change, check, check_and_crash, objects, settle};

fn of(masters: u8) -> WorldSettings {
    WorldSettings {
        masters,
        ..WorldSettings::default()
    }
}

fn crash(world: &mut World, name: Name) {
    world.crash(&[name], Keep::None, InFlight::Delivered);
}

fn stuck_at(world: &World, what: &impl std::fmt::Display) -> ! {
    panic!("{what}\n{}", world.trace().tail(200))
}

/// One leads, and all others that are up follow it.
fn is_agreed(world: &World) -> bool {
    let leaders: Vec<Name> = world.leaders().collect();
    let [leader] = leaders[..] else { return false };
    let masters = world.names().filter(|name| matches!(name, Name::Master(_)));
    let mut others = masters.filter(|name| *name != leader && world.is_up(*name));
    others.all(|name| {
        let follows = world.master(name).and_then(|master| master.follows());
        follows == Some(&leader.address())
    })
}

fn agree(world: &mut World) -> Name {
    let agreed = world.run_until("one primary, and all others follow", PATIENCE, is_agreed);
    agreed.unwrap_or_else(|stuck| stuck_at(world, &stuck));
    world.primary().unwrap()
}

fn until_running(world: &mut World) {
    if let Err(stuck) = world.wait_running() {
        stuck_at(world, &stuck);
    }
}

/// How long it takes until clients are served again.
fn until_served(world: &mut World) -> Duration {
    let since = world.now();
    until_running(world);
    world.now() - since
}

fn nids(world: &World, masters: u8) -> Vec<String> {
    let cores = (1..=masters).filter_map(|n| world.master(m(n)));
    cores.map(|core| core.nid().to_string()).collect()
}

/// What a master that leads waits for.
fn waiting(world: &World, master: Name) -> String {
    world.master(master).unwrap().status().waiting.clone()
}

#[test]
fn a_secondary_takes_over_and_the_first_primary_follows_when_it_comes_back() {
    let mut world = World::booted(of(2));
    assert_eq!(agree(&mut world), m(1));
    let (oids, _) = objects(&mut world, c(1), 1);
    crash(&mut world, m(1));
    let took = until_served(&mut world);
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert_eq!(world.primary(), Some(m(2)));
    write(&mut world, c(1), oids[0], "second");
    world.start(m(1));
    assert_eq!(agree(&mut world), m(2));
    assert_eq!(world.cluster_state(), Some(ClusterState::Running));
    settle(&mut world);
    write(&mut world, c(1), oids[0], "third");
    assert!(world.is_serving(s(1)));
    check_and_crash(&mut world);
}

#[test]
fn masters_that_start_one_after_the_other_keep_the_first_primary_and_their_ids() {
    let mut world = World::new(of(3));
    // The one with the greatest address is the first.
    for master in [m(3), m(1), m(2)] {
        world.start(master);
        world.run_for(Duration::from_secs(1));
        assert_eq!(agree(&mut world), m(3));
    }
    assert_eq!(nids(&world, 3), ["M2", "M3", "M1"]);
    world.start_all();
    until_running(&mut world);
    for _ in 0..3 {
        let primary = world.primary().unwrap();
        crash(&mut world, primary);
        until_running(&mut world);
        world.start(primary);
        assert_ne!(agree(&mut world), primary);
        settle(&mut world);
        assert_eq!(nids(&world, 3), ["M2", "M3", "M1"]);
    }
    check_and_crash(&mut world);
}

#[test]
fn a_secondary_is_lost_then_the_primary_and_the_third_leads() {
    let mut world = World::booted(of(3));
    let (oids, _) = objects(&mut world, c(1), 1);
    let first = agree(&mut world);
    let others: Vec<Name> = (1..=3).map(m).filter(|name| *name != first).collect();
    crash(&mut world, others[0]);
    settle(&mut world);
    assert_eq!(world.primary(), Some(first));
    crash(&mut world, first);
    until_running(&mut world);
    assert_eq!(world.primary(), Some(others[1]));
    write(&mut world, c(1), oids[0], "second");
    check_and_crash(&mut world);
}

#[test]
fn twenty_masters_agree_and_agree_again() {
    let mut world = World::booted(of(20));
    let first = agree(&mut world);
    crash(&mut world, first);
    let took = until_served(&mut world);
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert_ne!(agree(&mut world), first);
    world.start(first);
    assert_ne!(agree(&mut world), first);
}

#[test]
fn an_identification_that_is_late_changes_nothing() {
    for (from, to) in [(m(1), m(2)), (m(2), m(1)), (m(2), m(3)), (m(3), m(1))] {
        for packet in ["RequestIdentification", "AcceptIdentification"] {
            for by in [50, 300, 3000] {
                let mut world = World::new(of(3));
                let arrival = Pattern::arrival(from, to, packet);
                let late = Fault::Delay(Duration::from_millis(by));
                world.plan_at(arrival, When::Before, late);
                world.start_all();
                until_running(&mut world);
                agree(&mut world);
                settle(&mut world);
                assert!(is_agreed(&world));
            }
        }
    }
}

/// Nodes are told of the first master only; the first master is told of nobody.
#[test]
fn masters_that_nobody_was_told_of_are_accepted_learnt_and_found() {
    let mut world = World::booted(WorldSettings {
        tune_master: |settings| settings.masters.truncate(1),
        tune_storage: |settings| settings.masters.truncate(1),
        ..of(3)
    });
    assert_eq!(agree(&mut world), m(1));
    let (oids, _) = objects(&mut world, c(1), 1);
    for left in [2, 1] {
        let primary = agree(&mut world);
        crash(&mut world, primary);
        until_running(&mut world);
        let up = (1..=3).filter(|n| world.is_up(m(*n))).count();
        assert_eq!(up, left);
        write(&mut world, c(1), oids[0], "another master");
    }
    // Who comes back knows the first one only, which knows nobody: the one that leads finds both.
    world.start_all();
    agree(&mut world);
    check_and_crash(&mut world);
}

/// Two sides that do not see each other when there is no cluster yet. Each master leads, and calls
/// itself M1, and its storage node S1; neither creates a cluster of too few. Then they meet.
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

/// The same, but each side is enough for a cluster, and makes one. These are two, and stay two:
/// their masters refuse each other, and a storage node of the one refuses to be of the other.
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

/// The primary stands still, its connections open. When its silence has been long enough, another
/// master leads. When the first goes on, it finds its connections dead, and follows.
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

/// The primary and a client of its see each other still, and nobody else sees it; the others elect
/// another one. Both sides try to commit: the client of the first can't, since no storage node
/// obeys its master.
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

/// The primary is lost together with a storage node that has complete copies: the next one can't
/// know whether commits went on there, so it waits, and says for whom.
#[test]
fn a_primary_and_a_storage_node_that_are_lost_together_are_waited_for() {
    let mut world = World::booted(of(2));
    let (oids, _) = objects(&mut world, c(1), 1);
    let first = agree(&mut world);
    let other = if first == m(1) { m(2) } else { m(1) };
    world.crash(&[first, s(1)], Keep::None, InFlight::Lost);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.primary(), Some(other));
    assert_eq!(world.cluster_state(), Some(ClusterState::Recovering));
    let missing = world.nid(s(1)).unwrap();
    let words = waiting(&world, other);
    assert!(
        words.starts_with(&format!("waiting for {missing} ")),
        "{words}"
    );
    // The first one knows no more.
    world.start(first);
    agree(&mut world);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.cluster_state(), Some(ClusterState::Recovering));
    world.start(s(1));
    until_running(&mut world);
    write(&mut world, c(1), oids[0], "second");
    check_and_crash(&mut world);
}

/// The cluster is split in the middle; the side with the primary goes on, and an operator starts
/// the other one by force. When they meet, the side that was started is the cluster: the other
/// master falls back and follows, and its storage node is out of date, or refused when it went on.
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

/// Both sides are started by force: they are two clusters then. Their masters refuse each other and
/// go on, and whoever changes sides is told what to do.
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

#[test]
fn masters_that_follow_end_with_the_cluster() {
    let mut world = World::booted(of(3));
    let primary = agree(&mut world);
    world.command_master(primary, Command::StopCluster);
    let ended = world.run_until("the end of all", PATIENCE, |world| {
        let nodes = (1..=3).map(m).chain([s(1), s(2)]);
        nodes.into_iter().all(|name| world.ended(name).is_some())
    });
    ended.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
    assert!((1..=3).all(|n| world.ended(m(n)) == Some(&Ended::Cleanly)));
    world.run_for(Duration::from_secs(5));
    check(&world);
}
