//! Databases that come back after their node's id, or its place, went to another.

use std::time::Duration;

use neo_api::{NodeState, Oid};
use neo_proto::Packet;
use neo_testkit::sim::{InFlight, Keep, Name, World, WorldSettings, c, m, s};

use super::growing::{booted, increments, is_done, nid, order, tweak, until};
use super::{count, counters, heal, settle, wait};

/// How long the wrong ones may try alone.
const ALONE: Duration = Duration::from_secs(20);

const TIMES: u32 = 20;

fn settings(storages: u8) -> WorldSettings {
    WorldSettings {
        storages,
        replicas: 1,
        clients: 1,
        partitions: 4,
        is_terse: true,
        ..WorldSettings::default()
    }
}

fn crash(world: &mut World, nodes: &[Name]) {
    world.crash(nodes, Keep::None, InFlight::Lost);
}

/// New cells on whoever is pending, once they are complete.
fn grow(world: &mut World, ignored: &[Name]) {
    order(world, Packet::AddPendingNodes { nodes: Vec::new() });
    tweak(world, ignored);
    until(world, "the new cells", is_done);
}

fn work(world: &mut World, oid: Oid) {
    let script = world.run_script(c(1), async move |client| {
        increments(client, oid, TIMES).await
    });
    wait(world, "the client", &script).unwrap();
    settle(world);
}

/// The power fails; first the nodes come that have nothing, or less, and then the last one.
/// Whatever was told to clients is there, with all of them and without each.
fn first_come_the_wrong(world: &mut World, first: &[Name], last: Name, oid: Oid) {
    world.crash_all();
    for name in [&[m(1), c(1)], first].concat() {
        world.start(name);
    }
    world.run_for(ALONE);
    assert!(!world.is_running(), "a readable cell is missing");
    world.start(last);
    heal(world);
    assert_eq!(count(world, c(1), oid), i64::from(TIMES));
    let storages = world
        .names()
        .filter(|name| matches!(name, Name::Storage(_)));
    for away in storages.collect::<Vec<_>>() {
        if world.is_readable(away) {
            crash(world, &[away]);
            assert_eq!(count(world, c(1), oid), i64::from(TIMES), "without {away}");
            heal(world);
        }
    }
    world.check().unwrap();
}

#[test]
fn an_id_that_was_of_a_pending_node_is_not_that_of_its_database() {
    let mut world = booted(settings(4), 2, |settings| settings.autostart = Some(2));
    let oid = counters(&mut world, c(1), 1)[0];
    world.start(s(3));
    world.run_for(Duration::from_secs(1));
    crash(&mut world, &[s(3), m(1)]);
    world.start(m(1));
    until(&mut world, "running again", World::is_running);
    world.start(s(4));
    world.run_for(Duration::from_secs(1));
    assert_eq!(nid(&world, s(4)), nid(&world, s(3)), "the id was free");
    grow(&mut world, &[]);
    work(&mut world, oid);
    first_come_the_wrong(&mut world, &[s(1), s(2), s(3)], s(4), oid);
    assert_ne!(nid(&world, s(4)), nid(&world, s(3)));
}

#[test]
fn what_replaces_a_node_that_was_dropped_has_another_id() {
    let mut world = booted(settings(3), 2, |settings| settings.autostart = Some(2));
    let oid = counters(&mut world, c(1), 1)[0];
    crash(&mut world, &[s(2)]);
    world.run_for(Duration::from_secs(1));
    let (gone, state) = (nid(&world, s(2)), NodeState::Unknown);
    order(&mut world, Packet::SetNodeState { nid: gone, state });
    crash(&mut world, &[m(1)]);
    world.start(m(1));
    until(&mut world, "running again", World::is_running);
    world.start(s(3));
    world.run_for(Duration::from_secs(1));
    assert_ne!(nid(&world, s(3)), gone);
    grow(&mut world, &[]);
    work(&mut world, oid);
    first_come_the_wrong(&mut world, &[s(2), s(1)], s(3), oid);
}

#[test]
fn a_node_that_was_replaced_without_an_operator_keeps_its_id_to_itself() {
    let mut world = booted(settings(4), 3, |settings| {
        settings.autostart = Some(3);
        settings.auto_tweak_s = Some(30);
    });
    let oid = counters(&mut world, c(1), 1)[0];
    crash(&mut world, &[s(3)]);
    until(&mut world, "the copies on the others", |world| {
        is_done(world) && !world.has_cell(s(3))
    });
    // The others know it too.
    world.run_for(Duration::from_secs(1));
    crash(&mut world, &[m(1)]);
    world.start(m(1));
    until(&mut world, "running again", World::is_running);
    world.start(s(4));
    world.run_for(Duration::from_secs(1));
    assert_ne!(nid(&world, s(4)), nid(&world, s(3)));
    grow(&mut world, &[]);
    work(&mut world, oid);
    first_come_the_wrong(&mut world, &[s(3), s(1), s(2)], s(4), oid);
    // The primary has changed, and knows all the same that it had cells: it gets its share.
    until(&mut world, "its share", |world| {
        is_done(world) && world.is_readable(s(3))
    });
    world.check().unwrap();
}
