//! The Python package: built and installed as a user does, its own tests, and ZODB's.

use anyhow::Result;

use crate::shell::{Workspace, execute};
use crate::tools;

/// Installs the package into the environment of the tests, and runs them.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    tools::python(workspace)?;
    build(workspace, &["install", "--force-reinstall"])?;
    let python = tools::text(&workspace.python())?;
    workspace.run(&["cargo", "build", "--locked", "--workspace", "--bins"])?;
    let mut tests = workspace.command(&[&python, "-m", "pytest", "--quiet", "neo-python/tests"]);
    execute(tests.env("NEO_BIN", workspace.target.join("debug")))?;
    let mut conformance = workspace.command(&[&python, "neo-python/conformance/run.py", "neo"]);
    execute(
        conformance
            .args(["--timeout", "120", "--log"])
            .arg(workspace.own().join("conformance.log"))
            .env("NEO_BIN", workspace.target.join("debug")),
    )
}

/// What pip does with the package, built as a user builds it, but unoptimised, and with the tools
/// that are there.
pub(crate) fn build(workspace: &Workspace, what: &[&str]) -> Result<()> {
    let python = tools::text(&workspace.python())?;
    let options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        "--config-settings=build-args=--profile=dev --locked",
        "./neo-python",
    ];
    workspace.run(&[&[&python, "-m", "pip"], what, &options].concat())
}
