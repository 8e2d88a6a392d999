//! Every crash of every set of nodes, before and after every message and every write of a cluster's
//! creation.
//!
//! Whatever it leaves on the disks, the cluster starts by itself when its nodes are back: nobody
//! has to find out which of the databases had heard of it. `NEO_SIM=full` leaves out none, where
//! every other one is run by default.

use std::fmt;
use std::time::Duration;

use neo_api::Tid;
use neo_client::Error;
use neo_testkit::sim::{
    Fault, Happens, InFlight, Keep, Name, PATIENCE, Placed, Point, SimClient, Stuck, When, World,
    c, m, s,
};

use crate::case::{Shape, each};
use crate::crash::wants_everything;
use crate::enumeration::terse_first;

/// Faults in the creation of a cluster of this shape. The second one counts its points from the
/// restart after the first.
#[derive(Debug, Clone)]
struct Creation {
    shape: Shape,
    plan: Vec<Placed>,
    restart: Restart,
}

/// How what crashed comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    /// All at once.
    Together,
    /// One after the other, the last one first, each when the one before has said all it has to.
    InTurn,
}

impl fmt::Display for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

fn crash(nodes: &[Name], keep: Keep, in_flight: InFlight) -> Fault {
    Fault::Crash {
        nodes: nodes.to_vec(),
        keep,
        in_flight,
    }
}

/// The nodes of a cluster without its client.
fn nodes(shape: Shape) -> Vec<Name> {
    std::iter::once(m(1))
        .chain((1..=shape.storages).map(s))
        .collect()
}

/// Each node, each pair of few, and all.
fn sets(shape: Shape) -> Vec<Vec<Name>> {
    let nodes = nodes(shape);
    let mut sets: Vec<Vec<Name>> = nodes.iter().map(|node| vec![*node]).collect();
    if nodes.len() == 3 || wants_everything() {
        for (i, a) in nodes.iter().enumerate() {
            sets.extend(nodes[i + 1..].iter().map(|b| vec![*a, *b]));
        }
    }
    sets.push(nodes);
    sets
}

/// The points of a creation until it serves; those that only the client sees are left out.
fn points(shape: Shape) -> Vec<Point> {
    let mut world = World::new(shape.settings());
    world.start_all();
    let running = world.wait_running();
    running.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace()));
    of_cluster(world.points())
}

fn of_cluster(points: &[Point]) -> Vec<Point> {
    let is_clients = |name: Name| matches!(name, Name::Client(_));
    let seen_by_client = |point: &&Point| match point.what {
        Happens::Delivery { from, to, .. } => is_clients(from) || is_clients(to),
        Happens::Write { .. } => false,
    };
    let others = points.iter().filter(|point| !seen_by_client(point));
    others.copied().collect()
}

fn placed(point: &Point, when: When, fault: Fault) -> Placed {
    Placed {
        point: point.index,
        when,
        fault,
    }
}

impl Creation {
    fn restart(&self, world: &mut World) {
        match self.restart {
            Restart::Together => world.start_all(),
            Restart::InTurn => {
                let down: Vec<Name> = world.names().filter(|name| !world.is_up(*name)).collect();
                for name in down.into_iter().rev() {
                    world.start(name);
                    world.run_for(Duration::from_millis(700));
                }
            }
        }
    }

    /// Runs to the first fault, and past the restart after it.
    fn strike(&self) -> Result<World, Stuck> {
        let mut world = World::new(self.shape.settings());
        let mut plan = self.plan.iter().cloned();
        world.plan(plan.next().expect("a fault"));
        world.start_all();
        world.run_until("the fault", PATIENCE, World::has_struck)?;
        // Long enough to miss somebody; the others do what they can.
        world.run_for(Duration::from_millis(50));
        let base = world.points().len() as u64;
        for placed in plan {
            let point = base + placed.point;
            world.plan(Placed { point, ..placed });
        }
        self.restart(&mut world);
        Ok(world)
    }

    fn run(&self) -> Result<(), String> {
        terse_first(|is_terse| {
            let mut case = self.clone();
            case.shape.is_terse = is_terse;
            case.run_once()
        })
    }

    fn run_once(&self) -> Result<(), String> {
        let mut world = self.strike().map_err(|stuck| stuck.to_string())?;
        self.finish(&mut world)
            .map_err(|wrong| format!("{}{self}\n{wrong}", world.trace().tail(200)))
    }

    fn finish(&self, world: &mut World) -> Result<(), String> {
        let stuck = |stuck: Stuck| stuck.to_string();
        if !world.has_struck() {
            world
                .run_until("another fault", PATIENCE, World::has_struck)
                .map_err(stuck)?;
            world.run_for(Duration::from_millis(50));
            self.restart(world);
        }
        for crash in [false, true] {
            if crash {
                world.crash_all();
            }
            world.heal().map_err(stuck)?;
            let table = world.partition_table().ok_or("there is no table")?;
            let nodes = table.nodes();
            let is_in = |n| world.nid(s(n)).is_some_and(|nid| nodes.contains(&nid));
            if !(1..=self.shape.storages).all(is_in) {
                return Err("a storage node has no cell".to_owned());
            }
            let used = world.run_script(c(1), use_it);
            world
                .run_until("a commit", PATIENCE, |_| used.is_done())
                .map_err(stuck)?;
            if let Some(Err(error)) = used.take() {
                return Err(format!("it does not work: {error}"));
            }
            world.settle(PATIENCE).map_err(stuck)?;
            world.check()?;
        }
        Ok(())
    }
}

async fn use_it(client: SimClient) -> Result<(), Error> {
    client.wait_ready(PATIENCE).await?;
    let txn = client.begin().await?;
    for oid in client.new_oids(4).await? {
        txn.store(oid, Tid::ZERO, "new").await?;
    }
    txn.commit().await.map(drop)
}

/// What disks keep, what becomes of what was sent, and how the nodes come back.
const MANNERS: [(Keep, InFlight, Restart); 2] = [
    (Keep::None, InFlight::Lost, Restart::Together),
    (Keep::All, InFlight::Delivered, Restart::InTurn),
];

const WIDE: Shape = Shape {
    storages: 3,
    ..Shape::REPLICATED
};

#[test]
fn a_cluster_whose_creation_is_interrupted_anywhere_starts_by_itself() {
    for shape in [Shape::ONE, Shape::REPLICATED, WIDE] {
        let points = points(shape);
        let mut cases = Vec::new();
        for (n, point) in points.iter().enumerate() {
            for (side, when) in [When::Before, When::After].into_iter().enumerate() {
                for (set, nodes) in sets(shape).iter().enumerate() {
                    for (manner, (keep, in_flight, restart)) in MANNERS.into_iter().enumerate() {
                        if !wants_everything() && (n + side + set + manner) % 2 == 1 {
                            continue;
                        }
                        let fault = crash(nodes, keep, in_flight);
                        let plan = vec![placed(point, when, fault)];
                        cases.push(Creation {
                            shape,
                            plan,
                            restart,
                        });
                    }
                }
            }
        }
        let runs = each(&cases, Creation::run).unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{shape:?}: {} points, {} runs", points.len(), runs.len());
    }
}

#[test]
fn a_second_attempt_may_be_interrupted_too() {
    let shape = Shape::REPLICATED;
    let all = nodes(shape);
    let mut cases = Vec::new();
    for (n, point) in points(shape).iter().enumerate() {
        // What differs afterwards is what is on the disks.
        if !matches!(point.what, Happens::Write { .. }) {
            continue;
        }
        let restart = [Restart::Together, Restart::InTurn][n % 2];
        let everything = crash(&all, Keep::None, InFlight::Lost);
        let first = Creation {
            shape,
            plan: vec![placed(point, When::After, everything)],
            restart,
        };
        let mut world = first.strike().unwrap_or_else(|stuck| panic!("{stuck}"));
        let base = world.points().len();
        world
            .wait_running()
            .unwrap_or_else(|stuck| panic!("{first}\n{stuck}\n{}", world.trace().tail(200)));
        for point in of_cluster(&world.points()[base..]) {
            let point = Point {
                index: point.index - base as u64,
                ..point
            };
            for nodes in [vec![m(1)], vec![s(1)], vec![s(2)], all.clone()] {
                let mut case = first.clone();
                let fault = crash(&nodes, Keep::None, InFlight::Lost);
                case.plan.push(placed(&point, When::After, fault));
                cases.push(case);
            }
        }
    }
    let runs = each(&cases, Creation::run).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{} runs", runs.len());
}
