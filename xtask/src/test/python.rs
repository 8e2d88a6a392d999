//! The Python package: built and installed as a user does, its own tests, and ZODB's.

use anyhow::Result;

use crate::shell::{Workspace, execute};
use crate::tools;

/// Installs the package into the environment of the tests, and runs them.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    tools::python(workspace)?;
    let python = workspace.python().to_string_lossy().into_owned();
    // As `pip install ./neo-python` does, but unoptimised, and with the tools that are there.
    workspace.run(&[
        &python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        "--force-reinstall",
        "--config-settings=build-args=--profile=dev --locked",
        "./neo-python",
    ])?;
    workspace.run(&[&python, "-m", "pytest", "--quiet", "neo-python/tests"])?;
    workspace.run(&["cargo", "build", "--locked", "--workspace", "--bins"])?;
    let mut conformance = workspace.command(&[&python, "neo-python/conformance/run.py", "neo"]);
    execute(
        conformance
            .args(["--timeout", "120", "--log"])
            .arg(workspace.own().join("conformance.log"))
            .env("NEO_BIN", workspace.target.join("debug")),
    )
}
