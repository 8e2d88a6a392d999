//! Balancing without an operator.

use std::time::Duration;

use neo_api::{CellState, ClusterState, NodeState};
use neo_proto::Packet;

use super::harness::*;
use crate::MasterSettings;

const GRACE: Duration = Duration::from_secs(60);

fn running(storages: u32, replicas: u32, partitions: u32) -> World {
    let mut world = World::new(MasterSettings {
        autostart: Some(storages),
        replicas,
        partitions,
        auto_tweak_s: Some(GRACE.as_secs()),
        ..MasterSettings::new("c")
    });
    for n in 1..=storages {
        world.storages.insert(n, Storage::new(n));
        world.join(n);
    }
    assert!(world.status.serving, "{:?}", world.status);
    world
}

fn fill(world: &mut World, n: u32) {
    world.register(n);
    world.complete(n);
}

fn readable(world: &World) -> Vec<usize> {
    let rows = world.table().rows.iter();
    rows.map(|row| row.iter().filter(|c| c.state.is_readable()).count())
        .collect()
}

fn has_cells(world: &World, n: u32) -> bool {
    let nid = world.storages[&n].nid();
    world.table().nodes().contains(&nid)
}

#[test]
fn a_node_that_stays_away_is_replaced_and_taken_back() {
    let mut world = running(3, 1, 6);
    world.lose(3);
    let before = world.table().clone();
    world.sleep(GRACE - Duration::from_secs(1));
    assert_eq!(world.table(), &before);
    world.sleep(Duration::from_secs(2));
    // New copies are on their way; the cells of the one that is away are still there.
    assert!(has_cells(&world, 3));
    let filling = |world: &World, n| !world.storages[&n].out_of_date().is_empty();
    assert!(filling(&world, 1) && filling(&world, 2));
    assert!(readable(&world).iter().all(|n| *n >= 1));
    fill(&mut world, 1);
    assert!(has_cells(&world, 3), "{:?}", world.rows());
    fill(&mut world, 2);
    assert!(!has_cells(&world, 3), "{:?}", world.rows());
    assert_eq!(readable(&world), [2; 6]);
    // It is back, takes part without being added, and gets its share after a while.
    world.join(3);
    assert!(world.storages[&3].operating);
    assert!(!has_cells(&world, 3));
    world.sleep(GRACE + Duration::from_secs(1));
    assert!(has_cells(&world, 3));
    assert!(readable(&world).iter().all(|n| *n >= 2));
    fill(&mut world, 3);
    assert_eq!(readable(&world), [2; 6]);
    let of_3 = world.table().rows.iter().flatten();
    assert_eq!(of_3.filter(|cell| cell.nid == nid("S3")).count(), 4);
    let version = world.table().version;
    world.sleep(GRACE + GRACE);
    assert_eq!(
        world.table().version,
        version,
        "there is nothing more to do"
    );
}

#[test]
fn a_node_that_was_replaced_is_taken_back_by_another_primary() {
    for had_cells in [true, false] {
        let mut world = running(3, 1, 6);
        if !had_cells {
            world.storages.insert(4, Storage::new(4));
            world.join(4);
        }
        world.lose(3);
        world.sleep(GRACE + Duration::from_secs(1));
        fill(&mut world, 1);
        fill(&mut world, 2);
        assert!(!has_cells(&world, 3), "{:?}", world.rows());
        world.restart_master();
        world.join(1);
        world.join(2);
        assert_eq!(world.state(), ClusterState::Running);
        let n = if had_cells { 3 } else { 4 };
        world.join(n);
        assert_eq!(world.storages[&n].operating, had_cells);
        world.sleep(GRACE + Duration::from_secs(1));
        assert_eq!(has_cells(&world, n), had_cells);
    }
}

#[test]
fn a_node_that_comes_back_in_time_is_not_replaced() {
    let mut world = running(3, 1, 6);
    world.lose(3);
    world.sleep(GRACE - Duration::from_secs(1));
    world.join(3);
    fill(&mut world, 3);
    let version = world.table().version;
    world.sleep(GRACE + GRACE);
    assert_eq!(world.table().version, version);
    assert_eq!(readable(&world), [2; 6]);
}

#[test]
fn a_node_that_comes_back_while_it_is_replaced_goes_on_where_it_was() {
    let mut world = running(3, 1, 6);
    world.lose(3);
    world.sleep(GRACE + Duration::from_secs(1));
    world.join(3);
    for n in 1..=3 {
        fill(&mut world, n);
    }
    assert!(readable(&world).iter().all(|n| *n >= 2));
    world.sleep(GRACE + Duration::from_secs(1));
    for n in 1..=3 {
        if !world.storages[&n].out_of_date().is_empty() {
            fill(&mut world, n);
        }
    }
    let rows = &world.table().rows;
    assert!(rows.iter().all(|row| row.len() == 2), "{:?}", world.rows());
    assert_eq!(readable(&world), [2; 6]);
}

#[test]
fn copies_that_can_not_be_made_anew_stay_in_the_table() {
    let mut world = running(2, 1, 4);
    world.lose(2);
    world.sleep(GRACE + GRACE);
    assert_eq!(world.rows(), ["1U2O"; 4], "there is nobody else");
    assert_eq!(world.state(), ClusterState::Running);
    world.join(2);
    fill(&mut world, 2);
    assert_eq!(world.rows(), ["1U2U"; 4]);
}

#[test]
fn it_waits_while_an_import_runs() {
    let mut world = running(3, 1, 3);
    let client = world.client();
    world.lose(3);
    let import = match world.ask(client, Packet::AskBeginImport {}) {
        Some(Packet::AnswerBeginImport { import, .. }) => import,
        other => panic!("{other:?}"),
    };
    world.sleep(GRACE + GRACE);
    let has_new = |world: &World| !world.storages[&1].out_of_date().is_empty();
    assert!(!has_new(&world));
    world.ask(client, Packet::AskEndImport { import }).unwrap();
    world.sleep(Duration::from_secs(2));
    assert!(has_new(&world));
}

#[test]
fn without_the_setting_nothing_moves() {
    let mut world = World::running(3, 1, 6);
    world.lose(3);
    let version = world.table().version;
    world.sleep(Duration::from_secs(10_000));
    assert_eq!(world.table().version, version);
}

#[test]
fn a_node_that_is_away_since_the_start_is_replaced_too() {
    let mut world = running(3, 1, 6);
    world.lose(3);
    world.restart_master();
    world.join(1);
    world.join(2);
    assert_eq!(world.state(), ClusterState::Running);
    world.sleep(GRACE + Duration::from_secs(1));
    for n in 1..=2 {
        fill(&mut world, n);
    }
    assert!(!has_cells(&world, 3));
    let states = world.table().rows.iter().flatten().map(|cell| cell.state);
    assert!({ states }.all(|state| state == CellState::UpToDate));
    let down = world.core.nodes.get(nid("S3")).unwrap().state;
    assert_eq!(down, NodeState::Down);
}
