//! Storage nodes that come, go and share anew, while clients are at work.

use std::time::Duration;

use neo_api::{CellState, NodeId, NodeState, NodeType, Oid};
use neo_client::Error;
use neo_proto::Packet;
use neo_testkit::sim::{
    Fault, Handle, InFlight, Keep, Name, PATIENCE, Placed, SimClient, When, World, WorldSettings,
    c, m, s,
};

use super::forced::ask;
use super::{check_and_crash, count, counters, increment, settle, wait};

/// A cluster of the first storage nodes; the others have not come yet.
pub(super) fn booted(
    settings: WorldSettings,
    first: u8,
    tune: fn(&mut neo_master::MasterSettings),
) -> World {
    let mut world = World::new(WorldSettings {
        puppets: 1,
        tune_master: tune,
        ..settings
    });
    let all: Vec<Name> = world.names().collect();
    let later = |name: &Name| matches!(name, Name::Storage(n) if *n > first);
    for name in all.into_iter().filter(|name| !later(name)) {
        world.start(name);
    }
    let running = world.wait_running().and_then(|()| world.settle(PATIENCE));
    running.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(100)));
    world
}

pub(super) fn order(world: &mut World, packet: Packet) -> Packet {
    match ask(world, NodeType::Admin, Some(packet)) {
        Packet::Error { message, .. } => panic!("{message}"),
        answer => answer,
    }
}

/// `neoctl tweak`, leaving some nodes alone.
pub(super) fn tweak(world: &mut World, ignored: &[Name]) {
    let ignore = ignored.iter().map(|name| nid(world, *name)).collect();
    let packet = Packet::TweakPartitionTable {
        dry_run: false,
        ignore,
    };
    order(world, packet);
}

pub(super) fn nid(world: &World, name: Name) -> NodeId {
    world.nid(name).expect("it has been here")
}

pub(super) fn until(world: &mut World, what: &str, is_so: impl Fn(&World) -> bool) {
    let so = world.run_until(what, PATIENCE, is_so);
    so.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(200)));
}

/// Every cell is UP_TO_DATE.
pub(super) fn is_done(world: &World) -> bool {
    let rows = world.partition_table().map(|table| &table.rows);
    let mut cells = rows.into_iter().flatten().flatten();
    cells.all(|cell| cell.state == CellState::UpToDate)
}

/// Copies of each partition.
fn copies(world: &World) -> Vec<usize> {
    let rows = world.partition_table().expect("a table").rows.iter();
    rows.map(Vec::len).collect()
}

pub(super) async fn increments(client: SimClient, oid: Oid, times: u32) -> Result<(), Error> {
    let mut done = 0;
    while done < times {
        client.wait_ready(PATIENCE).await?;
        client.sync().await?;
        match increment(&client, oid).await {
            Ok(_) => done += 1,
            Err(error) if error.is_retryable() => client.sleep(Duration::from_millis(5)).await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

const TIMES: u32 = 60;

/// Two clients count, each on objects of its own, and both on one.
fn load(world: &mut World, oids: &[Oid]) -> Vec<Handle<Result<(), Error>>> {
    let mut scripts = Vec::new();
    for (client, own) in [(c(1), oids[0]), (c(2), oids[1])] {
        for oid in [own, oids[2]] {
            scripts.push(world.run_script(client, async move |client: SimClient| {
                increments(client, oid, TIMES).await
            }));
        }
    }
    scripts
}

/// Lets the clients finish; every increment counts, here and after a crash of everything.
fn finish(world: &mut World, oids: &[Oid], scripts: &[Handle<Result<(), Error>>]) {
    for script in scripts {
        wait(world, "a client", script).unwrap();
    }
    settle(world);
    check_and_crash(world);
    let counts: Vec<i64> = oids.iter().map(|oid| count(world, c(1), *oid)).collect();
    let times = i64::from(TIMES);
    assert_eq!(counts, [times, times, 2 * times]);
}

fn settings(storages: u8, replicas: u32) -> WorldSettings {
    WorldSettings {
        storages,
        replicas,
        clients: 2,
        partitions: 8,
        is_terse: true,
        ..WorldSettings::default()
    }
}

#[test]
fn a_cluster_grows_from_two_to_four_under_load() {
    for replicas in [0, 1] {
        let settings = settings(4, replicas);
        let mut world = booted(settings, 2, |settings| settings.autostart = Some(2));
        let oids = counters(&mut world, c(1), 3);
        let scripts = load(&mut world, &oids);
        world.start(s(3));
        world.start(s(4));
        world.run_for(Duration::from_millis(20));
        order(&mut world, Packet::AddPendingNodes { nodes: Vec::new() });
        tweak(&mut world, &[]);
        assert!(!is_done(&world));
        until(&mut world, "the new cells", is_done);
        assert!(scripts.iter().any(|script| !script.is_done()), "under load");
        assert_eq!(copies(&world), vec![replicas as usize + 1; 8]);
        assert!([s(3), s(4)].iter().all(|name| world.is_readable(*name)));
        finish(&mut world, &oids, &scripts);
    }
}

#[test]
fn replicas_are_made_and_removed_under_load() {
    let mut world = booted(settings(3, 0), 3, |_| {});
    let oids = counters(&mut world, c(1), 3);
    let scripts = load(&mut world, &oids);
    for replicas in [2, 1, 0, 1] {
        order(&mut world, Packet::SetNumReplicas { replicas });
        tweak(&mut world, &[]);
        until(&mut world, "the copies", is_done);
        assert_eq!(copies(&world), vec![replicas as usize + 1; 8]);
    }
    finish(&mut world, &oids, &scripts);
}

#[test]
fn a_storage_node_is_emptied_stopped_and_dropped_under_load() {
    let mut world = booted(settings(3, 1), 3, |_| {});
    let oids = counters(&mut world, c(1), 3);
    let scripts = load(&mut world, &oids);
    let gone = nid(&world, s(3));
    tweak(&mut world, &[s(3)]);
    until(&mut world, "the copies on the others", is_done);
    let state = NodeState::Down;
    order(&mut world, Packet::SetNodeState { nid: gone, state });
    until(&mut world, "its end", |world| !world.is_up(s(3)));
    let state = NodeState::Unknown;
    order(&mut world, Packet::SetNodeState { nid: gone, state });
    assert_eq!(copies(&world), vec![2; 8]);
    assert!(is_done(&world));
    finish(&mut world, &oids, &scripts);
}

#[test]
fn a_storage_node_that_stays_away_is_replaced_and_taken_back() {
    let mut world = booted(settings(3, 1), 3, |settings| {
        settings.auto_tweak_s = Some(30);
    });
    let oids = counters(&mut world, c(1), 3);
    world.crash(&[s(2)], Keep::None, InFlight::Lost);
    world.run_for(Duration::from_secs(20));
    assert!(world.has_cell(s(2)));
    let replaced = |world: &World| is_done(world) && !world.has_cell(s(2));
    until(&mut world, "the copies on the others", replaced);
    assert_eq!(copies(&world), vec![2; 8]);
    let scripts = load(&mut world, &oids);
    world.start(s(2));
    until(&mut world, "its share", |world| {
        is_done(world) && world.is_readable(s(2))
    });
    assert_eq!(copies(&world), vec![2; 8]);
    finish(&mut world, &oids, &scripts);
}

/// A cell is complete; until it counts everywhere, somebody is lost, at each message and write.
#[test]
fn any_loss_at_any_point_of_a_promotion() {
    // The way to the promotion, and its points; the fault is at one of them.
    let run = |fault: Option<(u64, &[Name])>| {
        let mut world = booted(
            WorldSettings {
                partitions: 2,
                ..settings(3, 2)
            },
            3,
            |_| {},
        );
        let oids = counters(&mut world, c(1), 3);
        let (one, two) = (oids[0], oids[1]);
        world.crash(&[s(3)], Keep::None, InFlight::Lost);
        let script = world.run_script(c(1), async move |client: SimClient| {
            increments(client, one, 5).await
        });
        wait(&mut world, "what it misses", &script).unwrap();
        settle(&mut world);
        let script = world.run_script(c(1), async move |client: SimClient| {
            increments(client, two, 20).await
        });
        let first = world.points().len() as u64;
        if let Some((point, nodes)) = fault {
            let fault = Fault::Crash {
                nodes: nodes.to_vec(),
                keep: Keep::None,
                in_flight: InFlight::Lost,
            };
            world.plan(Placed {
                point: first + point,
                when: When::After,
                fault,
            });
        }
        world.start(s(3));
        let done = |world: &World| world.has_struck() && is_done(world);
        if fault.is_none() {
            until(&mut world, "the promotion", done);
            return world.points().len() as u64 - first;
        }
        until(&mut world, "the fault", World::has_struck);
        world.run_for(Duration::from_secs(1));
        if let Err(stuck) = world.heal() {
            panic!("{fault:?}: {stuck}\n{}", world.trace().tail(200));
        }
        wait(&mut world, "the client", &script).unwrap();
        check_and_crash(&mut world);
        assert_eq!(count(&mut world, c(1), one), 5);
        assert_eq!(count(&mut world, c(1), two), 20);
        0
    };
    let points = run(None);
    let sets: [&[Name]; 5] = [&[s(1)], &[s(3)], &[m(1)], &[s(1), s(3)], &[m(1), s(1)]];
    // Each set of nodes at every fifth point, at other ones each.
    for (n, nodes) in (0..).zip(sets) {
        for point in (n..points).step_by(5) {
            run(Some((point, nodes)));
        }
    }
}
