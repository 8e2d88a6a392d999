//! `cargo xtask zope`: a real Zope on a cluster of processes, in a real browser.

use std::fs;

use anyhow::{Context as _, Result};

use crate::shell::{Workspace, execute};
use crate::test::python;
use crate::tools;

const REQUIREMENTS: &str = include_str!("../requirements-zope.txt");
const BROWSER: &[&str] = &["chromium", "chromium-driver"];

/// Installs what is missing, builds the package and the programs, and runs `neo-python/zope`.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    tools::python(workspace)?;
    let installed = ["chromium", "chromedriver"]
        .iter()
        .all(|program| workspace.succeeds(&[program, "--version"]));
    if !installed {
        tools::apt_install(workspace, BROWSER)?;
    }
    let venv = workspace.own().join("zope-venv");
    tools::environment(workspace, &venv, REQUIREMENTS, |zope| {
        tools::install(workspace, zope, "requirements-zope.txt", &[])
    })?;
    // The environment of the tests builds it, since that has what it takes.
    let wheels = workspace.own().join("wheels");
    remove(&wheels)?;
    let wheels = tools::text(&wheels)?;
    python::build(workspace, &["wheel", "--wheel-dir", &wheels])?;
    let zope = tools::text(&venv.join("bin/python"))?;
    workspace.run(&[
        &zope,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
        "--force-reinstall",
        "--find-links",
        &wheels,
        "neozodb",
    ])?;
    workspace.run(&["cargo", "build", "--locked", "--workspace", "--bins"])?;
    let directory = workspace.own().join("zope");
    remove(&directory)?;
    let mut command = workspace.command(&[&zope, "neo-python/zope/run.py"]);
    execute(
        command
            .arg(&directory)
            .env("NEO_BIN", workspace.target.join("debug")),
    )
}

fn remove(directory: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("cannot remove {}", directory.display())),
    }
}
