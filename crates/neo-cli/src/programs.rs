//! The `main`s of the programs, with parts of your own.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{CommandFactory, Parser};
use neo_admin::{Control, ControlError};
use neo_api::{Address, SystemEnv, Transport};
use neo_backends::filestorage::Reader;
use neo_backends::{Adapter, Adapters};
use neo_client::{Client, ClientBuilder};
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

/// The programs, made of the parts that they are given. Each method is a `main`: it takes the
/// command line of the process, and gives its status.
///
/// A program with a backend of your own has the whole command line of neo's: options, configuration
/// file, signals, logs, errors.
///
/// ```no_run
/// use std::path::Path;
/// use std::process::ExitCode;
/// use std::sync::Arc;
///
/// use neo_api::{BackendResult, StorageBackend};
/// use neo_backends::{Adapter, DatabaseOptions, Place};
/// use neo_cli::Programs;
///
/// #[derive(Debug)]
/// struct Log;
///
/// impl Adapter for Log {
///     fn name(&self) -> &str {
///         "Log"
///     }
///
///     fn place(&self) -> Place {
///         Place::Path
///     }
///
///     fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
///         open_log(Path::new(&options.database))
///     }
/// }
///
/// /// Your backend.
/// fn open_log(path: &Path) -> BackendResult<Arc<dyn StorageBackend>> {
///     # let _ = path;
///     # neo_backends::open("Memory", "")
/// }
///
/// /// `lognode -c main -a Log -d data.log` runs a storage node.
/// fn main() -> ExitCode {
///     Programs::new().adapter(Log).neostorage()
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Programs {
    pub(crate) adapters: Adapters,
    pub(crate) transport: Arc<dyn Transport>,
}

impl Default for Programs {
    fn default() -> Self {
        Self::new()
    }
}

impl Programs {
    /// Those of neo: the adapters of `neo-backends`, and TCP.
    #[must_use]
    pub fn new() -> Self {
        Self {
            adapters: Adapters::default(),
            transport: Arc::new(TcpTransport::new()),
        }
    }

    /// With one more adapter ([`Adapters::with`]), of which help and errors tell as of the others.
    #[must_use]
    pub fn adapter(mut self, adapter: impl Adapter) -> Self {
        self.adapters = self.adapters.with(adapter);
        self
    }

    /// With another way to reach nodes. All programs of a cluster need the same.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = transport;
        self
    }

    /// `neomaster`.
    #[must_use]
    pub fn neomaster(&self) -> ExitCode {
        self.alone(NodeKind::Master)
    }

    /// `neostorage`.
    #[must_use]
    pub fn neostorage(&self) -> ExitCode {
        self.alone(NodeKind::Storage)
    }

    /// `neoadmin`.
    #[must_use]
    pub fn neoadmin(&self) -> ExitCode {
        self.alone(NodeKind::Admin)
    }

    fn alone(&self, kind: NodeKind) -> ExitCode {
        node(self, kind, std::env::args_os(), &Alone)
    }

    /// `neosimple`.
    #[must_use]
    pub fn neosimple(&self) -> ExitCode {
        if let Some(status) = simple::child::main(self, std::env::args_os().skip(1)) {
            return status;
        }
        let args = match SimpleArgs::try_parse() {
            Ok(args) => args,
            Err(error) => return report::clap(&error),
        };
        logging::start(Level::Warn, args.verbose);
        match block_on(simple::run(self, &args)) {
            Ok(status) => status,
            Err(error) => report::fail("neosimple", &error),
        }
    }

    /// `neoctl`.
    #[must_use]
    pub fn neoctl(&self) -> ExitCode {
        let args = match ctl::args::parse(std::env::args_os()) {
            Ok(args) => args,
            Err(error) => return report::clap(&error),
        };
        logging::start(Level::Warn, 0);
        let text = match args.command {
            None => Ok(ctl::args::CtlArgs::command().render_help().to_string()),
            Some(command) => block_on(async {
                let control = self.control(&args.address.or_port(ADMIN_PORT)).await;
                let control = control.map_err(|error| match error {
                    ControlError::Connect { .. } => anyhow!(
                        "{error}; -a HOST:PORT says where it is: neosimple prints it as admin="
                    ),
                    other => other.into(),
                })?;
                ctl::execute(self, &control, command).await
            }),
        };
        match text.and_then(|text| report::print(&text)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report::fail("neoctl", &error),
        }
    }

    /// `neomigrate`.
    #[must_use]
    pub fn neomigrate(&self) -> ExitCode {
        let (args, direction) = match MigrateArgs::from_words(std::env::args_os()) {
            Ok(parsed) => parsed,
            Err(error) => return report::clap(&error),
        };
        logging::start(Level::Warn, args.verbose);
        match block_on(migrate_copy(self, &args, direction)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report::fail("neomigrate", &error),
        }
    }

    /// `neostress`: a backend of your own under faults, in real processes. They talk TCP.
    #[must_use]
    pub fn neostress(&self) -> ExitCode {
        if let Some(status) = stress::node::main(self, std::env::args_os().skip(1)) {
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
                    ended = stress::run(&self.adapters, args) => ended,
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

    /// A client of a cluster, not connected yet.
    pub(crate) fn client(&self, cluster: &str) -> ClientBuilder {
        Client::builder(cluster).transport(Arc::clone(&self.transport))
    }

    /// Connects to an admin node.
    pub(crate) async fn control(&self, admin: &Address) -> Result<Control, ControlError> {
        let transport = Arc::clone(&self.transport);
        Control::connect_over(transport, Arc::new(SystemEnv::new()), admin).await
    }
}

async fn migrate_copy(
    programs: &Programs,
    args: &MigrateArgs,
    direction: Direction,
) -> anyhow::Result<()> {
    let connect = async |masters: MasterList, read_only| {
        let addresses: Vec<String> = masters.0.iter().map(ToString::to_string).collect();
        let builder = programs.client(&args.cluster).masters(&addresses);
        let builder = builder.read_only(read_only).compression(args.compress);
        let connecting = builder.cache_bytes(0).connect();
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

/// What is around a node's process.
pub(crate) trait Around {
    /// What it logs unless asked for more.
    const LEVEL: Level;

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

/// Nothing: the node is on its own.
pub(crate) struct Alone;

impl Around for Alone {
    const LEVEL: Level = Level::Info;

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

/// A program that runs one node.
pub(crate) fn node(
    programs: &Programs,
    kind: NodeKind,
    args: impl Iterator<Item = OsString>,
    around: &impl Around,
) -> ExitCode {
    let level = level(around);
    let config = match kind {
        NodeKind::Master => config(
            args::parse(kind, args),
            level,
            |args: &MasterArgs| &args.common,
            |args| args.resolve().map(NodeConfig::Master),
        ),
        NodeKind::Storage => config(
            args::parse_storage(&programs.adapters, args),
            level,
            |args: &StorageArgs| &args.common,
            |args| args.resolve(&programs.adapters).map(NodeConfig::Storage),
        ),
        NodeKind::Admin => config(
            args::parse(kind, args),
            level,
            |args: &AdminArgs| &args.common,
            |args| args.resolve().map(NodeConfig::Admin),
        ),
    };
    let result = match config {
        Ok(Ok(config)) => block_on(run_node(programs, config, around)),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => return report::clap(&error),
    };
    around.ended(kind, result)
}

const fn level<A: Around>(_: &A) -> Level {
    A::LEVEL
}

type Resolved = Result<NodeConfig, ConfigError>;

fn config<A>(
    args: Result<A, clap::Error>,
    level: Level,
    common: impl FnOnce(&A) -> &CommonArgs,
    resolve: impl FnOnce(&A) -> Resolved,
) -> Result<Resolved, clap::Error> {
    let args = args?;
    // Before the settings are resolved, which may warn.
    logging::start(level, common(&args).verbose);
    Ok(resolve(&args))
}

async fn run_node(
    programs: &Programs,
    config: NodeConfig,
    around: &impl Around,
) -> anyhow::Result<Cause> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let (events, mut heard) = mpsc::channel(64);
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let node = run::run(config, Arc::clone(&programs.transport), events, async {
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
