//! The Python package: built and installed as a user does, its own tests, and ZODB's.

use anyhow::Result;

use crate::shell::{Workspace, execute};
use crate::tools;

/// Installs the package into the environment of the tests, and runs them.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    tools::python(workspace)?;
    build(workspace, &["install", "--force-reinstall"])?;
    check_types(workspace)?;
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

/// The package's type hints, and those of the extension module, which are in a file of their own:
/// compared with what is installed.
fn check_types(workspace: &Workspace) -> Result<()> {
    let python = tools::text(&workspace.python())?;
    let cache = tools::text(&workspace.own().join("mypy"))?;
    let of_package = [
        &python,
        "-m",
        "mypy",
        "--config-file=neo-python/pyproject.toml",
        "--cache-dir",
        &cache,
        "neo-python/python",
    ];
    workspace.run(&of_package)?;
    workspace.run(&[
        &python,
        "-m",
        "mypy.stubtest",
        "neozodb._neozodb",
        "--mypy-config-file=neo-python/pyproject.toml",
        "--allowlist=neo-python/stubtest-allowlist.txt",
    ])
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
