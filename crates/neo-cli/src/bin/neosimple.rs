//! A whole cluster in one command.

use std::process::ExitCode;

fn main() -> ExitCode {
    neo_cli::Programs::new().neosimple()
}
