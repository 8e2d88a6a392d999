//! The command lines of the nodes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser};
use neo_backends::{Adapter, Adapters, DEFAULT_ADAPTER, Place};

use crate::config::{FromValue, HostPort, KEYS, Key, MasterList, Nid, NodeKind, Size, Wait};
use crate::lacking::{self, Lacking};

/// The value parser of everything that a file can give too.
fn value<T: FromValue>(text: &str) -> Result<T, String> {
    T::from_value(text)
}

/// What every node can be told.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Configuration file (INI): its keys are the long options, with _ for -
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Section of the file.
    #[arg(
        short,
        long,
        value_name = "NAME",
        help = "Section of the file; it inherits [DEFAULT] [default: master, storage or admin]"
    )]
    pub section: Option<String>,
    /// Name of the cluster (required, here or in the file)
    #[arg(short, long, value_name = "NAME", value_parser = value::<String>)]
    pub cluster: Option<String>,
    /// Addresses of the masters, separated by spaces [default: 127.0.0.1:10000]
    #[arg(short, long, value_name = "ADDRESSES", value_parser = value::<MasterList>,
          action = ArgAction::Append)]
    pub masters: Vec<MasterList>,
    /// File that keeps the list of masters (JSON): read at the start, beside --masters, and written
    /// whenever one is learnt or goes
    #[arg(short = 'D', long, value_name = "FILE", value_parser = value::<PathBuf>)]
    pub dynamic_master_list: Option<PathBuf>,
    /// Address to listen at.
    #[arg(
        short,
        long,
        value_name = "ADDRESS",
        value_parser = value::<HostPort>,
        help = "Address to listen at: HOST, HOST:PORT or [IPV6]:PORT; port 0 is any free one"
    )]
    pub bind: Option<HostPort>,
    /// Node id to ask for, as 1 or S1 (for tests)
    #[arg(short = 'i', long, value_name = "ID", value_parser = value::<Nid>)]
    pub nid: Option<Nid>,
    /// Log more: -v, -vv; $RUST_LOG overrides
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// A master node of neo: gives out ids, drives commits, knows who holds what.
#[derive(Debug, Clone, Parser)]
#[command(name = "neomaster", version)]
pub struct MasterArgs {
    /// What every node can be told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Create a new cluster once so many storage nodes are there
    #[arg(short = 'A', long, value_name = "N", value_parser = value::<u32>)]
    pub autostart: Option<u32>,
    /// Copies of each partition beside the first, in a new cluster [default: 0]
    #[arg(short, long, value_name = "N", value_parser = value::<u32>)]
    pub replicas: Option<u32>,
    /// Partitions of a new cluster, fixed for ever [default: 100]
    #[arg(short, long, value_name = "N", value_parser = value::<u32>)]
    pub partitions: Option<u32>,
    /// Make the copies of a storage node anew when it has been away for so long, and balance when
    /// it is back [default: an operator does it]
    #[arg(long, value_name = "SECONDS", value_parser = value::<u32>)]
    pub auto_tweak: Option<u32>,
}

/// A storage node of neo: keeps data.
#[derive(Debug, Clone, Parser)]
#[command(name = "neostorage", version)]
pub struct StorageArgs {
    /// What every node can be told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// What keeps the data.
    // Its help, and that of the database: `help_of_adapters`.
    #[arg(short, long, value_name = "NAME", value_parser = value::<String>)]
    pub adapter: Option<String>,
    /// Which database.
    #[arg(short, long, value_name = "DATABASE", value_parser = value::<String>)]
    pub database: Option<String>,
    /// With MySQL, the engine of new tables: InnoDB, RocksDB or another with transactions [default:
    /// InnoDB]
    #[arg(short, long, value_name = "NAME", value_parser = value::<String>)]
    pub engine: Option<String>,
    /// Keep values that are equal once, of those that are written from now on: less space where there
    /// are many, more work for each
    #[arg(long)]
    pub dedup: bool,
    /// Seconds to try again to open the database; for ever when negative [default: 0]
    #[arg(short, long, value_name = "SECONDS", value_parser = value::<Wait>,
          allow_negative_numbers = true)]
    pub wait: Option<Wait>,
    /// Keep what is left of discarded cells, instead of deleting it while nothing else waits
    #[arg(long)]
    pub disable_drop_partitions: bool,
    /// Bytes per second that cells that catch up get at least, although clients wait, as 512K or 8M;
    /// 0: only while none waits [default: 8M]
    #[arg(long, value_name = "RATE", value_parser = value::<Size>)]
    pub replication_min_rate: Option<Size>,
    /// On a copy of another node's database: get an id of its own, and exit
    #[arg(long)]
    pub new_nid: bool,
    /// Erase the database, and exit
    #[arg(long)]
    pub reset: bool,
}

/// An admin node of neo: what neoctl talks to.
#[derive(Debug, Clone, Parser)]
#[command(name = "neoadmin", version)]
pub struct AdminArgs {
    /// What every node can be told.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Parses a node's command line; an option that this version lacks is an error that says so.
///
/// # Errors
/// As clap has them: `--help` and `--version` are among them.
pub fn parse<A: CommandFactory + FromArgMatches>(
    kind: NodeKind,
    args: impl IntoIterator<Item = OsString>,
) -> Result<A, clap::Error> {
    parse_by(A::command(), kind, args)
}

/// Parses a storage node's command line, whose help tells of the adapters that there are.
///
/// # Errors
/// As [`parse`].
pub fn parse_storage(
    adapters: &Adapters,
    args: impl IntoIterator<Item = OsString>,
) -> Result<StorageArgs, clap::Error> {
    let command = help_of_adapters(StorageArgs::command(), adapters);
    parse_by(command, NodeKind::Storage, args)
}

fn parse_by<A: FromArgMatches>(
    command: Command,
    kind: NodeKind,
    args: impl IntoIterator<Item = OsString>,
) -> Result<A, clap::Error> {
    let mut command = lacking::with(command, lacks(kind));
    A::from_arg_matches(&lacking::parse(&mut command, lacks(kind), args)?)
}

/// What can be said of adapters and databases when it is known which ones there are.
fn help_of_adapters(command: Command, adapters: &Adapters) -> Command {
    let names: Vec<String> = adapters.iter().map(|adapter| names(&**adapter)).collect();
    let databases: Vec<String> = adapters
        .iter()
        .filter(|adapter| adapter.place() != Place::Memory)
        .map(|adapter| format!("with {}, {}", adapter.name(), adapter.database_help()))
        .collect();
    command
        .mut_arg("adapter", |arg| {
            let names = names.join(", ");
            arg.help(format!(
                "What keeps the data: {names} [default: {DEFAULT_ADAPTER}]"
            ))
        })
        .mut_arg("database", |arg| {
            let databases = databases.join("; ");
            arg.help(format!(
                "The database: {databases} (required, here or in the file)"
            ))
        })
}

/// The names of an adapter.
fn names(adapter: &dyn Adapter) -> String {
    match adapter.other_names() {
        [] => adapter.name().to_owned(),
        others => format!("{} (or {})", adapter.name(), others.join(", ")),
    }
}

/// Options that a file can't have, though the command line can.
const ON_THE_COMMAND_LINE: [&str; 2] = ["new_nid", "reset"];

/// The options that a node of this version lacks.
pub(super) fn lacks(kind: NodeKind) -> impl Iterator<Item = Lacking> {
    let of_kind =
        move |key: &&Key| key.kinds.contains(&kind) && !ON_THE_COMMAND_LINE.contains(&key.name);
    KEYS.iter().filter(of_kind).filter_map(Lacking::of)
}
