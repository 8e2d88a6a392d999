//! Every crash of the survivor, of the master, or of both, before and after every message and every
//! write with which the cells of a lost replica become out of date.
//!
//! Two clients are at work. A first run without a second fault tells the points, from the loss until
//! the change is durable and what waited for it is answered; each of them has runs of its own, which
//! differ in who is struck and in when the lost one is back: before, with, or after the others.
//! While one is away that the newest table on any disk names as complete, nothing is served; in the
//! end, all that the clients were told is there, every copy is readable again, and they are equal. `NEO_SIM=full` takes
//! every loss and every combination, where each point of some losses has a few by default.

use std::fmt;
use std::time::Duration;

use neo_api::{ClusterState, Oid};
use neo_client::Error;
use neo_testkit::sim::{
    Fault, Happens, InFlight, Keep, Name, PATIENCE, Placed, Point, SimClient, Stuck, When, World,
    c, m, run_ready, s,
};

use crate::case::{self, Counts, Shape, Struck, each, prepared, struck};
use crate::crash::wants_everything;
use crate::enumeration::{check_and_crash, strike, terse_first};

/// When the lost replica is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comeback {
    /// Before the others are struck: while they deal with its loss.
    AtOnce,
    /// When the others are struck; of these, the survivor is back later.
    BeforeTheSurvivor,
    /// With the others.
    Together,
    /// When the others are back, and have had time to go on without it.
    Last,
}

/// A replica is lost; then, at a point of what follows, others are struck.
#[derive(Debug, Clone)]
struct Outdating {
    shape: Shape,
    lost: Name,
    survivor: Name,
    /// When: a point of the first commit.
    loss: Placed,
    comeback: Comeback,
    /// Points count from the loss, or from the return if that is at once.
    strike: Option<Placed>,
    /// The point in words.
    what: Option<Point>,
}

impl fmt::Display for Outdating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

const SHAPE: Shape = Shape {
    tune: |settings| settings.clients = 2,
    ..Shape::REPLICATED
};

fn crash(nodes: &[Name], keep: Keep) -> Fault {
    Fault::Crash {
        nodes: nodes.to_vec(),
        keep,
        in_flight: InFlight::Lost,
    }
}

/// Changes an object that nobody else changes, time and again; what the cluster goes through is no
/// error.
async fn work(client: SimClient, oid: Oid) -> Result<(), Error> {
    for _ in 0..3 {
        let round = async {
            client.wait_ready(PATIENCE).await?;
            client.sync().await?;
            let (serial, _) = client.load(oid).await?.expect("it exists");
            let txn = client.begin().await?;
            txn.store(oid, serial, "more").await?;
            txn.commit().await
        };
        match round.await {
            Ok(_) | Err(Error::Unknown { .. }) => {}
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A world in which a replica was just lost, and what the clients do.
struct Bereft {
    world: World,
    oids: Vec<Oid>,
    scripts: Vec<Struck>,
    /// Points so far.
    base: u64,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    counts: Counts,
    /// The cluster waited for who was away still.
    waited: usize,
    /// It went on without.
    went_on: usize,
}

/// The newest table of all, wherever it is, decides who is waited for: those with a readable cell in
/// it, whatever the others remember. Whether the cluster is RUNNING.
fn is_as_the_newest_table_says(world: &World) -> Result<bool, String> {
    let storages = [s(1), s(2)];
    let stored = storages.map(|name| run_ready(world.disk(name).backend().partition_table()));
    let stored = stored.map(|table| table.expect("a simulated disk can be read"));
    let known = world.partition_table().cloned();
    let newest = stored.into_iter().chain([known]).flatten();
    let newest = newest.max_by_key(|table| table.version);
    let newest = newest.ok_or("there is no table")?;
    let needed = newest.readable_nodes();
    let is_needed = |name: &Name| world.nid(*name).is_some_and(|nid| needed.contains(&nid));
    let away: Vec<Name> = storages
        .into_iter()
        .filter(|name| is_needed(name) && !world.is_up(*name))
        .collect();
    let expected = if away.is_empty() {
        ClusterState::Running
    } else {
        ClusterState::Recovering
    };
    let state = world.cluster_state();
    let version = newest.version;
    if state != Some(expected) {
        return Err(format!(
            "{state:?} with table {version} and without {away:?}"
        ));
    }
    if !away.is_empty() && storages.iter().any(|name| world.is_serving(*name)) {
        return Err(format!(
            "a node serves, with table {version} and without {away:?}"
        ));
    }
    Ok(expected == ClusterState::Running)
}

impl Outdating {
    /// Runs past the loss, and past the return if that is at once.
    fn lose(&self) -> Result<Bereft, Stuck> {
        let (mut world, oids) = prepared(self.shape);
        let point = world.points().len() as u64 + self.loss.point;
        world.plan(Placed {
            point,
            ..self.loss.clone()
        });
        let (mine, own) = (oids.clone(), oids[3]);
        // The first three are enough for the first client, whatever its metadata's partition is.
        let scripts = vec![
            world.run_script(c(1), |client| struck(client, mine)),
            world.run_script(c(2), move |client| work(client, own)),
        ];
        world.run_until("the loss", PATIENCE, World::has_struck)?;
        if self.comeback == Comeback::AtOnce {
            world.run_for(Duration::from_micros(150));
            world.start(self.lost);
        }
        let base = world.points().len() as u64;
        Ok(Bereft {
            world,
            oids,
            scripts,
            base,
        })
    }

    /// What happens from the loss on, in a run without another fault, until the master has heard
    /// that the survivor has stored the change, and a few answers more.
    fn points(&self) -> Vec<Point> {
        let mut bereft = self.lose().unwrap_or_else(|stuck| panic!("{stuck}"));
        let world = &mut bereft.world;
        let quiet = world.settle(PATIENCE);
        quiet.unwrap_or_else(|stuck| panic!("{self}\n{stuck}\n{}", world.trace().tail(200)));
        let points = &world.points()[bereft.base as usize..];
        let is_stored = |point: &Point| {
            matches!(point.what, Happens::Delivery { from, packet, .. }
                if from == self.survivor && packet == "NotifyPartitionTableStored")
        };
        let stored = points.iter().position(is_stored);
        let stored = stored.unwrap_or_else(|| panic!("{self}\n{}", world.trace().tail(200)));
        let points = points.iter().take(stored + AFTERWARDS);
        points
            .map(|point| Point {
                index: point.index - bereft.base,
                ..*point
            })
            .collect()
    }

    fn run(&self) -> Result<Outcome, String> {
        terse_first(|is_terse| {
            let mut case = self.clone();
            case.shape.is_terse = is_terse;
            case.run_once()
        })
    }

    fn run_once(&self) -> Result<Outcome, String> {
        let mut bereft = self.lose().map_err(|stuck| stuck.to_string())?;
        let result = self.go_on(&mut bereft);
        result.map_err(|wrong| format!("{}{wrong}", bereft.world.trace().tail(200)))
    }

    fn go_on(&self, bereft: &mut Bereft) -> Result<Outcome, String> {
        let stuck = |stuck: Stuck| stuck.to_string();
        let Bereft { world, .. } = bereft;
        let second = self.strike.as_ref().expect("a second fault");
        strike(world, bereft.base, second).map_err(stuck)?;
        let went_on = self.come_back(world)?;
        world.heal().map_err(stuck)?;
        for script in &bereft.scripts {
            let ended = world.run_until("the end of a script", PATIENCE, |_| script.is_done());
            ended.map_err(stuck)?;
        }
        if let Some(Err(error)) = bereft.scripts[1].take() {
            return Err(format!("the second client: {error}"));
        }
        world.settle(PATIENCE).map_err(stuck)?;
        let counts = case::count(world);
        check_and_crash(world, &bereft.oids)?;
        Ok(Outcome {
            counts,
            waited: usize::from(went_on == Some(false)),
            went_on: usize::from(went_on == Some(true)),
        })
    }

    /// Starts what was struck, and what was lost, in their order; whether the cluster went on before
    /// all were there.
    fn come_back(&self, world: &mut World) -> Result<Option<bool>, String> {
        let first = match self.comeback {
            Comeback::Together => return Ok(None),
            Comeback::AtOnce | Comeback::BeforeTheSurvivor => self.lost,
            Comeback::Last => self.survivor,
        };
        for name in [m(1), first] {
            if !world.is_up(name) {
                world.start(name);
            }
        }
        world.run_for(Duration::from_secs(3));
        is_as_the_newest_table_says(world).map(Some)
    }
}

/// Points after the change is stored: the answers that waited for it.
const AFTERWARDS: usize = 12;

const COMEBACKS: [Comeback; 3] = [
    Comeback::BeforeTheSurvivor,
    Comeback::Together,
    Comeback::Last,
];

/// The cases of one loss: every point from it on, struck on both sides.
fn cases_of(base: &Outdating, number: usize) -> (usize, Vec<Outdating>) {
    let points = base.points();
    let sets = [vec![base.survivor], vec![m(1)], vec![m(1), base.survivor]];
    let comebacks: &[Comeback] = match base.comeback {
        Comeback::AtOnce => &[Comeback::AtOnce],
        _ => &COMEBACKS,
    };
    let mut cases = Vec::new();
    for point in &points {
        for (side, when) in [When::Before, When::After].into_iter().enumerate() {
            for (set, nodes) in sets.iter().enumerate() {
                for (n, comeback) in comebacks.iter().enumerate() {
                    for (k, keep) in [Keep::None, Keep::All].into_iter().enumerate() {
                        let turn = point.index as usize + side + set + number;
                        if !wants_everything()
                            && ((turn / 6 + turn) % 2 == 1
                                || turn % comebacks.len() != n
                                || (turn / 3 + k) % 2 == 1)
                        {
                            continue;
                        }
                        let mut case = base.clone();
                        case.comeback = *comeback;
                        case.what = Some(*point);
                        case.strike = Some(Placed {
                            point: point.index,
                            when,
                            fault: crash(nodes, keep),
                        });
                        cases.push(case);
                    }
                }
            }
        }
    }
    (points.len(), cases)
}

fn enumerate(comeback: Comeback) {
    let mut cases = Vec::new();
    let mut points = 0;
    for (number, point) in case::telling_points(SHAPE).iter().enumerate() {
        if !wants_everything() && number % 2 == 1 {
            continue;
        }
        let (lost, survivor) = [(s(1), s(2)), (s(2), s(1))][number / 2 % 2];
        let base = Outdating {
            shape: SHAPE,
            lost,
            survivor,
            loss: Placed {
                point: point.index,
                when: When::After,
                fault: crash(&[lost], Keep::None),
            },
            comeback,
            strike: None,
            what: None,
        };
        let (found, of_loss) = cases_of(&base, number);
        points += found;
        cases.extend(of_loss);
    }
    let mut total = Outcome::default();
    let runs = each(&cases, Outdating::run).unwrap_or_else(|wrong| panic!("{wrong}"));
    for one in runs {
        total.counts.add(one.counts);
        total.waited += one.waited;
        total.went_on += one.went_on;
    }
    let Outcome {
        counts,
        waited,
        went_on,
    } = total;
    println!(
        "{points} points: {counts}; the cluster waited for who was away in {waited} runs, and \
         went on without in {went_on}"
    );
    assert!(counts.committed > 0 && counts.not_committed > 0, "{counts}");
    assert!(
        counts.caught_up > 0 && counts.caught_up < counts.runs,
        "{counts}"
    );
    assert!(waited > 0 && went_on > 0, "{waited} waited, {went_on} not");
}

#[test]
fn any_crash_while_a_lost_replica_is_outdated() {
    enumerate(Comeback::Last);
}

#[test]
fn any_crash_while_a_lost_replica_is_outdated_and_comes_back() {
    enumerate(Comeback::AtOnce);
}
