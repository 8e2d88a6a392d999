//! Every crash of every set of nodes, before and after every message and every write of a commit.
//!
//! One client commits twice, so that there is something before, and while the first of the two
//! transactions is unlocked the second one stores. A first run without faults tells the points;
//! then each point, side, set of nodes and choice of what disks keep has a run of its own, which
//! must end with a cluster that is RUNNING, where everything that the client was told is true.
//! `NEO_SIM=full` leaves out none of them, where every other one is run by default.

use std::time::Duration;

use neo_testkit::sim::{Fault, Happens, InFlight, Keep, Name, Placed, Point, When, c, m, s};

use crate::case::{self, Case, Restart, Shape, in_parallel};

/// Every set of nodes that may crash together.
fn sets(shape: Shape) -> Vec<Vec<Name>> {
    let mut nodes = vec![m(1), c(1)];
    nodes.extend((1..=shape.storages).map(s));
    let mut sets: Vec<Vec<Name>> = nodes.iter().map(|node| vec![*node]).collect();
    for (i, a) in nodes.iter().enumerate() {
        sets.extend(nodes[i + 1..].iter().map(|b| vec![*a, *b]));
    }
    if nodes.len() > 2 {
        sets.push(nodes);
    }
    sets
}

/// Whether nothing is to be left out.
pub(crate) fn wants_everything() -> bool {
    std::env::var("NEO_SIM").is_ok_and(|how| how == "full")
}

/// What is sent arrives and the nodes are back at once; or it is lost, and they are back when the
/// others have dealt with their loss.
const MANNERS: [(InFlight, Restart); 2] = [
    (InFlight::Lost, Restart::Later),
    (InFlight::Delivered, Restart::AtOnce),
];

pub(crate) fn crashes(shape: Shape, points: &[Point]) -> Vec<Case> {
    let everything = wants_everything();
    let mut cases = Vec::new();
    let sets = sets(shape);
    for point in points {
        for (side, when) in [When::Before, When::After].into_iter().enumerate() {
            for (set, nodes) in sets.iter().enumerate() {
                let has_disk = nodes.iter().any(|name| matches!(name, Name::Storage(_)));
                let keeps: &[Keep] = if has_disk {
                    &[Keep::None, Keep::All]
                } else {
                    &[Keep::None]
                };
                for keep in keeps {
                    for (n, (in_flight, restart)) in MANNERS.into_iter().enumerate() {
                        // Each set at each point in one of the two manners, and in the other one
                        // at the next.
                        if !everything && (point.index as usize + side + set + n) % 2 == 1 {
                            continue;
                        }
                        let fault = Fault::Crash {
                            nodes: nodes.clone(),
                            keep: *keep,
                            in_flight,
                        };
                        cases.push(Case::new(shape, point, when, fault, restart));
                    }
                }
            }
        }
    }
    cases
}

fn enumerate_crashes(shape: Shape) {
    let points = case::points_of_commit(shape);
    let cases = crashes(shape, &points);
    let counts = in_parallel(&cases);
    println!(
        "{shape:?}: {} points x {} sets: {counts}",
        points.len(),
        sets(shape).len(),
    );
    counts.assert_not_vacuous();
}

#[test]
fn any_crash_at_any_point_with_one_storage() {
    enumerate_crashes(Shape::ONE);
}

#[test]
fn any_crash_at_any_point_with_a_replica() {
    enumerate_crashes(Shape::REPLICATED);
}

#[test]
fn any_crash_at_any_point_with_partitions_on_two_storages() {
    enumerate_crashes(Shape::SPLIT);
}

pub(crate) fn cuts(shape: Shape, points: &[Point]) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in points {
        let Happens::Delivery { from, to, .. } = point.what else {
            continue;
        };
        for when in [When::Before, When::After] {
            for (first, second) in [(from, to), (to, from)] {
                for (gap, in_flight) in [
                    (Duration::ZERO, InFlight::Lost),
                    (Duration::ZERO, InFlight::Delivered),
                    (Duration::from_secs(3), InFlight::Late),
                    // Longer than silence is borne.
                    (Duration::from_secs(30), InFlight::Lost),
                ] {
                    let fault = Fault::Cut {
                        first,
                        second,
                        gap,
                        in_flight,
                    };
                    cases.push(Case::new(shape, point, when, fault, Restart::Later));
                }
            }
        }
    }
    cases
}

#[test]
fn any_connection_cut_at_any_point_seen_from_either_end() {
    for shape in [Shape::ONE, Shape::REPLICATED, Shape::SPLIT] {
        let points = case::points_of_commit(shape);
        let counts = in_parallel(&cuts(shape, &points));
        println!("{shape:?}: {} points: {counts}", points.len());
        assert!(counts.runs > points.len(), "{counts}");
        assert_eq!(counts.cut, counts.runs, "a cut found nothing to cut");
        assert!(counts.committed > 0 && counts.not_committed > 0, "{counts}");
        assert_eq!(counts.caught_up > 0, shape.replicas > 0, "{counts}");
    }
}

/// All nodes crash with the transaction in each state that it can be in; then, at each point of the
/// recovery, some crash again.
pub(crate) fn crashes_of_recoveries(shape: Shape) -> (usize, Vec<Case>) {
    let mut cases = Vec::new();
    let mut points = 0;
    for first in case::telling_points(shape) {
        let nodes = std::iter::once(m(1))
            .chain([c(1)])
            .chain((1..=shape.storages).map(s));
        let crash = |nodes: Vec<Name>| Fault::Crash {
            nodes,
            keep: Keep::None,
            in_flight: InFlight::Lost,
        };
        let everything = crash(nodes.collect());
        let base = Case::new(shape, &first, When::After, everything, Restart::AtOnce);
        let recovery = base.points_after_the_fault();
        points += recovery.len();
        for point in &recovery {
            let sets = [vec![m(1)], vec![s(1)], vec![m(1), s(1)], vec![s(2)]];
            for (set, nodes) in sets.into_iter().enumerate() {
                // Half of them at each point, the other half at the next.
                if !wants_everything() && (point.index as usize + set) % 2 == 1 {
                    continue;
                }
                cases.push(base.clone().then(Placed {
                    point: point.index,
                    when: When::Before,
                    fault: crash(nodes),
                }));
            }
        }
    }
    (points, cases)
}

#[test]
fn any_crash_at_any_point_of_the_recovery_from_a_crash() {
    let (points, cases) = crashes_of_recoveries(Shape::REPLICATED);
    let counts = in_parallel(&cases);
    println!("{points} points of recoveries: {counts}");
    counts.assert_not_vacuous();
}

#[test]
fn a_run_is_a_function_of_its_parameters() {
    let shape = Shape::REPLICATED;
    let points = case::points_of_commit(shape);
    for point in points.iter().step_by(7) {
        let fault = Fault::Crash {
            nodes: vec![s(1)],
            keep: Keep::None,
            in_flight: InFlight::Lost,
        };
        let case = Case::new(shape, point, When::Before, fault, Restart::Later);
        assert_eq!(case.hash(), case.hash(), "{case}");
    }
}
