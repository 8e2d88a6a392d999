//! How programs end: what is said on stderr, and with which status.

use std::process::ExitCode;

use crate::config::ConfigError;

/// A command line or file that makes no sense; as clap has it.
pub const USAGE: u8 = 2;

/// One line on stderr with an error and what caused it; the status of the program.
#[must_use]
pub fn fail(program: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{program}: {error:#}");
    if error.is::<ConfigError>() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::FAILURE
    }
}

/// What clap says: errors on stderr, help on stdout; the status of the program.
#[must_use]
pub fn clap(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when that cannot be printed.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}
