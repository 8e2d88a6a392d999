//! Control of a neo cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    neo_cli::Programs::new().neoctl()
}
