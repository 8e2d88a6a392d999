//! The `main`s of the programs.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{CommandFactory, FromArgMatches, Parser};
use neo_admin::{Control, ControlError};
use neo_api::Transport;
use neo_backends::filestorage::Reader;
use neo_client::Client;
use neo_proto::net::TcpTransport;
use tokio::sync::mpsc;

use crate::config::{ADMIN_PORT, ConfigError, MasterList, NodeKind};
use crate::ctl;
use crate::logging::{self, Level};
use crate::migrate::{self, Direction, MigrateArgs, Progress};
use crate::node::args::{self, AdminArgs, CommonArgs, MasterArgs, StorageArgs};
use crate::node::run::{self, NodeConfig, NodeEvent};
use crate::report;
use crate::report::say;
use crate::signal::Signals;
use crate::simple;
use crate::simple::args::SimpleArgs;
use crate::stress;
use crate::stress::args::StressArgs;

/// `neoctl`.
#[must_use]
pub fn neoctl() -> ExitCode {
    let args = match ctl::args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => return report::clap(&error),
    };
    logging::start(Level::Warn, 0);
    let text = match args.command {
        None => Ok(ctl::args::CtlArgs::command().render_help().to_string()),
        Some(command) => block_on(async {
            let control = Control::connect(&args.address.or_port(ADMIN_PORT)).await;
            let control = control.map_err(|error| match error {
                ControlError::Connect { .. } => {
                    anyhow!("{error}; -a HOST:PORT says where it is: neosimple prints it as admin=")
                }
                other => other.into(),
            })?;
            ctl::execute(&control, command).await
        }),
    };
    match text.and_then(|text| report::print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::fail("neoctl", &error),
    }
}

/// `neosimple`.
#[must_use]
pub fn neosimple() -> ExitCode {
    if let Some(status) = simple::child::main(std::env::args_os().skip(1)) {
        return status;
    }
    let args = match SimpleArgs::try_parse() {
        Ok(args) => args,
        Err(error) => return report::clap(&error),
    };
    logging::start(Level::Warn, args.verbose);
    match block_on(simple::run(&args)) {
        Ok(status) => status,
        Err(error) => report::fail("neosimple", &error),
    }
}

/// `neomaster`.
#[must_use]
pub fn neomaster() -> ExitCode {
    alone(NodeKind::Master)
}

/// `neostorage`.
#[must_use]
pub fn neostorage() -> ExitCode {
    alone(NodeKind::Storage)
}

/// `neoadmin`.
#[must_use]
pub fn neoadmin() -> ExitCode {
    alone(NodeKind::Admin)
}

/// `neomigrate`.
#[must_use]
pub fn neomigrate() -> ExitCode {
    let (args, direction) = match MigrateArgs::from_words(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => return report::clap(&error),
    };
    logging::start(Level::Warn, args.verbose);
    match block_on(migrate_copy(&args, direction)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::fail("neomigrate", &error),
    }
}

async fn migrate_copy(args: &MigrateArgs, direction: Direction) -> anyhow::Result<()> {
    let connect = async |masters: MasterList, read_only| {
        let addresses: Vec<String> = masters.0.iter().map(ToString::to_string).collect();
        let builder = Client::builder(&args.cluster).masters(&addresses);
        let connecting = builder.read_only(read_only).cache_bytes(0).connect();
        let mut connecting = std::pin::pin!(connecting);
        match tokio::time::timeout(Duration::from_secs(1), &mut connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                let masters = addresses.join(", ");
                say(format_args!(
                    "waiting for cluster {:?} at {masters}",
                    args.cluster
                ));
                connecting.await
            }
        }
    };
    let (what, file) = match &direction {
        Direction::Import(file, _) => ("imported", file),
        Direction::Export(_, file) => ("exported", file),
    };
    let mut progress = Progress::new(what, args.quiet);
    match &direction {
        Direction::Import(..) => {
            // A file that is none is told before the cluster is asked.
            Reader::open(file)?;
            let client = connect(direction.masters(), false).await?;
            migrate::import(&client, file, &mut progress).await?;
            client.close().await;
        }
        Direction::Export(..) => {
            let client = connect(direction.masters(), true).await?;
            migrate::export(&client, file, &mut progress).await?;
            client.close().await;
        }
    }
    Ok(())
}

/// `neostress`.
#[must_use]
pub fn neostress() -> ExitCode {
    if let Some(status) = stress::node::main(std::env::args_os().skip(1)) {
        return status;
    }
    let args = match StressArgs::try_parse() {
        Ok(args) => args,
        Err(error) => return report::clap(&error),
    };
    logging::start(Level::Warn, args.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime.context("cannot start").and_then(|runtime| {
        runtime.block_on(async {
            let mut signals = Signals::new().context("cannot listen for signals")?;
            tokio::select! {
                ended = stress::run(args) => ended,
                // What was started is killed with what is dropped.
                (signal, status) = signals.next() => {
                    say(format_args!("neostress: {signal}: ended before its time"));
                    Ok(ExitCode::from(status))
                }
            }
        })
    });
    match ended {
        Ok(status) => status,
        Err(error) => report::fail("neostress", &error),
    }
}

/// What is around a node's process.
pub(crate) trait Around {
    /// What it logs unless asked for more.
    const LEVEL: Level;

    /// How the node reaches others.
    fn transport(&self) -> Arc<dyn Transport>;

    /// Hears what the node tells.
    fn event(&self, event: &NodeEvent);

    /// Ready when the node is to stop, but for signals.
    fn stop(&self) -> impl Future<Output = ()>;

    /// Tells how it ended; the status of the process.
    fn ended(&self, kind: NodeKind, how: anyhow::Result<Cause>) -> ExitCode;
}

/// Why a node ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was told to, by the primary master or by what is around it.
    Told,
    /// By a signal.
    Signal(&'static str),
}

/// Nothing: the node is on its own, with its way to others.
pub(crate) struct Alone(pub(crate) Arc<dyn Transport>);

impl Around for Alone {
    const LEVEL: Level = Level::Info;

    fn transport(&self) -> Arc<dyn Transport> {
        Arc::clone(&self.0)
    }

    fn event(&self, _: &NodeEvent) {}

    async fn stop(&self) {
        std::future::pending().await
    }

    fn ended(&self, kind: NodeKind, how: anyhow::Result<Cause>) -> ExitCode {
        match how {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => report::fail(kind.program(), &error),
        }
    }
}

fn alone(kind: NodeKind) -> ExitCode {
    let transport = Arc::new(TcpTransport::new());
    node(kind, std::env::args_os(), &Alone(transport))
}

/// A program that runs one node.
pub(crate) fn node(
    kind: NodeKind,
    args: impl Iterator<Item = OsString>,
    around: &impl Around,
) -> ExitCode {
    let level = level(around);
    let config = match kind {
        NodeKind::Master => config(
            kind,
            args,
            level,
            |args: &MasterArgs| &args.common,
            |args| args.resolve().map(NodeConfig::Master),
        ),
        NodeKind::Storage => config(
            kind,
            args,
            level,
            |args: &StorageArgs| &args.common,
            |args| args.resolve().map(NodeConfig::Storage),
        ),
        NodeKind::Admin => config(
            kind,
            args,
            level,
            |args: &AdminArgs| &args.common,
            |args| args.resolve().map(NodeConfig::Admin),
        ),
    };
    let result = match config {
        Ok(Ok(config)) => block_on(run_node(config, around)),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => return report::clap(&error),
    };
    around.ended(kind, result)
}

const fn level<A: Around>(_: &A) -> Level {
    A::LEVEL
}

type Resolved = Result<NodeConfig, ConfigError>;

fn config<A: CommandFactory + FromArgMatches>(
    kind: NodeKind,
    args: impl Iterator<Item = OsString>,
    level: Level,
    common: impl FnOnce(&A) -> &CommonArgs,
    resolve: impl FnOnce(&A) -> Resolved,
) -> Result<Resolved, clap::Error> {
    let args = args::parse::<A>(kind, args)?;
    // Before the settings are resolved, which may warn.
    logging::start(level, common(&args).verbose);
    Ok(resolve(&args))
}

async fn run_node(config: NodeConfig, around: &impl Around) -> anyhow::Result<Cause> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let (events, mut heard) = mpsc::channel(64);
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let node = run::run(config, around.transport(), events, async {
        // Dropping the sender is the word.
        let _ = stopping.await;
    });
    let asked = around.stop();
    tokio::pin!(node, asked);
    let mut stop = Some(stop);
    let mut cause = Cause::Told;
    loop {
        tokio::select! {
            ended = &mut node => {
                while let Ok(event) = heard.try_recv() {
                    around.event(&event);
                }
                return ended.map(|()| cause);
            }
            Some(event) = heard.recv() => around.event(&event),
            () = &mut asked, if stop.is_some() => {
                tracing::info!("stopping");
                stop = None;
            }
            (signal, status) = signals.next() => {
                if stop.take().is_none() {
                    tracing::warn!("{signal} again: stopping at once");
                    std::process::exit(i32::from(status));
                }
                tracing::info!("{signal}: stopping");
                cause = Cause::Signal(signal);
            }
        }
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(future)
}
