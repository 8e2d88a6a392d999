//! How programs end: what is said on stderr, and with which status.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::config::ConfigError;

/// A command line or file that makes no sense; as clap has it.
pub const USAGE: u8 = 2;

/// Says a line on stderr, in one piece: what other threads and processes say there does not come
/// between.
pub fn say(line: impl Display) {
    // Nobody is left to tell when that cannot be said.
    let _ = say_to(&mut std::io::stderr(), line);
}

fn say_to(stderr: &mut impl Write, line: impl Display) -> std::io::Result<()> {
    stderr.write_all(format!("{line}\n").as_bytes())
}

/// One line on stderr with an error and what caused it; the status of the program.
#[must_use]
pub fn fail(program: &str, error: &anyhow::Error) -> ExitCode {
    say(format_args!("{program}: {error:#}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_at_once() {
        struct Pieces(Vec<Vec<u8>>);
        impl Write for Pieces {
            fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
                self.0.push(piece.to_vec());
                Ok(piece.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut stderr = Pieces(Vec::new());
        say_to(&mut stderr, format_args!("neosimple: {} of {}", 1, "two")).unwrap();
        assert_eq!(stderr.0, [b"neosimple: 1 of two\n"]);
    }
}
