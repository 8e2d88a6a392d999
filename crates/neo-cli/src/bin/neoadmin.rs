//! An admin node.

use std::process::ExitCode;

fn main() -> ExitCode {
    neo_cli::Programs::new().neoadmin()
}
