//! Options that NEO has and this version does not: they say so, instead of being unknown.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};

use crate::config::{KEYS, Key, Support};

/// An option that is not there.
#[derive(Debug, Clone)]
pub struct Lacking {
    /// Its long name.
    pub long: String,
    /// Its short name.
    pub short: Option<char>,
    /// What to say.
    pub why: &'static str,
}

/// Those of the programs that are no nodes.
pub fn of_tools() -> impl Iterator<Item = Lacking> {
    let tools = ["logfile", "ca", "cert", "key"];
    // A node has them as well.
    KEYS.iter()
        .filter(move |key| tools.contains(&key.name))
        .filter_map(Lacking::of)
}

impl Lacking {
    /// A node's option, unless it is there.
    #[must_use]
    pub fn of(key: &Key) -> Option<Self> {
        match key.support {
            Support::Yes => None,
            Support::No(why) => Some(Self {
                long: key.name.replace('_', "-"),
                short: key.short,
                why,
            }),
        }
    }
}

/// A command that takes these options too, without showing them.
#[must_use]
pub fn with(command: Command, lacking: impl IntoIterator<Item = Lacking>) -> Command {
    lacking.into_iter().fold(command, |command, option| {
        let Lacking { long, short, .. } = option;
        let arg = Arg::new(long.clone()).long(long).num_args(0..=1).hide(true);
        command.arg(match short {
            Some(short) => arg.short(short),
            None => arg,
        })
    })
}

/// Parses a command line.
///
/// # Errors
/// As clap has them; one of these options is one.
pub fn parse(
    command: &mut Command,
    lacking: impl IntoIterator<Item = Lacking>,
    words: impl IntoIterator<Item = OsString>,
) -> Result<ArgMatches, clap::Error> {
    let matches = command.try_get_matches_from_mut(words)?;
    for Lacking { long, why, .. } in lacking {
        if matches.contains_id(&long) {
            return Err(command.error(ErrorKind::InvalidValue, format!("--{long}: {why}")));
        }
    }
    Ok(matches)
}
