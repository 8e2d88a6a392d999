//! Copies between a FileStorage and a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    neo_cli::Programs::new().neomigrate()
}
