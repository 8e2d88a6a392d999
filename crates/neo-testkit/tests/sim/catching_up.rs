//! Every crash of a replica that catches up, of its source, or of the master, before and after every
//! message and every write of its catching up.
//!
//! The replica was away while others committed; when it comes back, one client has a transaction open
//! from before, another goes on committing. A first run without a fault tells the points, from its
//! return until it is UP_TO_DATE; each of them has runs of its own, which differ in who is struck.
//! What was struck is started again, all gets UP_TO_DATE, the copies are equal, and all that the
//! clients were told is there. `NEO_SIM=full` takes every combination, where each point has some by
//! default.

use std::fmt;
use std::time::Duration;

use neo_api::{Oid, Tid};
use neo_client::Error;
use neo_testkit::sim::{
    Fault, InFlight, Keep, Name, PATIENCE, Placed, Point, SimClient, Stuck, When, World, c, m, s,
};

use crate::case::{self, Counts, Shape, Struck, each, prepared};
use crate::crash::wants_everything;
use crate::enumeration::{check_and_crash, strike, terse_first};

const SHAPE: Shape = Shape {
    tune: |settings| settings.clients = 3,
    ..Shape::REPLICATED
};

/// The replica that is away.
const LOST: Name = s(1);
const SOURCE: Name = s(2);

/// Changes an object that nobody else changes, time and again; what the cluster goes through is no
/// error.
async fn work(client: SimClient, oid: Oid, rounds: u32) -> Result<(), Error> {
    for _ in 0..rounds {
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

/// A transaction that is open when the replica comes back, and ends while it catches up.
async fn pending(client: SimClient, oid: Oid, serial: Tid) -> Result<(), Error> {
    let ended = async {
        let txn = client.begin().await?;
        txn.store(oid, serial, "pending").await?;
        client.sleep(Duration::from_millis(12)).await;
        txn.commit().await
    };
    match ended.await {
        Ok(_) | Err(Error::Unknown { .. }) => Ok(()),
        Err(error) if error.is_retryable() => Ok(()),
        Err(error) => Err(error),
    }
}

/// A crash at a point of the catching up.
#[derive(Debug, Clone)]
struct Case {
    is_terse: bool,
    strike: Option<Placed>,
    /// The point in words.
    what: Option<Point>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strike, what, .. } = self;
        write!(f, "{strike:?}, at {what:?}")
    }
}

/// A world in which the replica has just come back.
struct Back {
    world: World,
    oids: Vec<Oid>,
    scripts: Vec<Struck>,
    base: u64,
}

impl Case {
    fn come_back(&self) -> Result<Back, Stuck> {
        let (mut world, oids) = prepared(Shape {
            is_terse: self.is_terse,
            ..SHAPE
        });
        world.crash(&[LOST], Keep::None, InFlight::Lost);
        let mut scripts: Vec<Struck> = Vec::new();
        for (n, oid) in oids.iter().copied().take(3).enumerate() {
            let missed = world.run_script(c(n as u8 + 1), move |client| work(client, oid, 2));
            world.run_until("what it misses", PATIENCE, |_| missed.is_done())?;
        }
        let last = oids[3];
        let first = world.run_script(c(1), async move |client: SimClient| {
            let found = client.load(last).await?;
            Ok::<_, Error>(found.map_or(Tid::ZERO, |(serial, _)| serial))
        });
        world.run_until("a read", PATIENCE, |_| first.is_done())?;
        let serial = first.take().and_then(Result::ok).unwrap_or(Tid::ZERO);
        scripts.push(world.run_script(c(2), move |client| pending(client, last, serial)));
        world.run_for(Duration::from_millis(2));
        let own = oids[0];
        scripts.push(world.run_script(c(1), move |client| work(client, own, 8)));
        world.start(LOST);
        let base = world.points().len() as u64;
        Ok(Back {
            world,
            oids,
            scripts,
            base,
        })
    }

    fn points(&self) -> Vec<Point> {
        let mut back = self.come_back().unwrap_or_else(|stuck| panic!("{stuck}"));
        let world = &mut back.world;
        let up = world.wait_caught_up();
        up.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(200)));
        world.run_for(Duration::from_millis(1));
        let points = &world.points()[back.base as usize..];
        let points = points.iter().map(|point| Point {
            index: point.index - back.base,
            ..*point
        });
        points.collect()
    }

    fn run(&self) -> Result<Counts, String> {
        terse_first(|is_terse| {
            let case = Self {
                is_terse,
                ..self.clone()
            };
            case.run_once()
        })
    }

    fn run_once(&self) -> Result<Counts, String> {
        let mut back = self.come_back().map_err(|stuck| stuck.to_string())?;
        let result = self.go_on(&mut back);
        result.map_err(|wrong| format!("{}{wrong}", back.world.trace().tail(200)))
    }

    fn go_on(&self, back: &mut Back) -> Result<Counts, String> {
        let stuck = |stuck: Stuck| stuck.to_string();
        let Back { world, .. } = back;
        let fault = self.strike.as_ref().expect("a fault");
        strike(world, back.base, fault).map_err(stuck)?;
        world.heal().map_err(stuck)?;
        for script in &back.scripts {
            let ended = world.run_until("the end of a script", PATIENCE, |_| script.is_done());
            ended.map_err(stuck)?;
            if let Some(Err(error)) = script.take() {
                return Err(format!("a client: {error}"));
            }
        }
        world.settle(PATIENCE).map_err(stuck)?;
        let counts = case::count(world);
        check_and_crash(world, &back.oids)?;
        Ok(counts)
    }
}

#[test]
fn any_crash_while_a_replica_catches_up() {
    let base = Case {
        is_terse: false,
        strike: None,
        what: None,
    };
    let points = base.points();
    let sets = [
        vec![LOST],
        vec![SOURCE],
        vec![m(1)],
        vec![LOST, SOURCE],
        vec![m(1), LOST],
    ];
    let mut cases = Vec::new();
    for point in &points {
        for (side, when) in [When::Before, When::After].into_iter().enumerate() {
            for (set, nodes) in sets.iter().enumerate() {
                for (k, keep) in [Keep::None, Keep::All].into_iter().enumerate() {
                    let turn = point.index as usize + side;
                    let is_lost_alone = set == 0 && turn % 4 == 2 * k;
                    let is_its_turn = turn % (2 * sets.len()) == set + k * sets.len();
                    if !wants_everything() && !is_lost_alone && !is_its_turn {
                        continue;
                    }
                    let fault = Fault::Crash {
                        nodes: nodes.clone(),
                        keep,
                        in_flight: InFlight::Lost,
                    };
                    cases.push(Case {
                        what: Some(*point),
                        strike: Some(Placed {
                            point: point.index,
                            when,
                            fault,
                        }),
                        ..base.clone()
                    });
                }
            }
        }
    }
    let runs = each(&cases, Case::run).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut total = Counts::default();
    for counts in runs {
        total.add(counts);
    }
    println!("{} points: {total}", points.len());
    assert!(points.len() > 100, "{} points", points.len());
    assert_eq!(total.caught_up, total.runs, "{total}");
}
