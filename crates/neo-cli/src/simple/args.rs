//! The command line of `neosimple`.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

use neo_client::CompressionSetting;

use crate::config::FromValue;

fn name(text: &str) -> Result<String, String> {
    let name = String::from_value(text)?;
    // It is printed as one word, and kept as one line.
    if name.chars().any(char::is_whitespace) {
        return Err("a cluster's name has no spaces here".to_owned());
    }
    Ok(name)
}

fn host(text: &str) -> Result<String, String> {
    let text = text.trim();
    let ipv6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let full = if ipv6 {
        format!("[{text}]:0")
    } else {
        format!("{text}:0")
    };
    full.parse::<neo_api::Address>()
        .map(|address| address.host().to_owned())
        .map_err(|_| format!("{text:?} is not a host (the port is another option: --port)"))
}

/// A whole neo cluster in one command: creates it, or opens it again, and serves until it is
/// interrupted.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "neosimple",
    version,
    after_help = "A new cluster remembers in DIR what it was created with; later, the options can \
                  be left out."
)]
pub struct SimpleArgs {
    /// Directory of the databases [default: ./neo-data]
    #[arg(long, value_name = "DIR", value_parser = PathBuf::from_value)]
    pub dir: Option<PathBuf>,
    /// Name of the cluster [default: main]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: Option<String>,
    /// Number of master nodes: one leads, the others are ready to [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub masters: Option<u32>,
    /// Number of storage nodes [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub storages: Option<u32>,
    /// Copies of each partition beside the first [default: 1, or 0 with one storage]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..1000))]
    pub replicas: Option<u32>,
    /// Number of partitions [default: 12]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub partitions: Option<u32>,
    /// Make the copies of a storage node anew when it has been away for so long
    /// [default: an operator does it, by neoctl tweak]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub auto_tweak: Option<u32>,
    /// What keeps the data [default: SQLite]
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Host to listen at [default: 127.0.0.1]
    #[arg(long, value_name = "HOST", value_parser = host)]
    pub bind: Option<String>,
    /// Port of the (first) master [default: the one before, at first a free one, as for the others]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Run every node as a process of its own
    #[arg(long)]
    pub processes: bool,
    /// Import this FileStorage (Data.fs) before serving, into an empty cluster; goes on with an
    /// import that was interrupted
    #[arg(long, value_name = "FILE.fs", value_parser = PathBuf::from_value)]
    pub import: Option<PathBuf>,
    /// With --import, how values are compressed: off, lz4, zlib, or zlib=1 to zlib=9 [default: lz4]
    #[arg(long, value_name = "HOW", requires = "import")]
    pub compress: Option<CompressionSetting>,
    /// Log more: -v, -vv; $RUST_LOG overrides
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        SimpleArgs::command().debug_assert();
        let args = SimpleArgs::try_parse_from(["neosimple", "--bind", "::1", "--port", "5"]);
        assert_eq!(args.unwrap().bind.as_deref(), Some("::1"));
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for (words, text) in [
            ("--storages 0", "0 is not in 1..=1000"),
            ("--partitions 70000", "70000 is not in 1..=65535"),
            ("--bind a:1", "\"a:1\" is not a host"),
            ("--name a\u{a0}b", "no spaces"),
            ("--compress lz4", "--import <FILE.fs>"),
            (
                "--import a.fs --compress gzip",
                "\"gzip\" is no compression",
            ),
            ("--frobnicate", "unexpected argument '--frobnicate'"),
        ] {
            let words = words.split(' ');
            let error = SimpleArgs::try_parse_from(["neosimple"].into_iter().chain(words));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
