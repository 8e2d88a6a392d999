//! Runs the examples, which assert what they show, and the guide to parts of one's own.

use std::fs;

use anyhow::{Context as _, Result};

use super::guide;
use crate::shell::{Workspace, execute};

/// Every file of `examples/examples` is one.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let directory = workspace.root.join("examples/examples");
    let mut names = Vec::new();
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    // Not `cargo run --package examples`: it would build the dependencies with other features.
    workspace.run(&["cargo", "build", "--locked", "--workspace", "--examples"])?;
    for name in names {
        let program = workspace.target.join("debug/examples").join(name);
        execute(&mut workspace.command(&[&program.to_string_lossy()]))?;
    }
    guide::run(workspace)
}
