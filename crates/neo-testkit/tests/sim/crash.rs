//! Every crash of every set of nodes, before and after every message and every write of a commit.
//!
//! One client commits twice, so that there is something before, and while the first of the two
//! transactions is unlocked the second one stores. A first run without faults tells the points;
//! then each point, side, set of nodes and choice of what disks keep has a run of its own, which
//! must end with a cluster that is RUNNING, where everything that the client was told is true.

use std::time::Duration;

use neo_testkit::sim::{Fault, Happens, InFlight, Keep, Name, Placed, Point, When, c, m, s};

use crate::case::{self, Case, Counts, Restart, Shape, in_parallel};

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

fn crashes(shape: Shape, points: &[Point]) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in points {
        for when in [When::Before, When::After] {
            for nodes in sets(shape) {
                let has_disk = nodes.iter().any(|name| matches!(name, Name::Storage(_)));
                let keeps: &[Keep] = if has_disk {
                    &[Keep::None, Keep::All]
                } else {
                    &[Keep::None]
                };
                for keep in keeps {
                    for in_flight in [InFlight::Lost, InFlight::Delivered] {
                        let fault = Fault::Crash {
                            nodes: nodes.clone(),
                            keep: *keep,
                            in_flight,
                        };
                        let restart = if in_flight == InFlight::Lost {
                            Restart::Later
                        } else {
                            Restart::AtOnce
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
    let counts = in_parallel(&cases, Case::run);
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

#[test]
fn any_connection_cut_at_any_point_seen_from_either_end() {
    for shape in [Shape::ONE, Shape::REPLICATED, Shape::SPLIT] {
        let points = case::points_of_commit(shape);
        let mut cases = Vec::new();
        for point in &points {
            let Happens::Delivery { from, to, .. } = point.what else {
                continue;
            };
            for when in [When::Before, When::After] {
                for (first, second) in [(from, to), (to, from)] {
                    for gap in [Duration::ZERO, Duration::from_secs(30)] {
                        for in_flight in [InFlight::Lost, InFlight::Delivered] {
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
        }
        let counts = in_parallel(&cases, Case::run);
        println!("{shape:?}: {} points: {counts}", points.len());
    }
}

/// All nodes crash with the transaction in each state that it can be in; then, at each point of the
/// recovery, some crash again.
#[test]
fn crashes_during_the_recovery_from_a_crash() {
    let shape = Shape::REPLICATED;
    let mut total = Counts::default();
    let mut points_of_recovery = 0;
    for first in case::telling_points(shape) {
        let everything = Fault::Crash {
            nodes: vec![m(1), c(1), s(1), s(2)],
            keep: Keep::None,
            in_flight: InFlight::Lost,
        };
        let base = Case::new(shape, &first, When::After, everything, Restart::AtOnce);
        let recovery = base.points_after_the_fault();
        points_of_recovery += recovery.len();
        let mut cases = Vec::new();
        for point in &recovery {
            for nodes in [vec![m(1)], vec![s(1)], vec![s(2)], vec![m(1), s(1)]] {
                let again = Fault::Crash {
                    nodes,
                    keep: Keep::None,
                    in_flight: InFlight::Lost,
                };
                cases.push(base.clone().then(Placed {
                    point: point.index,
                    when: When::Before,
                    fault: again,
                }));
            }
        }
        total.add(in_parallel(&cases, Case::run));
    }
    println!("{points_of_recovery} points of recoveries: {total}");
    total.assert_not_vacuous();
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
