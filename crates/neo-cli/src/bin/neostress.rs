//! Breaks a cluster of real processes while clients commit to it.

use std::process::ExitCode;

fn main() -> ExitCode {
    neo_cli::Programs::new().neostress()
}
