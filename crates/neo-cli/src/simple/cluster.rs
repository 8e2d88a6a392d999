//! The cluster of a `neosimple`, from its start to its end.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use neo_api::{Address, CellState, ClusterState};
use neo_backends::Adapter;
use neo_client::CompressionSetting;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::args::SimpleArgs;
use super::memory::{ClusterDir, ClusterPlan, MASTER_PORTS};
use super::nodes::{NodePlan, Nodes};
use super::restarts::{DEATHS_MAX, Restarts, SOON};
use crate::Programs;
use crate::config::NodeKind;
use crate::migrate::{self, Progress};
use crate::node::run::NodeEvent;
use crate::programs::block_on;
use crate::report::say;
use crate::signal::Signals;

/// How long nodes may take to stop; the master gives transactions 30 s to finish.
const STOP_PATIENCE: Duration = Duration::from_secs(45);

/// How long a command to stop may take to be accepted.
const STOP_COMMAND: Duration = Duration::from_secs(5);

/// Pause between words about a cluster that is not RUNNING yet.
const STILL: Duration = Duration::from_secs(3);

/// How long the cluster may be without service once a node was given up: longer than it takes to
/// find another primary.
const STUCK_MAX: Duration = Duration::from_secs(20);

/// The first master; the others have a number behind it.
const MASTER: &str = "master";
const ADMIN: &str = "admin";
/// The admin node as a reader knows it.
const ADMIN_NODE: &str = "admin node";

/// How serving ends without a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody wants it.
    Signal,
    /// Somebody wants it, before an import was done.
    Interrupted,
    /// The cluster was stopped by an operator.
    Stopped,
}

pub(super) struct Cluster {
    nodes: Nodes,
    restarts: Restarts,
    /// It was RUNNING: what dies from now on is started again.
    is_serving: bool,
    /// Since when it does not serve, while a node is given up.
    stuck: Option<Instant>,
    dir: ClusterDir,
    plan: ClusterPlan,
    adapter: Arc<dyn Adapter>,
    programs: Programs,
    /// The masters that listen, the first one first.
    masters: Vec<Address>,
    admin: Option<Address>,
    state: Option<ClusterState>,
    /// Nodes that have started.
    listening: BTreeSet<String>,
    /// For whom or what a master waits, and which one.
    waiting: (String, String),
}

impl Cluster {
    pub(super) fn new(
        programs: &Programs,
        args: &SimpleArgs,
        dir: ClusterDir,
        plan: ClusterPlan,
        adapter: Arc<dyn Adapter>,
    ) -> Self {
        Self {
            nodes: Nodes::new(programs, args.processes, args.verbose),
            restarts: Restarts::default(),
            is_serving: false,
            stuck: None,
            dir,
            plan,
            adapter,
            programs: programs.clone(),
            masters: Vec::new(),
            admin: None,
            state: None,
            listening: BTreeSet::new(),
            waiting: Default::default(),
        }
    }

    /// Whether a node runs.
    pub(super) fn has_nodes(&self) -> bool {
        self.nodes.running().next().is_some()
    }

    /// Starts the nodes, imports, tells that it is ready, and serves.
    pub(super) async fn serve(
        &mut self,
        args: &SimpleArgs,
        signals: &mut Signals,
    ) -> anyhow::Result<End> {
        for n in 1..=self.plan.masters {
            self.start_master(n, args)?;
            // One after the other, each told where those before it listen: the first one leads.
            while self.masters.len() < n as usize {
                if self.turn(signals).await? == Turn::Signal {
                    return Ok(End::Signal);
                }
            }
        }
        self.start_others(args)?;
        let mut told = Instant::now() + STILL;
        while self.admin.is_none() || self.state != Some(ClusterState::Running) {
            tokio::select! {
                turn = self.turn(signals) => match turn? {
                    Turn::Signal => return Ok(End::Signal),
                    Turn::Ended => return Ok(End::Stopped),
                    Turn::Event => {}
                },
                () = tokio::time::sleep_until(told) => {
                    told += STILL;
                    say(format_args!("neosimple: {}", self.still()));
                }
            }
        }
        self.is_serving = true;
        if let Some(file) = &args.import
            && let Some(end) = self
                .import(file, args.compress.unwrap_or_default(), signals)
                .await?
        {
            return Ok(end);
        }
        if !self.plan.created {
            self.plan.created = true;
            self.dir.remember(&self.plan)?;
        }
        self.warn_of_lost_copies().await;
        self.tell_ready()?;
        loop {
            match self.turn(signals).await? {
                Turn::Signal => return Ok(End::Signal),
                Turn::Ended => return Ok(End::Stopped),
                Turn::Event => {}
            }
        }
    }

    /// Why the cluster is not RUNNING yet.
    fn still(&self) -> String {
        let state = self
            .state
            .map_or_else(|| "starting".to_owned(), |s| s.to_string());
        match self.waiting.1.as_str() {
            "" => format!("the cluster is still {state}"),
            what => format!("the cluster is still {state}: {what}"),
        }
    }

    fn start_master(&mut self, n: u32, args: &SimpleArgs) -> anyhow::Result<()> {
        let name = if n == 1 {
            MASTER.to_owned()
        } else {
            format!("{MASTER}{n}")
        };
        let port = self.plan.master_ports.get(n as usize - 1).copied();
        self.check_port(&name, port, n == 1 && args.port.is_some())?;
        self.check_port(ADMIN_NODE, self.plan.admin_port, false)?;
        let ClusterPlan {
            storages,
            replicas,
            partitions,
            ..
        } = self.plan;
        let mut words = self.words();
        for (option, number) in [
            ("-A", storages),
            ("-r", replicas),
            ("-p", partitions),
            // So that what neoctl calls M2 is what the logs call master2.
            ("-i", n),
        ] {
            words.push(option.into());
            words.push(number.to_string().into());
        }
        if let Some(seconds) = args.auto_tweak {
            words.push("--auto-tweak".into());
            words.push(seconds.to_string().into());
        }
        self.start(NodePlan {
            name,
            kind: NodeKind::Master,
            bind: self.bind(port),
            masters: self.masters.clone(),
            args: words,
        })
    }

    fn start_others(&mut self, args: &SimpleArgs) -> anyhow::Result<()> {
        self.plan.master_ports = self.masters.iter().map(Address::port).collect();
        // Before there is any data: a directory with data always says what it is.
        self.dir.remember(&self.plan)?;
        self.start(NodePlan {
            name: ADMIN.to_owned(),
            kind: NodeKind::Admin,
            bind: self.bind(self.plan.admin_port),
            masters: self.masters.clone(),
            args: self.words(),
        })?;
        for storage in 1..=self.plan.storages {
            let mut words = self.words();
            // So that what neoctl calls S1 is what the files and the logs call storage1.
            words.extend(["-i".into(), storage.to_string().into()]);
            words.push("-a".into());
            words.push(self.adapter.name().into());
            words.push("-d".into());
            words.push(absolute(self.dir.database(storage, &*self.adapter)).into());
            self.start(NodePlan {
                name: format!("storage{storage}"),
                kind: NodeKind::Storage,
                bind: self.bind(None),
                masters: self.masters.clone(),
                args: words,
            })?;
        }
        tracing::debug!(dir = %self.dir.path().display(), import = ?args.import, "nodes started");
        Ok(())
    }

    fn start(&mut self, plan: NodePlan) -> anyhow::Result<()> {
        self.restarts.started(&plan, Instant::now());
        self.nodes.start(plan)
    }

    /// Where a node is to listen; at a free port without one.
    fn bind(&self, port: Option<u16>) -> Address {
        Address::new(&self.plan.bind, port.unwrap_or(0))
    }

    /// What every node is told.
    fn words(&self) -> Vec<OsString> {
        ["-c", &self.plan.name].map(OsString::from).to_vec()
    }

    /// Whether a port is free: the message of the node that tries it would not know where it is
    /// from.
    fn check_port(&self, whose: &str, port: Option<u16>, given: bool) -> anyhow::Result<()> {
        let Some(port) = port else { return Ok(()) };
        match TcpListener::bind((self.plan.bind.as_str(), port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let file = self.dir.file();
                let (what, remedy) = if given {
                    ("asked for by --port".to_owned(), "give another".to_owned())
                } else {
                    let remembered = format!("remembered in {}", file.display());
                    let remedy = match whose {
                        MASTER => "give another by --port".to_owned(),
                        ADMIN_NODE => format!("remove its line from {}", file.display()),
                        _ => format!("change it in {MASTER_PORTS} of {}", file.display()),
                    };
                    (remembered, remedy)
                };
                bail!(
                    "port {port} of the {whose}, {what}, is taken by another program: stop that, \
                     or {remedy}"
                )
            }
            // The node itself will tell what else is wrong.
            _ => Ok(()),
        }
    }

    /// Waits for something to happen.
    async fn turn(&mut self, signals: &mut Signals) -> anyhow::Result<Turn> {
        tokio::select! {
            (signal, _) = signals.next() => {
                say(format_args!("neosimple: {signal}: stopping"));
                Ok(Turn::Signal)
            }
            (name, event) = self.nodes.next() => {
                let turn = self.event(&name, event)?;
                self.note_stuck();
                Ok(turn)
            }
            () = sleep_until(self.restarts.due()) => {
                if let Some(plan) = self.restarts.take_due(Instant::now()) {
                    let masters = self.masters.iter().filter(|master| **master != plan.bind);
                    let masters = masters.cloned().collect();
                    self.start(NodePlan { masters, ..plan })?;
                }
                Ok(Turn::Event)
            }
            () = sleep_until(self.stuck.map(|since| since + STUCK_MAX)) => bail!(
                "{} keeps dying, and the cluster does not go on without it: {}",
                self.restarts.given_up().join(", "),
                self.still()
            ),
        }
    }

    fn note_stuck(&mut self) {
        let is_stuck = self.state != Some(ClusterState::Running)
            && !self.restarts.given_up().is_empty()
            && self.restarts.due().is_none();
        self.stuck = is_stuck.then(|| self.stuck.unwrap_or_else(Instant::now));
    }

    /// Whether a node of this kind runs, or will again.
    fn has(&self, kind: NodeKind) -> bool {
        self.nodes.runs(kind) || self.restarts.waits(kind)
    }

    fn event(&mut self, name: &str, event: NodeEvent) -> anyhow::Result<Turn> {
        match event {
            NodeEvent::Listening(address) => {
                self.listening.insert(name.to_owned());
                self.restarts.listens(name, &address);
                match name {
                    ADMIN => {
                        self.plan.admin_port = Some(address.port());
                        self.admin = Some(address);
                        self.dir.remember(&self.plan)?;
                    }
                    name if name.starts_with(MASTER) && !self.masters.contains(&address) => {
                        self.masters.push(address);
                    }
                    _ => {}
                }
            }
            NodeEvent::Status { state, .. } => {
                if state.is_some() {
                    self.state = state;
                }
            }
            // A secondary waits for nothing: that is not news of the primary.
            NodeEvent::Waiting(what) if !what.is_empty() || self.waiting.0 == name => {
                self.waiting = (name.to_owned(), what);
            }
            NodeEvent::Waiting(_) => {}
            NodeEvent::Ended(Ok(())) => {
                tracing::info!("{name} has stopped");
                if self.state == Some(ClusterState::Stopping) {
                    self.restarts.cancel();
                }
                // Without these nothing can be done with the cluster any more: it is stopping.
                if !self.has(NodeKind::Master) || !self.has(NodeKind::Storage) {
                    self.restarts.cancel();
                    self.nodes.stop_all();
                }
                if !self.has_nodes() && self.restarts.due().is_none() {
                    return Ok(Turn::Ended);
                }
            }
            NodeEvent::Ended(Err(reason)) => self.died(name, &reason)?,
        }
        Ok(Turn::Event)
    }

    /// Starts a node again that died, unless it keeps dying.
    ///
    /// # Errors
    /// When the cluster can't go on: it has not begun to serve, or no node of a kind is left.
    fn died(&mut self, name: &str, reason: &str) -> anyhow::Result<()> {
        let how = if self.listening.remove(name) {
            format!("{name} died: {reason}")
        } else {
            format!("{name} cannot start: {reason}")
        };
        if !self.is_serving || self.state == Some(ClusterState::Stopping) {
            bail!(how);
        }
        if let Some(pause) = self.restarts.died(name, Instant::now()) {
            let pause = pause.as_secs_f32();
            say(format_args!(
                "neosimple: {how}; starting it again in {pause:.1} s"
            ));
            return Ok(());
        }
        let times = format!(
            "that was the {DEATHS_MAX}th time in a row within {} s of its start",
            SOON.as_secs()
        );
        for kind in [NodeKind::Master, NodeKind::Storage] {
            if !self.has(kind) {
                bail!("{how}; {times}, and no other {} is left", kind.section());
            }
        }
        say(format_args!(
            "neosimple: {how}; {times}: it is given up, and the others go on as long as they can"
        ));
        Ok(())
    }

    /// Imports a file, while nodes and signals are looked after.
    async fn import(
        &mut self,
        file: &Path,
        compression: CompressionSetting,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<End>> {
        let (programs, cluster, file) = (
            self.programs.clone(),
            self.plan.name.clone(),
            file.to_owned(),
        );
        let masters: Vec<String> = self.masters.iter().map(ToString::to_string).collect();
        let (done, mut imported) = oneshot::channel();
        let (word, cancelled) = oneshot::channel::<()>();
        // It compresses: on a thread of its own, beside the nodes'.
        let thread = std::thread::Builder::new().name("import".to_owned());
        let thread = thread.spawn(move || {
            let result = block_on(async {
                let builder = programs.client(&cluster).masters(&masters).cache_bytes(0);
                let client = builder.compression(compression).connect().await?;
                let mut progress = Progress::new("imported", false);
                let result = tokio::select! {
                    result = migrate::import(&client, &file, &mut progress) => {
                        result.map(|_| ())
                    }
                    // What is not committed yet is imported the next time.
                    _ = cancelled => Ok(()),
                };
                client.close().await;
                result
            });
            let _ = done.send(result);
        });
        let thread = thread.context("cannot start a thread")?;
        let end = loop {
            tokio::select! {
                result = &mut imported => {
                    let result = result.unwrap_or_else(|_| Err(anyhow!("the import panicked")));
                    break result.map(|()| None);
                }
                turn = self.turn(signals) => match turn {
                    Ok(Turn::Event) => {}
                    Ok(Turn::Signal) => break Ok(Some(End::Interrupted)),
                    Ok(Turn::Ended) => break Ok(Some(End::Stopped)),
                    Err(error) => break Err(error),
                },
            }
        };
        drop(word);
        if matches!(end, Ok(Some(End::Interrupted))) {
            say(format_args!(
                "neosimple: the import is interrupted: the same command goes on with it"
            ));
        }
        // A client that has lost its cluster may wait for it to come back: it is not waited for.
        if matches!(end, Ok(None) | Ok(Some(End::Interrupted))) {
            let _ = thread.join();
        }
        end
    }

    /// Tells of storage nodes whose copies are not used any more.
    async fn warn_of_lost_copies(&self) {
        let Some(admin) = &self.admin else { return };
        let table = async {
            let control = self.programs.control(admin).await?;
            control.partition_table().await
        };
        // Who cannot be asked has more to say elsewhere.
        let Ok(Ok(Some(table))) = tokio::time::timeout(STOP_COMMAND, table).await else {
            return;
        };
        let cells = table.iter().flat_map(|(_, row)| row.iter());
        let stale = cells.filter(|cell| cell.state == CellState::OutOfDate);
        let stale: BTreeSet<String> = stale.map(|cell| cell.nid.to_string()).collect();
        if !stale.is_empty() {
            let stale: Vec<String> = stale.into_iter().collect();
            say(format_args!(
                "neosimple: warning: the copies of {} are out of date: they were away while the \
                 others went on, and catch up now",
                stale.join(", ")
            ));
        }
    }

    /// The one line on stdout.
    fn tell_ready(&self) -> anyhow::Result<()> {
        let admin = self.admin.as_ref().context("the admin has no address")?;
        let masters: Vec<String> = self.masters.iter().map(ToString::to_string).collect();
        let (name, masters) = (&self.plan.name, masters.join(","));
        let mut stdout = std::io::stdout().lock();
        writeln!(
            stdout,
            "RUNNING cluster={name} masters={masters} admin={admin}"
        )
        .and_then(|()| stdout.flush())
        .context("cannot say that the cluster is running")
    }

    /// Stops the cluster in order, or without order when it does not listen.
    pub(super) async fn stop(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        if let Some(admin) = &self.admin {
            let stop = async {
                let control = self.programs.control(admin).await?;
                control.set_cluster_state(ClusterState::Stopping).await
            };
            tokio::select! {
                stopped = tokio::time::timeout(STOP_COMMAND, stop) => {
                    if !matches!(stopped, Ok(Ok(_))) {
                        tracing::info!(?stopped, "the cluster does not take the command to stop");
                        self.nodes.stop_all();
                    }
                }
                (signal, status) = signals.next() => self.stop_at_once(signal, status),
            }
        } else {
            self.nodes.stop_all();
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut told = Instant::now() + STILL;
        let mut failure = None;
        while self.has_nodes() {
            tokio::select! {
                (name, event) = self.nodes.next() => {
                    if let NodeEvent::Ended(ended) = event {
                        if let Err(reason) = ended {
                            failure = Some(anyhow!("{name} died: {reason}"));
                        }
                        // The master ends last; whoever is left has missed that.
                        if !self.nodes.runs(NodeKind::Master) {
                            self.nodes.stop_all();
                        }
                    }
                }
                () = tokio::time::sleep_until(told), if told < deadline => {
                    told += STILL;
                    let left: Vec<&str> = self.nodes.running().collect();
                    say(format_args!("neosimple: waiting for {}", left.join(", ")));
                }
                () = tokio::time::sleep_until(deadline) => {
                    let left: Vec<&str> = self.nodes.running().collect();
                    let left = left.join(", ");
                    self.nodes.kill_all();
                    bail!("{left} did not stop in {} s", STOP_PATIENCE.as_secs());
                }
                (signal, status) = signals.next() => self.stop_at_once(signal, status),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn stop_at_once(&mut self, signal: &str, status: u8) {
        say(format_args!("neosimple: {signal} again: stopping at once"));
        self.nodes.kill_all();
        std::process::exit(i32::from(status));
    }
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Event,
    /// A signal wants the end.
    Signal,
    /// Every node has ended, cleanly.
    Ended,
}

/// Ends at a moment; never without one.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A path that means the same in every process.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
