//! A run from its beginning to its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use neo_api::{ClusterState, Env, PartitionTable, SystemEnv};
use neo_backends::{Adapter, Adapters, DatabaseOptions, Place as Kept};
use neo_client::{Client, CompressionSetting};
use neo_testkit::process::{CLUSTER, ClusterOptions, ProcessCluster, Watcher};
use neo_testkit::seed::Rng;
use tokio::task::JoinHandle;

use super::args::{Kind, StressArgs};
use super::copies::Copies;
use super::faults::Faults;
use super::history::History;
use super::hub::{Hub, Via};
use super::ledger::Ledger;
use super::node;
use super::nodes::{Nodes, Party};
use super::report::Report;
use super::worker::{HANGS, Job, Objects, Worker};
use crate::config::ConfigError;
use crate::report::say;

const PARTITIONS: u32 = 12;
const ACCOUNTS: u32 = 12;
/// With everything up again, each client must be able to commit within this time.
const RECOVERS: Duration = Duration::from_secs(90);
/// Between pauses in which everything must come up again.
const CALM_MS: (u64, u64) = (15_000, 40_000);
/// How long an operation of a client waits without progress.
const OPERATION: Duration = Duration::from_secs(30);
/// Cache of every other client; the rest have none.
const CACHE: usize = 1 << 20;
const TICK: Duration = Duration::from_millis(20);
/// How often the state is told.
const TELL: Duration = Duration::from_secs(10);

/// A run; its processes end with it.
struct Run {
    args: StressArgs,
    adapter: Arc<dyn Adapter>,
    options: ClusterOptions,
    nodes: Nodes,
    watcher: Watcher,
    faults: Faults,
    hub: Hub,
    ledger: Arc<Ledger>,
    rng: Rng,
    workers: Vec<JoinHandle<()>>,
    /// All of them, and not one more.
    clients: Vec<Client>,
    stop: Arc<AtomicBool>,
}

/// Runs the stress test; the status of the program.
///
/// # Errors
/// When it can't do what it is to do.
pub async fn run(adapters: &Adapters, args: StressArgs) -> anyhow::Result<ExitCode> {
    let adapter = check(adapters, &args)?;
    let seed = args
        .seed
        .unwrap_or_else(|| SystemEnv::new().random() % 1_000_000);
    let place = Place::new(args.dir.as_deref())?;
    say(format_args!(
        "neostress: seed {seed}, databases and logs in {}",
        place.path().display()
    ));
    let report = match Run::start(adapter, args, seed, place.path()).await {
        Ok(mut run) => run.carry_out().await,
        Err(error) => Err(error),
    };
    let is_well = matches!(&report, Ok(report) if report.anomalies == 0);
    if !is_well {
        let kept = place.keep();
        say(format_args!(
            "neostress: databases and logs are kept in {}",
            kept.display()
        ));
    }
    println!("{}", report?);
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(adapters: &Adapters, args: &StressArgs) -> Result<Arc<dyn Adapter>, ConfigError> {
    let there_are = || {
        let fit = adapters
            .iter()
            .filter(|adapter| adapter.place() == Kept::Path);
        let names: Vec<&str> = fit.map(|adapter| adapter.name()).collect();
        format!("there is {}", names.join(", "))
    };
    let wrong = |problem| Err(ConfigError::Usage(problem));
    let adapter = match adapters.find(&args.adapter) {
        Ok(adapter) => adapter,
        Err(error) => return wrong(format!("--adapter: {error}; {}", there_are())),
    };
    let (name, there_are) = (adapter.name(), there_are());
    match adapter.place() {
        Kept::Path => {}
        Kept::Memory => {
            return wrong(format!(
                "--adapter: a killed node would lose what the adapter {name} keeps; {there_are}"
            ));
        }
        _ => {
            return wrong(format!(
                "--adapter: databases of {name} are in no directory; {there_are}"
            ));
        }
    }
    if args.replicas >= args.storages {
        let (storages, replicas) = (args.storages, args.replicas);
        let least = replicas + 1;
        return wrong(format!(
            "--replicas {replicas}: that needs --storages {least} at least, not {storages}"
        ));
    }
    Ok(Arc::clone(adapter))
}

/// Where databases and logs are.
enum Place {
    Named(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn new(dir: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = dir else {
            let made = tempfile::Builder::new().prefix("neostress-").tempdir();
            return Ok(Self::Temporary(
                made.context("cannot make a temporary directory")?,
            ));
        };
        // What is there already might be somebody's.
        std::fs::create_dir(dir)
            .with_context(|| format!("--dir: cannot make {}", dir.display()))?;
        Ok(Self::Named(dir.canonicalize()?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }

    fn keep(self) -> PathBuf {
        match self {
            Self::Named(path) => path,
            Self::Temporary(dir) => dir.keep(),
        }
    }
}

impl Run {
    async fn start(
        adapter: Arc<dyn Adapter>,
        args: StressArgs,
        seed: u64,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let hub = Hub::start().await.context("cannot stand between nodes")?;
        let own = std::env::current_exe().context("cannot find out what this program is")?;
        let options = ClusterOptions {
            masters: args.masters,
            storages: args.storages,
            replicas: args.replicas,
            partitions: PARTITIONS,
            adapter: adapter.name().to_owned(),
            runner: Some(node::runner(own.clone(), hub.address())),
            ..ClusterOptions::new(own, dir)
        };
        let cluster = ProcessCluster::start(&options).context("cannot start the cluster")?;
        let mut rng = Rng::new(seed);
        let kinds = if args.faults.is_empty() {
            Kind::ALL.to_vec()
        } else {
            args.faults.clone()
        };
        let mut run = Self {
            watcher: Watcher::new(cluster.admin_address().clone()),
            faults: Faults::new(rng.fork(), kinds, hub.clone(), args.clients),
            nodes: Nodes::new(cluster),
            hub,
            ledger: Arc::new(Ledger::new()),
            rng,
            workers: Vec::new(),
            clients: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            options,
            args,
            adapter,
        };
        run.start_workers().await?;
        Ok(run)
    }

    fn client(&self, number: u32, cache: usize) -> anyhow::Result<Client> {
        let masters = self.nodes.cluster().master_addresses();
        let hub = self.hub.address().clone();
        let via = Via::new(hub, Party::Client(number).name());
        let client = Client::builder(CLUSTER)
            .masters(masters.iter().map(ToString::to_string))
            .transport(Arc::new(via))
            .resolver(Arc::new(super::value::MergeLogs))
            // What is in the databases is to be read without a client.
            .compression(CompressionSetting::Off)
            .cache_bytes(cache)
            .operation_timeout(OPERATION)
            .start()?;
        Ok(client)
    }

    async fn start_workers(&mut self) -> anyhow::Result<()> {
        for n in 0..self.args.clients {
            self.clients
                .push(self.client(n, if n % 2 == 0 { CACHE } else { 0 })?);
        }
        let first = &self.clients[0];
        first
            .wait_ready(RECOVERS)
            .await
            .context("the cluster does not become ready")?;
        let logs = 2 * self.args.clients;
        let objects = Objects::create(first, &self.ledger, logs, ACCOUNTS).await?;
        for client in &self.clients {
            client.wait_ready(RECOVERS).await?;
            // It may have connected before the objects were there.
            client.sync().await?;
        }
        let jobs = [Job::Append, Job::Transfer];
        let work = self
            .clients
            .iter()
            .flat_map(|client| jobs.map(|job| (client, job)));
        for (number, (client, job)) in (0..).zip(work) {
            let worker = Worker {
                number,
                job,
                client: client.clone(),
                objects: objects.clone(),
                ledger: Arc::clone(&self.ledger),
                stop: Arc::clone(&self.stop),
                rng: self.rng.fork(),
            };
            self.workers.push(tokio::spawn(worker.run()));
        }
        Ok(())
    }

    async fn carry_out(&mut self) -> anyhow::Result<Report> {
        let start = Instant::now();
        let time = Duration::from_secs(self.args.seconds);
        self.break_things(start + time).await?;
        self.recover().await?;
        let seconds = start.elapsed().as_secs_f64();
        self.rest().await;
        let commits = self.ledger.counts().committed;
        let table = self.stop().await?;
        if let Some(table) = table {
            self.check(table).await?;
        }
        self.look_into_logs()?;
        let struck = self.faults.struck.iter();
        let struck: Vec<String> = struck
            .map(|((one, other), count)| format!("{count} between {one} and {other}"))
            .collect();
        say(format_args!(
            "neostress: resets and stalls: {}",
            struck.join(", ")
        ));
        Ok(Report {
            commits,
            seconds,
            faults: std::mem::take(&mut self.faults.made),
            anomalies: self.ledger.anomalies(),
        })
    }

    /// Faults until the time is over, or something is wrong.
    async fn break_things(&mut self, end: Instant) -> anyhow::Result<()> {
        let mut calm = Instant::now() + self.until_calm();
        let mut tell = Instant::now() + TELL;
        while Instant::now() < end && !self.ledger.has_failed() {
            self.nodes.look_after(&self.ledger);
            self.nodes.heal(false)?;
            self.faults.open(false);
            self.faults.ambush();
            if Instant::now() > calm {
                self.recover().await?;
                calm = Instant::now() + self.until_calm();
            }
            if self.faults.is_due() {
                let view = self.watcher.look().await;
                self.faults.make(&mut self.nodes, &view)?;
            }
            if Instant::now() > tell {
                tell += TELL;
                let view = self.watcher.look().await;
                let (at, counts) = (self.ledger.seconds(), self.ledger.counts());
                say(format_args!(
                    "neostress: {at:.0} s: {} committed, {} refused, {} unknown; {view}",
                    counts.committed, counts.refused, counts.unknown
                ));
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    fn until_calm(&mut self) -> Duration {
        Duration::from_millis(self.rng.between(CALM_MS.0, CALM_MS.1))
    }

    /// Ends all faults, and waits until the cluster is as good as new and each worker has committed
    /// again.
    async fn recover(&mut self) -> anyhow::Result<()> {
        self.nodes.heal(true)?;
        self.faults.open(true);
        let before = self.ledger.commits();
        let deadline = Instant::now() + RECOVERS;
        let mut tell = Instant::now() + TELL;
        loop {
            self.nodes.look_after(&self.ledger);
            self.nodes.heal(true)?;
            let lacks = self.lacks(&before).await;
            let Some(lacks) = lacks else { return Ok(()) };
            let now = Instant::now();
            if now > deadline {
                let seconds = RECOVERS.as_secs();
                self.ledger.anomaly(format!(
                    "{seconds} s after the last fault, it still waits for {lacks}"
                ));
                return Ok(());
            }
            if now > tell {
                tell += TELL;
                say(format_args!(
                    "neostress: {:.0} s: waiting for {lacks}",
                    self.ledger.seconds()
                ));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn lacks(&mut self, before: &BTreeMap<u32, u64>) -> Option<String> {
        let view = self.watcher.look().await;
        if let Some(lacks) = view.lacks(self.args.storages) {
            return Some(lacks);
        }
        let commits = self.ledger.commits();
        let workers = 0..self.workers.len() as u32;
        let idle = workers.filter(|worker| commits.get(worker) <= before.get(worker));
        let idle: Vec<String> = idle.map(|worker| worker.to_string()).collect();
        (!idle.is_empty()).then(|| format!("a commit of the workers {}: {view}", idle.join(", ")))
    }

    /// Ends the workers.
    async fn rest(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for (number, worker) in std::mem::take(&mut self.workers).into_iter().enumerate() {
            match tokio::time::timeout(HANGS, worker).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.ledger.anomaly(format!("worker {number}: {error}")),
                Err(_) => self.ledger.anomaly(format!("worker {number} does not end")),
            }
        }
        for client in std::mem::take(&mut self.clients) {
            client.close().await;
        }
    }

    /// Stops the cluster cleanly; the partition table that it had.
    async fn stop(&mut self) -> anyhow::Result<Option<PartitionTable>> {
        let view = self.watcher.look().await;
        if !view.is_running() {
            // That is an anomaly already.
            return Ok(None);
        }
        let control = self.watcher.control().await?;
        control.set_cluster_state(ClusterState::Stopping).await?;
        self.nodes.stopped(&self.ledger).await?;
        Ok(view.table)
    }

    async fn check(&self, table: PartitionTable) -> anyhow::Result<()> {
        say(format_args!(
            "neostress: {:.0} s: comparing replicas",
            self.ledger.seconds()
        ));
        let mut backends = BTreeMap::new();
        for node in self.nodes.storages() {
            let Some((nid, at)) = node.nid().zip(node.storage()) else {
                continue;
            };
            let database = self.options.database(at);
            let backend = self.adapter.open(&DatabaseOptions::new(&database));
            backends.insert(
                nid,
                backend.with_context(|| format!("cannot open {database}"))?,
            );
        }
        let copies = Copies { table, backends };
        let compared = copies.compare(&self.ledger).await?;
        say(format_args!(
            "neostress: {:.0} s: reading the history",
            self.ledger.seconds()
        ));
        let history = History::read(&copies, &self.ledger).await?;
        let told = self.ledger.read_entries();
        let unknown = history.check(&told, &self.ledger);
        for backend in copies.backends.values() {
            backend.close().await?;
        }
        say(format_args!(
            "neostress: {} transactions, {unknown} of them known by no client; {compared} rows are \
             the same on another node; {} reads were right",
            history.transactions(),
            told.reads.len()
        ));
        Ok(())
    }

    /// A panic is an anomaly, although the node went on.
    fn look_into_logs(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.options.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            for line in text.lines().filter(|line| line.contains("panicked at")) {
                self.ledger.anomaly(format!("{}: {line}", path.display()));
            }
        }
        Ok(())
    }
}
