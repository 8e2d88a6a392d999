//! One commit, with a fault somewhere in it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use neo_api::{Oid, Tid};
use neo_client::Error;
use neo_testkit::oracle::Told;
use neo_testkit::sim::{
    Fault, Handle, Happens, PATIENCE, Placed, Point, SimClient, When, World, WorldSettings, c,
};

use crate::enumeration::{check_and_crash, terse_first};

/// A cluster's shape.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) storages: u8,
    pub(crate) replicas: u32,
    /// Without words in the trace.
    pub(crate) is_terse: bool,
    /// Changes anything else.
    pub(crate) tune: fn(&mut WorldSettings),
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            storages, replicas, ..
        } = self;
        write!(f, "{storages} storages, {replicas} replicas")
    }
}

impl Shape {
    pub(crate) const ONE: Self = Self {
        storages: 1,
        replicas: 0,
        is_terse: false,
        tune: |_| {},
    };
    pub(crate) const REPLICATED: Self = Self {
        storages: 2,
        replicas: 1,
        is_terse: false,
        tune: |_| {},
    };
    pub(crate) const SPLIT: Self = Self {
        storages: 2,
        replicas: 0,
        is_terse: false,
        tune: |_| {},
    };

    pub(crate) fn settings(self) -> WorldSettings {
        let mut settings = WorldSettings {
            storages: self.storages,
            replicas: self.replicas,
            is_terse: self.is_terse,
            ..WorldSettings::default()
        };
        (self.tune)(&mut settings);
        settings
    }
}

/// When what crashed is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Within milliseconds, before anybody has dealt with the loss.
    AtOnce,
    /// When the others have dealt with it.
    Later,
}

/// A run: faults at points of one commit. Points count from the beginning of the commit.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    shape: Shape,
    plan: Vec<Placed>,
    at: Happens,
    restart: Restart,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shape,
            plan,
            at,
            restart,
        } = self;
        write!(f, "{shape:?}, {at:?}, restart {restart:?}: {plan:?}")
    }
}

/// Outcomes of runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) runs: usize,
    pub(crate) committed: usize,
    pub(crate) not_committed: usize,
    pub(crate) unknown: usize,
    /// Runs in which a cell was out of date, and caught up.
    pub(crate) caught_up: usize,
    /// Runs in which a connection was cut.
    pub(crate) cut: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.committed += other.committed;
        self.not_committed += other.not_committed;
        self.unknown += other.unknown;
        self.caught_up += other.caught_up;
        self.cut += other.cut;
    }

    pub(crate) fn assert_not_vacuous(self) {
        let Self {
            runs,
            committed,
            not_committed,
            unknown,
            ..
        } = self;
        assert!(
            runs > 0 && committed > 0 && not_committed > 0 && unknown > 0,
            "some outcome never came: {self}"
        );
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            runs,
            committed,
            not_committed,
            unknown,
            caught_up,
            cut,
        } = self;
        write!(
            f,
            "{runs} runs; of the struck transactions {committed} were committed, {not_committed} \
             not, {unknown} unknown to their client; in {caught_up} runs a cell caught up, in {cut} a \
             connection was cut"
        )
    }
}

/// How long the others have to deal with a loss before what crashed is started again.
const DEALT_WITH: Duration = Duration::from_secs(4);

/// What the struck script reports.
pub(crate) type Struck = Handle<Result<(), Error>>;

/// Runs every case.
pub(crate) fn in_parallel(cases: &[Case]) -> Counts {
    match run_all(cases) {
        Ok(counts) => counts,
        Err(failed) => panic!("{failed}"),
    }
}

/// Runs every case, until one fails.
pub(crate) fn run_all(cases: &[Case]) -> Result<Counts, String> {
    let mut total = Counts::default();
    for counts in each(cases, Case::run)? {
        total.add(counts);
    }
    Ok(total)
}

/// Runs every case on as many threads as there are processors, until one fails.
pub(crate) fn each<T: Sync + fmt::Display, R: Send>(
    cases: &[T],
    run: impl Fn(&T) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        let mut results = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = catch_unwind(AssertUnwindSafe(|| run(case)));
            match result.unwrap_or_else(|_| Err("a panic, see above".to_owned())) {
                Ok(one) => results.push(one),
                Err(wrong) => {
                    next.store(cases.len(), Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap();
                    failed.get_or_insert_with(|| format!("{case}\n{wrong}"));
                }
            }
        }
        results
    };
    let total = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .flat_map(|results| results.expect("panics of cases are caught"))
            .collect()
    });
    failed.into_inner().unwrap().map_or(Ok(total), Err)
}

/// A world with one committed transaction: the four first oids have a revision.
pub(crate) fn prepared(shape: Shape) -> (World, Vec<Oid>) {
    let mut world = World::booted(shape.settings());
    let first = world.run_script(c(1), async move |client: SimClient| {
        let oids = client.new_oids(4).await?;
        let txn = client.begin().await?;
        for oid in &oids {
            txn.store(*oid, Tid::ZERO, "before").await?;
        }
        txn.commit().await?;
        Ok::<_, Error>(oids)
    });
    let done = world.run_until("the first commit", PATIENCE, |_| first.is_done());
    done.and_then(|()| world.settle(PATIENCE))
        .unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace()));
    let oids = first.take().expect("the script is done");
    let oids = oids.unwrap_or_else(|error| panic!("{error}\n{}", world.trace()));
    (world, oids)
}

/// The struck transactions: two objects in different partitions, a third one checked, the metadata
/// in a fourth; then another one that changes one of the two again at once.
pub(crate) async fn struck(client: SimClient, oids: Vec<Oid>) -> Result<(), Error> {
    let partitioning = client.partitioning().expect("the client was ready");
    let last = client.last_tid();
    let mut txn = client.begin().await?;
    let home = partitioning.of_tid(txn.ttid().expect("it has begun"));
    let mut others = oids.iter().filter(|oid| partitioning.of_oid(**oid) != home);
    let (a, b, checked) = (others.next(), others.next(), others.next());
    let (Some(a), Some(b), Some(checked)) = (a, b, checked) else {
        panic!("four oids in a row are in four partitions");
    };
    txn.store(*a, last, "first a").await?;
    txn.store(*b, last, "first b").await?;
    txn.check(*checked, last).await?;
    txn.vote().await?;
    let tid = txn.finish().await?;
    let txn = client.begin().await?;
    txn.store(*a, tid, "second a").await?;
    txn.commit().await?;
    Ok(())
}

/// After healing: everything is read, and written again, which shows that no lock is left.
async fn use_all(client: SimClient, oids: Vec<Oid>) -> Result<(), Error> {
    client.wait_ready(Duration::from_secs(60)).await?;
    client.sync().await?;
    client.transactions(client.last_tid()).await?;
    let txn = client.begin().await?;
    for oid in &oids {
        let serial = client.load(*oid).await?.map_or(Tid::ZERO, |(tid, _)| tid);
        txn.store(*oid, serial, "after").await?;
    }
    txn.commit().await?;
    for oid in client.new_oids(2).await? {
        assert!(client.load(oid).await?.is_none());
    }
    Ok(())
}

/// The points of the struck commit, in a run without a fault.
pub(crate) fn points_of_commit(shape: Shape) -> Vec<Point> {
    let (mut world, oids) = prepared(shape);
    let base = world.points().len() as u64;
    let script = world.run_script(c(1), |client| struck(client, oids));
    world
        .settle(PATIENCE)
        .unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace()));
    match script.take() {
        Some(Ok(())) => {}
        other => panic!("{other:?}\n{}", world.trace()),
    }
    world
        .check()
        .unwrap_or_else(|wrong| panic!("{wrong}\n{}", world.trace()));
    let points = world.points()[base as usize..].iter();
    points
        .map(|point| Point {
            index: point.index - base,
            ..*point
        })
        .collect()
}

/// Points of the commit after which different things are durable.
pub(crate) fn telling_points(shape: Shape) -> Vec<Point> {
    let all = points_of_commit(shape);
    let is_write = |point: &&Point| matches!(point.what, Happens::Write { .. });
    all.iter().filter(is_write).copied().collect()
}

impl Case {
    pub(crate) fn new(
        shape: Shape,
        point: &Point,
        when: When,
        fault: Fault,
        restart: Restart,
    ) -> Self {
        let placed = Placed {
            point: point.index,
            when,
            fault,
        };
        Self {
            shape,
            plan: vec![placed],
            at: point.what,
            restart,
        }
    }

    /// Another fault later.
    pub(crate) fn then(mut self, placed: Placed) -> Self {
        self.plan.push(placed);
        self
    }

    /// Runs to where the faults are placed, and over them.
    fn strike(&self) -> (World, Vec<Oid>, Struck) {
        let (mut world, oids) = prepared(self.shape);
        let base = world.points().len() as u64;
        for placed in &self.plan {
            world.plan(Placed {
                point: base + placed.point,
                ..placed.clone()
            });
        }
        let names = oids.clone();
        let script = world.run_script(c(1), |client| struck(client, names));
        (world, oids, script)
    }

    /// Lets what is left deal with the faults, and starts what crashed.
    fn recover(&self, world: &mut World) -> Result<(), String> {
        let first = self.plan.len().saturating_sub(1);
        match self.restart {
            Restart::Later => {
                // Whoever can't go on tries for ever: that is no quiet.
                drop(world.settle(DEALT_WITH));
            }
            Restart::AtOnce => {
                let struck = world.run_until("the fault", PATIENCE, |world| {
                    world.planned().len() <= first
                });
                struck.map_err(|stuck| stuck.to_string())?;
                world.run_for(Duration::from_millis(5));
            }
        }
        // Faults of the recovery itself take their own nodes down: these start again later.
        while !world.planned().is_empty() {
            let left = world.planned().len();
            world.start_all();
            let struck = world.run_until("another fault", PATIENCE, |world| {
                world.planned().len() < left
            });
            struck.map_err(|stuck| stuck.to_string())?;
            world.run_for(Duration::from_millis(5));
        }
        world.heal().map_err(|stuck| stuck.to_string())
    }

    /// Runs the case and checks everything.
    pub(crate) fn run(&self) -> Result<Counts, String> {
        let run = || {
            terse_first(|is_terse| {
                let mut case = self.clone();
                case.shape.is_terse = is_terse;
                case.run_once()
            })
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("a panic, see above".to_owned()))
    }

    fn run_once(&self) -> Result<Counts, String> {
        let (mut world, oids, script) = self.strike();
        let result = self.finish(&mut world, &oids, &script);
        result.map_err(|wrong| format!("{}{wrong}", world.trace().tail(200)))
    }

    fn finish(&self, world: &mut World, oids: &[Oid], script: &Struck) -> Result<Counts, String> {
        self.recover(world)?;
        let client_crashed = self.plan.iter().any(
            |placed| matches!(&placed.fault, Fault::Crash { nodes, .. } if nodes.contains(&c(1))),
        );
        if !client_crashed {
            let told = world.run_until("the end of the struck script", PATIENCE, |_| {
                script.is_done()
            });
            told.map_err(|stuck| stuck.to_string())?;
            world.settle(PATIENCE).map_err(|stuck| stuck.to_string())?;
        }
        let counts = count(world);
        check_and_crash(world, oids)?;
        Ok(counts)
    }

    /// Points from just after the first fault until the cluster serves again, in a run without
    /// another one.
    pub(crate) fn points_after_the_fault(&self) -> Vec<Point> {
        let (mut world, _, _) = self.strike();
        let mut base = 0;
        while let Some(placed) = world.planned().first() {
            base = placed.point - self.plan[0].point;
            world.step();
        }
        let from = world.points().len();
        self.recover(&mut world)
            .unwrap_or_else(|stuck| panic!("{self}\n{stuck}\n{}", world.trace()));
        let points = world.points()[from..].iter();
        points
            .map(|point| Point {
                index: point.index - base,
                ..*point
            })
            .collect()
    }

    /// The hash of the trace of a whole run.
    pub(crate) fn hash(&self) -> u64 {
        let (mut world, oids, script) = self.strike();
        drop(self.finish(&mut world, &oids, &script));
        world.trace().hash()
    }
}

/// Uses a healed cluster, and checks everything.
pub(crate) fn use_and_check(world: &mut World, oids: Vec<Oid>) -> Result<(), String> {
    let used = world.run_script(c(1), |client| use_all(client, oids));
    let done = world.run_until("used again", PATIENCE, |_| used.is_done());
    done.map_err(|stuck| stuck.to_string())?;
    if let Some(Err(error)) = used.take() {
        return Err(format!("the healed cluster does not work: {error}"));
    }
    world.settle(PATIENCE).map_err(|stuck| stuck.to_string())?;
    world.check().map_err(|wrong| format!("after use: {wrong}"))
}

/// What became of the transactions of a run.
pub(crate) fn count(world: &World) -> Counts {
    let mut counts = Counts {
        runs: 1,
        cut: usize::from(world.links_cut() > 0),
        ..Counts::default()
    };
    let oracle = world.oracle().borrow();
    // The first transaction made the objects.
    for seen in oracle.transactions().values().skip(1) {
        match seen.told {
            Told::Committed(_) => counts.committed += 1,
            Told::Open | Told::NotCommitted => counts.not_committed += 1,
            Told::Asked | Told::Unknown => counts.unknown += 1,
        }
    }
    let caught_up = |point: &Point| matches!(point.what, Happens::Delivery { packet, .. } if packet == "NotifyReplicationDone");
    counts.caught_up = usize::from(world.points().iter().any(caught_up));
    counts
}
