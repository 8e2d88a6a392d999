//! `cargo xtask fix`: what the tools can mend by themselves.

use anyhow::Result;

use crate::shell::Workspace;

/// Lints first: what clippy writes is formatted afterwards.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    workspace.run(&[
        "cargo",
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ])?;
    workspace.run(&["cargo", "fmt", "--all"])
}
