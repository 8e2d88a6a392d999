//! `cargo xtask sim`: many seeds of the simulator.

use anyhow::Result;

use crate::shell::Workspace;

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
    let arguments = arguments.iter().map(String::as_str);
    workspace.run(&runner.into_iter().chain(arguments).collect::<Vec<_>>())
}
