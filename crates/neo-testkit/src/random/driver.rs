//! A random run, from a cluster that does not exist yet to one that has healed.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use neo_api::StorageBackend;
use neo_client::Error;

use super::chaos::Weather;
use super::report::Report;
use super::settings::RunSettings;
use super::work::{Work, work};
use crate::invariant::check_packed;
use crate::seed::Rng;
use crate::sim::{Facts, Handle, Name, PATIENCE, Stuck, World, c};

/// Longest while in which nobody looks whether a client must get work again.
const GLANCE: Duration = Duration::from_millis(250);
/// How long scripts may take to end when nothing goes wrong any more.
const END_PATIENCE: Duration = Duration::from_secs(300);
/// What one client does in a cluster that has healed: each round must succeed.
const ROUNDS_AFTER: u32 = 10;

/// What was wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// What was wrong, one a line.
    pub what: String,
    /// The end of the trace, unless the world was terse.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, what, trace } = self;
        write!(f, "{trace}seed {seed}: {what}")
    }
}

/// Lets a run happen.
///
/// # Errors
/// What was wrong.
pub fn run(settings: &RunSettings) -> Result<Report, Failure> {
    Run::new(settings, World::new(settings.world.clone())).run()
}

/// Lets a run happen whose storage nodes have their data in backends of your own, as
/// [`World::with_backends`] has it.
///
/// # Errors
/// What was wrong.
pub fn run_with_backends(
    settings: &RunSettings,
    backends: impl FnMut(Name) -> Arc<dyn StorageBackend> + 'static,
) -> Result<Report, Failure> {
    let world = World::with_backends(settings.world.clone(), backends);
    Run::new(settings, world).run()
}

type Script = Handle<Result<u32, Error>>;

struct Run<'a> {
    settings: &'a RunSettings,
    world: World,
    rng: Rng,
    /// Whose, of which start of it.
    scripts: Vec<(Name, u32, Script)>,
    sessions: u64,
}

impl<'a> Run<'a> {
    fn new(settings: &'a RunSettings, world: World) -> Self {
        Self {
            settings,
            world,
            rng: Rng::new(settings.seed ^ 0x5eed),
            scripts: Vec::new(),
            sessions: 0,
        }
    }

    fn run(mut self) -> Result<Report, Failure> {
        let seed = self.settings.seed;
        let merged = self.go().map_err(|what| Failure {
            seed,
            what,
            trace: self.world.trace().tail(300),
        })?;
        let oracle = self.world.oracle().borrow();
        let (commits, aborts, unknown) = oracle.counts();
        Ok(Report {
            seed,
            hash: self.world.trace().hash(),
            commits,
            aborts,
            unknown,
            merged,
            reads: oracle.reads().len(),
            faults: *self.world.tally(),
            primaries: self.world.primaries_changed(),
            time: self.world.now(),
        })
    }

    fn go(&mut self) -> Result<usize, String> {
        self.world.start_all();
        self.world.wait_running().map_err(stuck)?;
        let work = Rc::new(self.prepare()?);
        self.under_faults(&work)?;
        self.finish(&work)?;
        for crash in [false, true] {
            if crash {
                self.world.crash_all();
            }
            self.world.heal().map_err(stuck)?;
            self.wait_packed()?;
            self.check(&work)?;
        }
        self.use_again(&work)?;
        self.world.settle(PATIENCE).map_err(stuck)?;
        self.check(&work)?;
        Ok(work.counters.merged())
    }

    fn prepare(&mut self) -> Result<Work, String> {
        let pause_max = self.settings.pause_max;
        let made = self
            .world
            .run_script(c(1), move |client| Work::prepare(client, pause_max));
        self.world
            .run_until("the first objects", PATIENCE, |_| made.is_done())
            .map_err(stuck)?;
        let work = made.take().ok_or("the first script was lost")?;
        work.map_err(|error| error.to_string())
    }

    /// Clients work while faults strike.
    fn under_faults(&mut self, work: &Rc<Work>) -> Result<(), String> {
        let chaos = self.settings.chaos.clone();
        let end = self.world.now() + self.settings.duration;
        let mut weather = Weather::new(chaos, self.rng.fork(), self.world.now());
        while self.world.now() < end {
            self.employ(work);
            let now = self.world.now();
            let next = weather.next().min(end).min(now + GLANCE);
            self.world.run_for(next.saturating_sub(now));
            self.dismiss()?;
            weather.pass(&mut self.world);
        }
        Ok(())
    }

    /// Gives work to each client that has none.
    fn employ(&mut self, work: &Rc<Work>) {
        let clients: Vec<Name> = self
            .world
            .names()
            .filter(|name| matches!(name, Name::Client(_)) && self.world.is_up(*name))
            .collect();
        for name in clients {
            let start = self.world.incarnation(name);
            let is_own = |script: &&(Name, u32, Script)| (script.0, script.1) == (name, start);
            let busy = self.scripts.iter().filter(is_own).count();
            for _ in busy..usize::from(self.settings.scripts) {
                self.start_work(work, name, u32::MAX);
            }
        }
    }

    fn start_work(&mut self, shared: &Rc<Work>, name: Name, rounds: u32) {
        self.sessions += 1;
        let (session, seed) = (self.sessions, self.rng.next());
        let shared = Rc::clone(shared);
        let script = self.world.run_script(name, move |client| {
            work(client, shared, session, seed, rounds)
        });
        let start = self.world.incarnation(name);
        self.scripts.push((name, start, script));
    }

    /// Forgets the scripts that have ended, by themselves or with their client.
    fn dismiss(&mut self) -> Result<(), String> {
        let world = &self.world;
        self.scripts
            .retain(|(name, start, _)| world.is_up(*name) && world.incarnation(*name) == *start);
        for (name, _, script) in self
            .scripts
            .extract_if(.., |(_, _, script)| script.is_done())
        {
            if let Some(Err(error)) = script.take() {
                return Err(format!("{name}: {error}"));
            }
        }
        Ok(())
    }

    /// Nothing goes wrong any more: who works comes to an end.
    fn finish(&mut self, work: &Work) -> Result<(), String> {
        work.is_over.set(true);
        self.world.end_faults();
        self.world.start_all();
        self.dismiss()?;
        let scripts = &self.scripts;
        self.world
            .run_until("the end of all work", END_PATIENCE, |_| {
                scripts.iter().all(|(_, _, script)| script.is_done())
            })
            .map_err(|stuck| {
                let open = scripts.iter().filter(|(_, _, script)| !script.is_done());
                let names: Vec<Name> = open.map(|(name, ..)| *name).collect();
                format!("{stuck}: of {names:?}")
            })?;
        self.dismiss()
    }

    /// Every pack that was ordered is done.
    fn wait_packed(&mut self) -> Result<(), String> {
        let script = self.world.run_script(c(1), async |client| {
            client.wait_ready(PATIENCE).await?;
            let last = client.sync().await?;
            client.wait_pack(last).await
        });
        self.world
            .run_until("packs that are done", PATIENCE, |_| script.is_done())
            .map_err(stuck)?;
        if let Some(Err(error)) = script.take() {
            return Err(format!("waiting for packs: {error}"));
        }
        self.world.settle(PATIENCE).map_err(stuck)?;
        let facts = Facts::read(&self.world).ok_or("there is no partition table")?;
        let left = check_packed(&facts);
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n"))
        }
    }

    /// The healed cluster works.
    fn use_again(&mut self, work: &Rc<Work>) -> Result<(), String> {
        work.is_over.set(false);
        self.start_work(work, c(1), ROUNDS_AFTER);
        let Some((_, _, script)) = self.scripts.pop() else {
            return Ok(());
        };
        self.world
            .run_until("use", PATIENCE, |_| script.is_done())
            .map_err(stuck)?;
        match script.take() {
            Some(Ok(ROUNDS_AFTER)) => Ok(()),
            other => Err(format!("after healing: {other:?}")),
        }
    }

    fn check(&self, work: &Work) -> Result<(), String> {
        let facts = Facts::read(&self.world).ok_or("there is no partition table")?;
        let mut wrong = self.world.wrong(&facts);
        wrong.extend(work.check(&facts));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }
}

fn stuck(stuck: Stuck) -> String {
    stuck.to_string()
}
