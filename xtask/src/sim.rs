//! `cargo xtask sim`: many seeds of the simulator; and some new ones for every run of the tests.

use anyhow::Result;

use crate::shell::{Workspace, execute};

/// New seeds of a run of the tests: under half a minute on two processors.
const NEW_SEEDS: u32 = 96;

/// The runner is an example of neo-testkit, so that xtask builds without the nodes.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let runner = [
        "cargo",
        "run",
        "--quiet",
        "--release",
        "--package=neo-testkit",
        "--example=sim",
        "--",
    ];
    // As it is given where cargo would take what follows for its own.
    let arguments = arguments
        .strip_prefix(&["--".to_owned()])
        .unwrap_or(arguments);
    let arguments = arguments.iter().map(String::as_str);
    workspace.run(&runner.into_iter().chain(arguments).collect::<Vec<_>>())
}

/// New seeds, or those of `NEO_SEEDS`; which, is told first, and the totals last.
pub(crate) fn new_seeds(workspace: &Workspace) -> Result<()> {
    // Not `cargo run --package`: it would build the dependencies with other features.
    workspace.run(&["cargo", "build", "--locked", "--workspace", "--examples"])?;
    let program = workspace.target.join("debug/examples/sim");
    let new = NEW_SEEDS.to_string();
    execute(&mut workspace.command(&[&program.to_string_lossy(), "--new", &new, "--quiet"]))
}
