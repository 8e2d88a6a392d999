//! The command line of `neomigrate`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use neo_client::CompressionSetting;

use crate::config::{FromValue, MasterList, expand_home};
use crate::lacking;

/// Copies a ZODB FileStorage into a neo cluster, or a neo cluster into a FileStorage.
///
/// The side that is the path of a file (one that exists, or ends in .fs) is the FileStorage; the
/// other one is the masters of the cluster, separated by spaces. A copy that was interrupted goes
/// on.
#[derive(Debug, Clone, Parser)]
#[command(name = "neomigrate", version)]
pub struct MigrateArgs {
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME")]
    pub cluster: String,
    /// How values are compressed in the cluster: off, lz4, zlib, or zlib=1 to zlib=9
    #[arg(long, value_name = "HOW", default_value = "lz4")]
    pub compress: CompressionSetting,
    /// Do not show progress
    #[arg(short, long)]
    pub quiet: bool,
    /// FILE.fs, or addresses of masters
    pub source: String,
    /// FILE.fs, or addresses of masters
    pub destination: String,
    /// Log more: -v, -vv; $RUST_LOG overrides
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What to copy where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direction {
    /// From a FileStorage into the cluster of these masters.
    Import(PathBuf, MasterList),
    /// From the cluster of these masters into a FileStorage.
    Export(MasterList, PathBuf),
}

impl Direction {
    /// The masters of the cluster.
    #[must_use]
    pub fn masters(&self) -> MasterList {
        match self {
            Self::Import(_, masters) | Self::Export(masters, _) => masters.clone(),
        }
    }
}

/// A side, as it was given.
enum Side {
    File(PathBuf),
    Masters(MasterList),
}

impl MigrateArgs {
    /// Parses a command line.
    ///
    /// # Errors
    /// As clap has them: `--help` is among them, and what this version lacks.
    pub fn from_words(
        words: impl IntoIterator<Item = OsString>,
    ) -> Result<(Self, Direction), clap::Error> {
        let mut command = lacking::with(Self::command(), lacking::of_tools());
        let matches = lacking::parse(&mut command, lacking::of_tools(), words)?;
        let args = Self::from_arg_matches(&matches)?;
        let direction = args
            .direction()
            .map_err(|problem| command.error(ErrorKind::ValueValidation, problem))?;
        Ok((args, direction))
    }

    fn direction(&self) -> Result<Direction, String> {
        let (source, destination) = (side(&self.source)?, side(&self.destination)?);
        match (source, destination) {
            (Side::File(file), Side::Masters(masters)) => Ok(Direction::Import(file, masters)),
            (Side::Masters(masters), Side::File(file)) => Ok(Direction::Export(masters, file)),
            (Side::File(_), Side::File(_)) => Err(format!(
                "{} and {} are both files: one side must be the masters of a cluster",
                self.source, self.destination
            )),
            (Side::Masters(_), Side::Masters(_)) => Err(format!(
                "neither {} nor {} is a file: one side must be the path of a FileStorage, which \
                 ends in .fs unless it exists",
                self.source, self.destination
            )),
        }
    }
}

fn side(text: &str) -> Result<Side, String> {
    let path = expand_home(text.as_ref());
    let is_fs = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("fs"));
    if path.is_file() || is_fs {
        return Ok(Side::File(path));
    }
    MasterList::from_value(text)
        .map(Side::Masters)
        .map_err(|error| {
            format!(
                "{text:?} is neither a FileStorage that exists or ends in .fs, nor masters: {error}"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: &str, destination: &str) -> Result<Direction, String> {
        let words = ["neomigrate", "-c", "test", source, destination];
        MigrateArgs::from_words(words.map(OsString::from))
            .map(|(_, direction)| direction)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_side_that_is_a_file_is_the_file_storage() {
        MigrateArgs::command().debug_assert();
        let words = ["neomigrate", "-c", "t", "--compress=zlib=9", "a.fs", "b:1"];
        let (args, _) = MigrateArgs::from_words(words.map(OsString::from)).unwrap();
        assert_eq!(args.compress, CompressionSetting::Zlib { level: 9 });
        let file = tempfile::NamedTempFile::new().unwrap();
        let exists = file.path().to_str().unwrap();
        let masters = MasterList::from_value("a:1 b:10000").unwrap();
        assert_eq!(
            parse(exists, "a:1 b"),
            Ok(Direction::Import(file.path().to_owned(), masters.clone()))
        );
        assert_eq!(
            parse("a:1 b", "/tmp/new/Data.fs"),
            Ok(Direction::Export(masters, "/tmp/new/Data.fs".into()))
        );
    }

    #[test]
    fn two_of_a_kind_are_a_mistake() {
        for (source, destination, text) in [
            ("a.fs", "b.fs", "a.fs and b.fs are both files"),
            ("a:1", "b:1", "neither a:1 nor b:1 is a file"),
            ("/no/file", "a:1", "\"/no/file\" is neither a FileStorage"),
        ] {
            let error = parse(source, destination).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
