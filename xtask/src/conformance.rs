//! `cargo xtask conformance BACKEND`: one backend's conformance suite.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::shell::Workspace;
use crate::tools;

/// Each backend's suite is the program `tests/backend_NAME.rs` of neo-testkit.
pub(crate) fn run(workspace: &Workspace, backend: &str) -> Result<()> {
    let backends = backends(workspace)?;
    if !backends.iter().any(|known| known == backend) {
        bail!(
            "no suite for {backend:?}; there are: {}",
            backends.join(", ")
        );
    }
    tools::nextest(workspace)?;
    if backend == "mysql" {
        tools::mariadb(workspace)?;
    }
    let test = format!("backend_{backend}");
    workspace.run(&[
        "cargo",
        "nextest",
        "run",
        "--package=neo-testkit",
        "--test",
        &test,
    ])
}

fn backends(workspace: &Workspace) -> Result<Vec<String>> {
    let directory = workspace.root.join("crates/neo-testkit/tests");
    let mut backends = Vec::new();
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        // Other tests of backends are named alike.
        if let Some(backend) = name.strip_prefix("backend_")
            && fs::read_to_string(&path)?.contains("backend_conformance!")
        {
            backends.push(backend.to_owned());
        }
    }
    backends.sort();
    Ok(backends)
}
