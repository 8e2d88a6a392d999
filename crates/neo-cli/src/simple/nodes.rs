//! The nodes of a simple cluster: a thread each, or a process each.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::Context;
use neo_api::Address;
use neo_backends::Adapters;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use super::child;
use crate::config::NodeKind;
use crate::node::args::{self, AdminArgs, MasterArgs};
use crate::node::run::{self, NodeConfig, NodeEvent};
use crate::programs::{Programs, block_on};
use crate::report::say;

/// A node to start: what it is called here, and its command line.
#[derive(Debug, Clone)]
pub(super) struct NodePlan {
    pub(super) name: String,
    pub(super) kind: NodeKind,
    /// Where it listens; port 0 is a free one.
    pub(super) bind: Address,
    /// The masters that it is told of.
    pub(super) masters: Vec<Address>,
    /// What it is told beside, without the program's name.
    pub(super) args: Vec<OsString>,
}

impl NodePlan {
    fn words(self) -> Vec<OsString> {
        let mut words = self.args;
        words.extend(["-b".into(), self.bind.to_string().into()]);
        let masters = self.masters.iter();
        let masters = masters.flat_map(|master| ["-m".to_owned(), master.to_string()]);
        words.extend(masters.map(OsString::from));
        words
    }
}

/// The nodes that were started.
#[derive(Debug)]
pub(super) struct Nodes {
    programs: Programs,
    /// Every node a process of its own.
    processes: bool,
    verbose: u8,
    sender: mpsc::Sender<(String, NodeEvent)>,
    events: mpsc::Receiver<(String, NodeEvent)>,
    running: BTreeMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    kind: NodeKind,
    /// Dropping it asks the node to stop; `None`: it was asked.
    stop: Option<Stop>,
    /// Dropping it kills the process.
    kill: Option<oneshot::Sender<()>>,
    /// Of the process.
    pid: Option<u32>,
}

#[derive(Debug)]
enum Stop {
    Thread { _word: oneshot::Sender<()> },
    Process { _stdin: tokio::process::ChildStdin },
}

impl Nodes {
    pub(super) fn new(programs: &Programs, processes: bool, verbose: u8) -> Self {
        let (sender, events) = mpsc::channel(256);
        Self {
            programs: programs.clone(),
            processes,
            verbose,
            sender,
            events,
            running: BTreeMap::new(),
        }
    }

    /// Starts a node; how that goes is told by its events.
    pub(super) fn start(&mut self, plan: NodePlan) -> anyhow::Result<()> {
        let (name, kind) = (plan.name.clone(), plan.kind);
        let running = if self.processes {
            self.start_process(plan)?
        } else {
            Running {
                kind,
                stop: Some(self.start_thread(plan)?),
                kill: None,
                pid: None,
            }
        };
        self.running.insert(name, running);
        Ok(())
    }

    /// The next event of any node.
    pub(super) async fn next(&mut self) -> (String, NodeEvent) {
        // There is always a sender: ours.
        let event = self.events.recv().await;
        let (name, event) = event.unwrap_or_else(|| unreachable!("the channel has a sender"));
        if matches!(event, NodeEvent::Ended(_)) {
            self.running.remove(&name);
        }
        (name, event)
    }

    /// Asks the nodes to stop; each tells when it has. Storage nodes are asked once no master runs:
    /// one would take those that stop first for lost, and their copies for out of date.
    pub(super) fn stop_all(&mut self) {
        let led = self.runs(NodeKind::Master);
        for node in self.running.values_mut() {
            if !(led && node.kind == NodeKind::Storage) {
                node.stop = None;
            }
        }
    }

    /// Ends every process at once. Threads end with this process.
    pub(super) fn kill_all(&mut self) {
        for node in self.running.values_mut() {
            node.kill = None;
            // This process may end before the task that would do it.
            if let Some(pid) = node.pid {
                let pid = pid.to_string();
                let _ = std::process::Command::new("kill")
                    .args(["-KILL", &pid])
                    .status();
            }
        }
    }

    /// Names of the nodes that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &str> {
        self.running.keys().map(String::as_str)
    }

    /// Whether one of this kind runs.
    pub(super) fn runs(&self, kind: NodeKind) -> bool {
        self.running.values().any(|node| node.kind == kind)
    }

    fn start_thread(&self, plan: NodePlan) -> anyhow::Result<Stop> {
        let (name, kind) = (plan.name.clone(), plan.kind);
        let config = config(&self.programs.adapters, kind, plan.words())?;
        let transport = Arc::clone(&self.programs.transport);
        let (word, stopping) = oneshot::channel::<()>();
        let (sender, thread_name) = (self.sender.clone(), name.clone());
        let node = move || {
            let run = || {
                block_on(async {
                    let (events, mut heard) = mpsc::channel(64);
                    let node = run::run(config, transport, events, async {
                        // Dropping the sender is the word.
                        let _ = stopping.await;
                    });
                    let forward = async {
                        while let Some(event) = heard.recv().await {
                            let _ = sender.send((name.clone(), event)).await;
                        }
                    };
                    let (ended, ()) = tokio::join!(node, forward);
                    ended
                })
            };
            let ended = match std::panic::catch_unwind(AssertUnwindSafe(run)) {
                Ok(ended) => ended.map_err(|error| format!("{error:#}")),
                Err(_) => Err("it panicked; the message is above".to_owned()),
            };
            let _ = sender.blocking_send((name, NodeEvent::Ended(ended)));
        };
        std::thread::Builder::new()
            .name(thread_name)
            .spawn(node)
            .context("cannot start a thread")?;
        Ok(Stop::Thread { _word: word })
    }

    fn start_process(&self, plan: NodePlan) -> anyhow::Result<Running> {
        let (name, kind) = (plan.name.clone(), plan.kind);
        let program = std::env::current_exe().context("cannot find the program to start nodes")?;
        let mut command = Command::new(program);
        command
            .arg(child::WORD)
            .arg(kind.section())
            .args(plan.words())
            .args((0..self.verbose).map(|_| "-v"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // ^C at the terminal is for this process, which stops the others in order.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the process of {name}"))?;
        let pid = child.id();
        tracing::info!(pid, "{name} started");
        let stdin = child.stdin.take().context("the process has no stdin")?;
        let (kill, killed) = oneshot::channel::<()>();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let ended = follow(&mut child, &name, &sender, killed).await;
            let _ = sender.send((name, NodeEvent::Ended(ended))).await;
        });
        Ok(Running {
            kind,
            stop: Some(Stop::Process { _stdin: stdin }),
            kill: Some(kill),
            pid,
        })
    }
}

/// Passes on what a process tells, until it ends.
async fn follow(
    child: &mut Child,
    name: &str,
    events: &mpsc::Sender<(String, NodeEvent)>,
    killed: oneshot::Receiver<()>,
) -> Result<(), String> {
    let pid = child.id();
    let mut reason = None;
    let stdout = child.stdout.take();
    let told = async {
        let Some(stdout) = stdout else { return };
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match child::parse(&line) {
                Some(NodeEvent::Ended(ended)) => reason = ended.err(),
                Some(event) => {
                    let _ = events.send((name.to_owned(), event)).await;
                }
                None => say(format_args!("{name}: {line}")),
            }
        }
    };
    tokio::select! {
        () = told => {}
        _ = killed => {
            // It may have ended by itself.
            let _ = child.start_kill();
        }
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() && reason.is_none() {
        return Ok(());
    }
    let process = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    Err(match reason {
        Some(reason) => format!("{reason}{process}"),
        None => format!("{}{process}", ending(status)),
    })
}

/// How a process ended, in words.
fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(9)) => "it was killed by SIGKILL".to_owned(),
        (None, Some(11)) => "it was killed by SIGSEGV".to_owned(),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

fn config(adapters: &Adapters, kind: NodeKind, args: Vec<OsString>) -> anyhow::Result<NodeConfig> {
    let words = std::iter::once(kind.program().into()).chain(args);
    Ok(match kind {
        NodeKind::Master => NodeConfig::Master(args::parse::<MasterArgs>(kind, words)?.resolve()?),
        NodeKind::Storage => {
            NodeConfig::Storage(args::parse_storage(adapters, words)?.resolve(adapters)?)
        }
        NodeKind::Admin => NodeConfig::Admin(args::parse::<AdminArgs>(kind, words)?.resolve()?),
    })
}
