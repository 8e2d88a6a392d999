//! The tasks of this repository: `cargo xtask help`.

mod api;
mod conformance;
mod fix;
mod fuzz;
mod shell;
mod sim;
mod test;
mod tidy;
mod tools;
mod zope;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use shell::Workspace;

const HELP: &str = "\
cargo xtask COMMAND

  test [STEP...]        Everything that CI checks; with STEPs, only these, in this order.
                        Installs what is missing into target/xtask (strace and python3-venv by
                        apt-get), writes nowhere else, stops at the first step that fails.
";

const HELP_REST: &str = "
  fix                   Format, and apply what clippy can mend by itself.
  api                   Writes the listings of the public API, docs/api, anew.
  tidy                  The rules that no compiler checks: long files, words that a core must not
                        use, leftovers, manifests, links and commands in the documents.
  map [CRATE...]        Each source file of the crates with its line of purpose.
  conformance [NAME]    The conformance suites of backends, engines, transports, elections and
                        examples, and a table of them; or those of one: memory, sqlite, redb, sled,
                        mysql, innodb, rocksdb, example, ...
  fuzz [SECONDS]        Each fuzz target for so long (60), with cargo-fuzz if it is installed, else
                        with the generator of the tests.
  sim [--seeds A..B | --new N] [--threads N] [--trace] [--quiet] [--mutate RULE]
                        Seeds of the simulator, in release; the last line has the totals.
  zope                  A real Zope on a cluster of processes, in a real browser (Chromium by
                        apt-get); pictures of its pages are left in target/xtask/zope.
  help                  This text.

In tests, NEO_PYTHON names a Python that has ZODB.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let workspace = Workspace::find()?;
    let (command, rest) = arguments
        .split_first()
        .map_or(("help", &[][..]), |(c, r)| (c, r));
    match (command, rest) {
        ("test", steps) => test::run(&workspace, steps),
        ("fix", []) => fix::run(&workspace),
        ("api", []) => api::write(&workspace),
        ("tidy", []) => tidy::run(&workspace),
        ("map", crates) => tidy::map(&workspace, crates),
        ("conformance", []) => conformance::run(&workspace, None),
        ("conformance", [name]) => conformance::run(&workspace, Some(name)),
        ("fuzz", []) => fuzz::run(&workspace, 60),
        ("fuzz", [seconds]) => {
            let seconds = seconds
                .parse()
                .with_context(|| format!("not seconds: {seconds:?}"))?;
            fuzz::run(&workspace, seconds)
        }
        ("sim", arguments) => sim::run(&workspace, arguments),
        ("zope", []) => zope::run(&workspace),
        ("help" | "--help" | "-h", _) => {
            print!("{HELP}{}{HELP_REST}", test::help());
            Ok(())
        }
        _ => anyhow::bail!(
            "no such command: {}; see `cargo xtask help`",
            arguments.join(" ")
        ),
    }
}
