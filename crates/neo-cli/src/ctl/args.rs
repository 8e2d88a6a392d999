//! The command line of `neoctl`.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use neo_api::{ClusterState, NodeId, NodeType, Tid, UnixMicros};

use crate::config::{FromValue, HostPort};
use crate::lacking;

fn value<T: FromValue>(text: &str) -> Result<T, String> {
    T::from_value(text)
}

/// Control of a neo cluster, by way of an admin node.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "neoctl",
    version,
    after_help = "A node is a letter and a number: S1, M1, C3, A1.\n\
                  Exit status: 0 done; 1 denied, not ready or not reached; 2 a wrong command line."
)]
pub struct CtlArgs {
    /// Address of an admin node; its port is 9999 unless given
    #[arg(short, long, value_name = "ADDRESS", value_parser = value::<HostPort>,
          default_value = "127.0.0.1:9999", global = true)]
    pub address: HostPort,
    /// What to do; nothing: list the commands.
    #[command(subcommand)]
    pub command: Option<CtlCommand>,
}

/// What `neoctl` does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CtlCommand {
    /// Show something of the cluster: ids, pt, node, cluster or primary
    #[command(subcommand)]
    Print(PrintCommand),
    /// Change something of the cluster: its state, or the number of replicas
    #[command(subcommand)]
    Set(SetCommand),
    /// Start the cluster with the storage nodes that are there (set cluster VERIFYING)
    Start,
    /// Take pending storage nodes into the cluster; tweak gives them cells
    Add {
        /// Storage nodes, or "all"
        #[arg(required = true, value_name = "NODE|all")]
        nodes: Vec<NodeOrAll>,
    },
    /// Balance the partition table over the storage nodes that run
    Tweak {
        /// Only show what would come of it
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Storage nodes to leave as they are, not counting as replicas
        nodes: Vec<NodeId>,
    },
    /// Stop a node: it is DOWN, and its process ends
    Kill {
        /// The node
        node: NodeId,
    },
    /// Forget a stopped storage node for ever
    Drop {
        /// The node
        node: NodeId,
    },
    /// Remove what was replaced up to some time, and wait until it is done
    Pack {
        /// Up to this tid (0x and 16 digits), or so many days ago (as 30d); default: now
        when: Option<When>,
        /// Name of the cluster: the order is given as by a client
        #[arg(short, long, value_name = "NAME")]
        cluster: String,
        /// Only order it: the cluster packs all the same
        #[arg(short = 'n', long)]
        no_wait: bool,
    },
    /// Commands that NEO has and this version does not.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// What `neoctl print` shows.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PrintCommand {
    /// The greatest oid, tid and ptid
    Ids,
    /// The partition table: a line a storage node, or a line a partition of a range
    Pt {
        /// First partition; or partitions, as 0-10,20
        #[arg(value_name = "MIN|RANGES")]
        partitions: Option<Partitions>,
        /// One past the last partition; 0: all. Not with RANGES
        max: Option<u32>,
        /// Only the cells of this storage node
        node: Option<NodeId>,
    },
    /// The nodes, of a type or all
    Node {
        /// MASTER, STORAGE, CLIENT or ADMIN
        #[arg(value_name = "TYPE")]
        node_type: Option<NodeType>,
    },
    /// The state of the cluster
    Cluster,
    /// The id of the primary master
    Primary,
    /// How far the cluster is with its packs
    Pack,
    /// Not in this version.
    #[command(hide = true)]
    Summary,
}

/// What `neoctl set` changes.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SetCommand {
    /// Ask for a state: VERIFYING starts a cluster, STOPPING ends it
    Cluster {
        /// The state
        state: ClusterState,
    },
    /// How many copies of each partition are wanted beside the first; tweak makes them
    Replicas {
        /// How many
        number: u32,
    },
}

/// Which partitions to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    /// From this one on.
    From(u32),
    /// These, each with the last one of its range.
    Ranges(Vec<(u32, u32)>),
}

impl std::str::FromStr for Partitions {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if let Ok(min) = s.parse() {
            return Ok(Self::From(min));
        }
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let ranges: Option<Vec<_>> = s.split(',').map(range).collect();
        ranges
            .map(Self::Ranges)
            .ok_or_else(|| format!("{s:?} is neither a partition nor a list of ranges, as 0-10,20"))
    }
}

/// Up to when to pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Up to this transaction.
    Tid(Tid),
    /// Up to so many days ago.
    Days(u32),
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let days = s.strip_suffix('d').and_then(|days| days.parse().ok());
        let tid = || s.strip_prefix("0x").and_then(|tid| tid.parse().ok());
        days.map(Self::Days)
            .or_else(|| tid().map(Self::Tid))
            .ok_or_else(|| format!("{s:?} is neither a tid, as 0x03e1…, nor days, as 30d"))
    }
}

impl When {
    /// The tid up to which to pack, at this moment.
    #[must_use]
    pub fn at(self, now: UnixMicros) -> Tid {
        const DAY_MICROS: i64 = 86_400_000_000;
        match self {
            Self::Tid(tid) => tid,
            Self::Days(days) => {
                let ago = i64::from(days).saturating_mul(DAY_MICROS);
                Tid::from_unix(UnixMicros(now.0.saturating_sub(ago)))
            }
        }
    }
}

/// A storage node, or all that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeOrAll {
    /// One.
    Node(NodeId),
    /// All.
    All,
}

impl std::str::FromStr for NodeOrAll {
    type Err = neo_api::ParseIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s == "all" {
            Ok(Self::All)
        } else {
            s.parse().map(Self::Node)
        }
    }
}

/// Commands of NEO that this version does not have.
const LACKING: &[&str] = &["check", "prune_orphan", "truncate", "flush_log"];

/// Parses a command line.
///
/// # Errors
/// As clap has them: `--help` is among them, and what this version lacks.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<CtlArgs, clap::Error> {
    let mut command = lacking::with(CtlArgs::command(), lacking::of_tools());
    let matches = lacking::parse(&mut command, lacking::of_tools(), args)?;
    let args = CtlArgs::from_arg_matches(&matches)?;
    let absent = match &args.command {
        Some(CtlCommand::Other(words)) => {
            let name = words.first().map_or("", String::as_str);
            if !LACKING.contains(&name) {
                let message = format!("unrecognized subcommand '{name}'");
                return Err(command.error(ErrorKind::InvalidSubcommand, message));
            }
            name
        }
        Some(CtlCommand::Print(PrintCommand::Summary)) => "print summary",
        Some(CtlCommand::Print(PrintCommand::Pt {
            partitions: Some(Partitions::Ranges(_)),
            max: Some(_),
            ..
        })) => {
            let message = "ranges end where they say: give no MAX with them";
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
        _ => return Ok(args),
    };
    let message = format!("{absent} is not available in this version");
    Err(command.error(ErrorKind::InvalidSubcommand, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<CtlArgs, String> {
        parse(words.split_whitespace().map(OsString::from)).map_err(|e| e.to_string())
    }

    fn command(words: &str) -> CtlCommand {
        parse_words(words).unwrap().command.unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        CtlArgs::command().debug_assert();
    }

    #[test]
    fn commands_are_understood() {
        let node: NodeId = "S1".parse().unwrap();
        assert_eq!(command("neoctl start"), CtlCommand::Start);
        assert_eq!(
            command("neoctl print pt 3 0 S1"),
            CtlCommand::Print(PrintCommand::Pt {
                partitions: Some(Partitions::From(3)),
                max: Some(0),
                node: Some(node)
            })
        );
        assert_eq!(
            command("neoctl print pt 0-10,20"),
            CtlCommand::Print(PrintCommand::Pt {
                partitions: Some(Partitions::Ranges(vec![(0, 10), (20, 20)])),
                max: None,
                node: None
            })
        );
        assert_eq!(
            command("neoctl set cluster stopping"),
            CtlCommand::Set(SetCommand::Cluster {
                state: ClusterState::Stopping
            })
        );
        assert_eq!(command("neoctl kill S1"), CtlCommand::Kill { node });
        let nodes = vec![NodeOrAll::Node(node), NodeOrAll::All];
        assert_eq!(command("neoctl add S1 all"), CtlCommand::Add { nodes });
        let pack = |words| match command(words) {
            CtlCommand::Pack { when, no_wait, .. } => (when, no_wait),
            other => panic!("{other:?}"),
        };
        assert_eq!(pack("neoctl pack -c test"), (None, false));
        let when = Some(When::Days(30));
        assert_eq!(pack("neoctl pack 30d -n -c test"), (when, true));
        let when = Some(When::Tid(Tid(0x3e1)));
        assert_eq!(pack("neoctl pack 0x3e1 --cluster test"), (when, false));
        // The address may come before and after.
        for words in ["neoctl -a host print ids", "neoctl print ids -a host:9999"] {
            let args = parse_words(words).unwrap();
            assert_eq!(args.address.or_port(9999).to_string(), "host:9999");
        }
        assert_eq!(parse_words("neoctl").unwrap().command, None);
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for (words, text) in [
            (
                "neoctl set cluster STOPED",
                "\"STOPED\" is not a cluster state",
            ),
            ("neoctl kill", "required arguments were not provided"),
            ("neoctl kill X1", "is not a node id"),
            (
                "neoctl print pt 9-3",
                "neither a partition nor a list of ranges",
            ),
            ("neoctl print pt 0-10 20", "ranges end where they say"),
            ("neoctl print ids 3", "unexpected argument '3'"),
            ("neoctl pack 30 -c test", "is neither a tid"),
            ("neoctl pack 30d", "required arguments were not provided"),
            ("neoctl print", "Usage: neoctl print"),
            ("neoctl prnt", "unrecognized subcommand 'prnt'"),
            (
                "neoctl truncate 5",
                "truncate is not available in this version",
            ),
            (
                "neoctl print summary",
                "print summary is not available in this version",
            ),
            ("neoctl -a ::1 start", "an IPv6 address needs brackets"),
            (
                "neoctl --ca x start",
                "--ca: TLS is not available in this version",
            ),
        ] {
            let error = parse_words(words).unwrap_err();
            assert!(error.contains(text), "{words}: {error}");
        }
    }
}
