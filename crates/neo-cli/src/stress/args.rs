//! The command line of `neostress`.

use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};
use neo_backends::DEFAULT_ADAPTER;

/// Breaks a cluster of real processes while clients commit to it, and checks everything in the end.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "neostress",
    version,
    after_help = "It runs what neomaster, neostorage and neoadmin run, each node as a process of its \
        own, and ends no process but those. All that nodes and clients say to each other goes \
        through this process, which can hold it up or cut it off.\n\n\
        Clients append to logs, whose concurrent changes are merged, and transfer between accounts, \
        checking what they only read. In the end every node is started again, the replicas of each \
        partition are compared, and the whole history is read: each acknowledged transaction is \
        there, none that was refused is, each revision follows from the one before it.\n\n\
        The last line has the number of commits, commits a second, the faults by kind, and the \
        anomalies. Databases and logs are kept where there is one.\n\n\
        Exit status: 0 no anomaly; 1 an anomaly, or it could not run; 2 a wrong command line; 130 \
        interrupted.\n\n\
        A run is not repeated by its seed, since processes and threads are not: the seed repeats \
        only which faults are tried in which order."
)]
pub struct StressArgs {
    /// How long faults are made; checks come on top
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub seconds: u64,
    /// Master nodes
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=16))]
    pub masters: u32,
    /// Storage nodes
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub storages: u32,
    /// Copies of each partition beside the first
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: u32,
    /// Clients; each has connections of its own, and two transactions at a time
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub clients: u32,
    /// Where the choice of faults starts [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// What keeps the data; it must survive the end of a process
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ADAPTER)]
    pub adapter: String,
    /// Only these faults [default: all]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub faults: Vec<Kind>,
    /// Where databases and logs go; it must not exist [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Tell each fault: -v, and each refusal: -vv; $RUST_LOG overrides
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// SIGKILL to storage nodes that the partition table can do without, and started again
    Kill,
    /// SIGSTOP to storage nodes for less than a node may be silent, then SIGCONT
    Pause,
    /// The same for longer: the node is expelled, and then goes on
    Freeze,
    /// Connections are reset: one, all of two nodes, or all of a node with nodes of a sort or
    /// with clients
    Reset,
    /// Nothing passes there, in one direction or both
    Stall,
    /// Nothing passes between two groups of nodes and clients, in one direction or both
    Split,
    /// SIGKILL to the primary master
    Switch,
    /// SIGSTOP to the primary master for longer than a node may be silent
    Coma,
    /// SIGKILL to more nodes than the cluster can do without: all masters, all storage nodes, or
    /// some of each
    Outage,
    /// SIGKILL to all nodes at the same moment, and all are started again at the same moment
    Blackout,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Kill,
        Self::Pause,
        Self::Freeze,
        Self::Reset,
        Self::Stall,
        Self::Split,
        Self::Switch,
        Self::Coma,
        Self::Outage,
        Self::Blackout,
    ];

    /// Its name, as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Freeze => "freeze",
            Self::Reset => "reset",
            Self::Stall => "stall",
            Self::Split => "split",
            Self::Switch => "switch",
            Self::Coma => "coma",
            Self::Outage => "outage",
            Self::Blackout => "blackout",
        }
    }
}
