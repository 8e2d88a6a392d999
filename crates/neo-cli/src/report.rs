//! How programs end: what is said on stderr, and with which status.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;

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

/// Prints what was asked for. A reader that has had enough (`| head`) is no failure.
///
/// # Errors
/// When it cannot be printed.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot print the answer")
        }
        _ => Ok(()),
    }
}

/// What clap says: errors on stderr, help on stdout; the status of the program.
#[must_use]
pub fn clap(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when that cannot be printed.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}
